//! Tells when the host's addresses or routes change: a connection that was open before may lead nowhere
//! then, and one that could not be made may be possible.

use std::future::pending;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::libc::{RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE};
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket,
};
use tokio::net::UnixDatagram;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::debug;

/// Changes come in groups; what follows a first one within this time is one with it.
const SETTLING: Duration = Duration::from_secs(1);
/// What the kernel tells is read and not looked at.
const BUFFER: usize = 8192;
/// Messages that are read at once; more of them are a change of their own.
const MOST: usize = 1000;

/// Changes of the network.
#[derive(Debug, Default)]
pub struct NetworkChanges(Source);

#[derive(Debug, Default)]
enum Source {
    /// Nobody tells.
    #[default]
    Silent,
    /// A netlink socket; what a datagram socket does is all that is needed of it.
    Kernel(UnixDatagram),
    Told(mpsc::Receiver<()>),
}

impl NetworkChanges {
    /// Those that the kernel tells of. Where it does not, there are none.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn watch() -> Self {
        match listen() {
            Ok(socket) => Self(Source::Kernel(socket)),
            Err(error) => {
                debug!(%error, "changes of the network are not seen");
                Self::default()
            }
        }
    }

    /// Those that somebody tells of.
    pub fn told(changes: mpsc::Receiver<()>) -> Self {
        Self(Source::Told(changes))
    }

    /// Waits for a change, and until the network has settled. Can be cancelled; a change that was seen
    /// and not told of is told later.
    pub async fn next(&mut self) {
        match &mut self.0 {
            Source::Silent => {}
            Source::Kernel(socket) => {
                if socket.readable().await.is_ok() {
                    sleep(SETTLING).await;
                    let mut buffer = [0; BUFFER];
                    for _ in 0..MOST {
                        // Errors other than that nothing is left tell of changes that did not fit.
                        if let Err(error) = socket.try_recv(&mut buffer)
                            && error.kind() == io::ErrorKind::WouldBlock
                        {
                            break;
                        }
                    }
                    return;
                }
                // It cannot break, but it must not make the caller spin either.
                self.0 = Source::Silent;
            }
            Source::Told(changes) => {
                if changes.recv().await.is_some() {
                    return;
                }
            }
        }
        pending::<()>().await;
    }
}

fn listen() -> io::Result<UnixDatagram> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        flags,
        SockProtocol::NetlinkRoute,
    )?;
    let groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE;
    let groups = u32::try_from(groups).map_err(io::Error::other)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    UnixDatagram::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn quiet_network_tells_nothing() {
        let mut changes = NetworkChanges::watch();

        assert!(matches!(changes.0, Source::Kernel(_)));
        let told = timeout(Duration::from_millis(50), changes.next()).await;
        assert!(told.is_err());
    }

    #[tokio::test]
    async fn nobody_tells_of_changes_where_there_is_no_source() {
        let (sender, receiver) = mpsc::channel(1);
        sender.send(()).await.unwrap();
        drop(sender);
        let mut told = NetworkChanges::told(receiver);

        told.next().await;
        for mut silent in [told, NetworkChanges::default()] {
            let told = timeout(Duration::from_millis(10), silent.next()).await;
            assert!(told.is_err());
        }
    }
}
