//! Where local programs connect: a port of the loopback addresses, or a Unix socket.

use std::fs::{self, Permissions};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::time::sleep;
use tracing::warn;

use super::PortError;
use super::properties::Local;
use crate::transport::forward::Socket;

/// Wait after the system had nothing left to accept a connection with.
const EXHAUSTED_WAIT: Duration = Duration::from_millis(100);
/// How often accepting may fail in a row before the listener counts as broken.
const FAILURES: usize = 100;

/// Where local programs connect. Dropping it removes its socket file.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp {
        v4: TcpListener,
        /// The same port; absent where there is no IPv6, or the port is taken there.
        v6: Option<TcpListener>,
    },
    Unix {
        listener: UnixListener,
        _file: SocketFile,
    },
}

/// A socket file that goes with its listener.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        let _ = fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Begins to listen. A socket file that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// [`PortError::Listen`], [`PortError::InTheWay`].
    pub(super) async fn bind(local: &Local) -> Result<Self, PortError> {
        match local {
            Local::Tcp(port) => bind_tcp(*port).await,
            Local::Unix(path) => bind_unix(path),
        }
    }

    /// The port.
    pub(super) fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp { v4, .. } => v4.local_addr().ok().map(|address| address.port()),
            Self::Unix { .. } => None,
        }
    }

    /// Waits for the next connection. Cancel-safe.
    ///
    /// # Errors
    /// [`PortError::Accept`] if it fails again and again.
    pub(super) async fn accept(&self) -> Result<Socket, PortError> {
        let mut failures = 0;
        loop {
            let error = match self.accept_once().await {
                Ok(socket) => return Ok(socket),
                Err(error) => error,
            };
            failures += 1;
            if failures == FAILURES {
                return Err(PortError::Accept(error));
            }
            // A connection that was gone again is no trouble; no descriptors left may pass.
            if error.kind() != io::ErrorKind::ConnectionAborted {
                warn!(%error, "cannot accept a connection");
                sleep(EXHAUSTED_WAIT).await;
            }
        }
    }

    async fn accept_once(&self) -> io::Result<Socket> {
        let stream = match self {
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                return Ok(Socket::Unix(stream));
            }
            Self::Tcp { v4, v6: None } => v4.accept().await?.0,
            Self::Tcp { v4, v6: Some(v6) } => tokio::select! {
                accepted = v4.accept() => accepted?.0,
                accepted = v6.accept() => accepted?.0,
            },
        };
        // What the program wrote shall not wait for more.
        stream.set_nodelay(true)?;
        Ok(Socket::Tcp(stream))
    }
}

async fn bind_tcp(port: u16) -> Result<Listener, PortError> {
    let listen = |source| PortError::Listen {
        at: format!("localhost:{port}"),
        source,
    };
    let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .map_err(listen)?;
    let port = v4.local_addr().map_err(listen)?.port();
    // `localhost` may mean either; one of them has to do.
    let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await.ok();
    Ok(Listener::Tcp { v4, v6 })
}

fn bind_unix(path: &Path) -> Result<Listener, PortError> {
    let listen = |source| PortError::Listen {
        at: path.display().to_string(),
        source,
    };
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(PortError::InTheWay(path.to_owned()));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(listen(io::ErrorKind::AddrInUse.into()));
        }
        fs::remove_file(path).map_err(listen)?;
    }
    let listener = UnixListener::bind(path).map_err(listen)?;
    let file = SocketFile(path.to_owned());
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(listen)?;
    Ok(Listener::Unix {
        listener,
        _file: file,
    })
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpStream, UnixStream};

    use super::*;

    #[tokio::test]
    async fn any_free_port_is_taken_on_the_loopback_addresses_alone() {
        let listener = Listener::bind(&Local::Tcp(0)).await.unwrap();
        let port = listener.port().unwrap();

        let (client, accepted) = tokio::join!(
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)),
            listener.accept()
        );

        assert!(client.unwrap().local_addr().unwrap().ip().is_loopback());
        assert!(matches!(accepted.unwrap(), Socket::Tcp(_)));
    }

    #[tokio::test]
    async fn port_in_use_is_named() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = taken.local_addr().unwrap().port();

        let error = Listener::bind(&Local::Tcp(port)).await.unwrap_err();

        assert_eq!(
            error.to_string(),
            format!("cannot listen on localhost:{port}")
        );
    }

    #[tokio::test]
    async fn socket_file_is_the_owners_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = Listener::bind(&Local::Unix(path.clone())).await.unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();

        let (client, accepted) = tokio::join!(UnixStream::connect(&path), listener.accept());

        assert_eq!(mode & 0o777, 0o600);
        assert!(client.is_ok() && accepted.is_ok());
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn deserted_socket_file_is_replaced_and_anything_else_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let deserted = folder.path().join("deserted");
        drop(std::os::unix::net::UnixListener::bind(&deserted).unwrap());
        let lived_in = folder.path().join("lived-in");
        let _listener = std::os::unix::net::UnixListener::bind(&lived_in).unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "kept").unwrap();

        assert!(Listener::bind(&Local::Unix(deserted)).await.is_ok());
        let in_use = Listener::bind(&Local::Unix(lived_in)).await.unwrap_err();
        let in_the_way = Listener::bind(&Local::Unix(file.clone()))
            .await
            .unwrap_err();

        assert!(matches!(in_use, PortError::Listen { .. }), "{in_use}");
        assert!(matches!(in_the_way, PortError::InTheWay(_)), "{in_the_way}");
        assert_eq!(fs::read_to_string(file).unwrap(), "kept");
    }
}
