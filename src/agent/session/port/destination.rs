//! Where the connections of a port session go: resolved once, so that a name which changes its mind
//! later leads nowhere else.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::deny_list::DenyList;
use super::network::Networks;
use super::properties::Target;
use crate::transport::forward::Socket;

/// Longest wait for the resolver: two servers asked twice, five seconds each.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest wait for one address. A host that is there answers within a round trip; this rides out
/// two lost packets (1 s and 2 s until they are repeated).
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for all of them.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause before a Unix socket whose queue is full is tried again; the kernel does not tell.
const QUEUE_RETRY: Duration = Duration::from_millis(10);

/// Where connections go.
#[derive(Debug)]
pub(super) enum Destination {
    /// These addresses, in turn.
    Tcp {
        addresses: Vec<SocketAddr>,
        /// The one that answered last. It is tried first, which spares a host that listens in one
        /// family alone a refused connection before each good one.
        first: AtomicUsize,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// A connection that was made.
#[derive(Debug)]
pub(super) struct Dialled {
    pub(super) socket: Socket,
    /// The address or path that it leads to.
    pub(super) to: String,
}

/// Why there is no destination.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResolveError {
    /// The resolver does not know the name.
    #[error("lookup {host}")]
    Lookup {
        host: String,
        #[source]
        source: io::Error,
    },
    /// The resolver does not answer.
    #[error("lookup {host}: no answer within {} s", RESOLVE_TIMEOUT.as_secs())]
    NoAnswer { host: String },
    /// The name stands for an address of the deny list. The words are the reference's.
    #[error("Forwarding to IP address {host} is forbidden.")]
    Forbidden { host: String },
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to {to}")]
pub(super) struct DialError {
    to: String,
    source: io::Error,
}

impl Destination {
    /// Resolves a target that leads to no address of the list, nor to one of the networks' own.
    pub(super) async fn resolve(
        target: &Target,
        denied: &DenyList,
        networks: &Networks,
    ) -> Result<Self, ResolveError> {
        let addresses = match target {
            Target::UnixSocket(path) => return Ok(Self::Unix(path.clone())),
            Target::Local { port } => this_host(*port).await,
            Target::Host { host, port } => {
                let denied = denied.with(&networks.known().await);
                lookup(host, *port, &denied).await?
            }
        };
        Ok(Self::Tcp {
            addresses,
            first: AtomicUsize::new(0),
        })
    }

    /// Connects; the error is that of the first address.
    pub(super) async fn dial(&self) -> Result<Dialled, DialError> {
        match self {
            Self::Tcp { addresses, first } => dial_first(addresses, first).await,
            Self::Unix(path) => {
                let to = path.display().to_string();
                match dial_unix(path).await {
                    Ok(socket) => Ok(Dialled { socket, to }),
                    Err(source) => Err(DialError { to, source }),
                }
            }
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { addresses, .. } => {
                let addresses = addresses.iter().map(ToString::to_string);
                f.write_str(&addresses.collect::<Vec<_>>().join(", "))
            }
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Both loopback addresses, in the resolver's order.
async fn this_host(port: u16) -> Vec<SocketAddr> {
    let looked_up = timeout(RESOLVE_TIMEOUT, lookup_host(("localhost", port))).await;
    let mut addresses: Vec<SocketAddr> = match looked_up {
        Ok(Ok(addresses)) => addresses.collect(),
        // The name means the same without a resolver.
        Ok(Err(_)) | Err(_) => Vec::new(),
    };
    let families = [
        IpAddr::V6(Ipv6Addr::LOCALHOST),
        IpAddr::V4(Ipv4Addr::LOCALHOST),
    ];
    for family in families {
        let address = SocketAddr::new(family, port);
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// The addresses of a host, none of them denied. The resolver of the operating system reads every
/// form that it would connect to, so the comparison is with what it makes of it.
async fn lookup(host: &str, port: u16, denied: &DenyList) -> Result<Vec<SocketAddr>, ResolveError> {
    let looked_up = timeout(RESOLVE_TIMEOUT, lookup_host((host, port))).await;
    let host = host.to_owned();
    let addresses: Vec<SocketAddr> = match looked_up {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(source)) => return Err(ResolveError::Lookup { host, source }),
        Err(_elapsed) => return Err(ResolveError::NoAnswer { host }),
    };
    if addresses.iter().any(|address| denied.denies(address.ip())) {
        return Err(ResolveError::Forbidden { host });
    }
    if addresses.is_empty() {
        let source = io::Error::new(io::ErrorKind::NotFound, "missing address");
        return Err(ResolveError::Lookup { host, source });
    }
    Ok(addresses)
}

async fn dial_first(addresses: &[SocketAddr], first: &AtomicUsize) -> Result<Dialled, DialError> {
    let deadline = Instant::now() + DIAL_TIMEOUT;
    let start = first.load(Ordering::Relaxed);
    let mut failure = None;
    for index in (start..addresses.len()).chain(0..start) {
        let address = addresses[index];
        match dial_tcp(address, deadline).await {
            Ok(stream) => {
                first.store(index, Ordering::Relaxed);
                return Ok(Dialled {
                    socket: Socket::Tcp(stream),
                    to: address.to_string(),
                });
            }
            Err(source) => {
                let to = address.to_string();
                failure.get_or_insert(DialError { to, source });
            }
        }
    }
    Err(failure.expect("a resolved destination has an address"))
}

async fn dial_tcp(address: SocketAddr, deadline: Instant) -> io::Result<TcpStream> {
    let give_up = deadline.min(Instant::now() + ADDRESS_TIMEOUT);
    let stream = timeout_at(give_up, TcpStream::connect(address))
        .await
        .unwrap_or_else(|_elapsed| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer")))?;
    // Bytes were gathered by the sender already; waiting for more would only add to the delay.
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn dial_unix(path: &Path) -> io::Result<Socket> {
    let deadline = Instant::now() + ADDRESS_TIMEOUT;
    loop {
        match UnixStream::connect(path).await {
            Ok(stream) => return Ok(Socket::Unix(stream)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if Instant::now() >= deadline {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "its queue is full"));
                }
                sleep(QUEUE_RETRY).await;
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
