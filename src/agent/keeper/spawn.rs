//! Starts a keeper, and finds those that run.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::runtime::atomic_file;

/// Folder of the sockets in the runtime folder.
const FOLDER: &str = "keepers";
/// How their names end.
const SUFFIX: &str = "sock";
/// Variables by which the service manager and the agent know each other; no keeper is the service.
const NOT_INHERITED: [&str; 5] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_FDS",
    "LISTEN_PID",
];

/// How a keeper is started.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// The sockets of keepers.
#[derive(Debug, Clone)]
pub(super) struct Sockets {
    folder: PathBuf,
}

impl Sockets {
    /// Those in the runtime folder `runtime`.
    pub(super) fn new(runtime: &Path) -> Self {
        Self {
            folder: runtime.join(FOLDER),
        }
    }

    /// Starts a keeper and connects to it. It gets the socket as its standard input: nothing has to be
    /// waited for until it listens.
    pub(super) async fn spawn(&self, program: &Program) -> io::Result<(Child, UnixStream)> {
        atomic_file::create_private_dir(&self.folder)?;
        let path = self.folder.join(format!("{}.{SUFFIX}", Uuid::new_v4()));
        let listener = std::os::unix::net::UnixListener::bind(&path)?;
        let spawned = async {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
            let mut command = Command::new(&program.path);
            command
                .args(&program.arguments)
                .stdin(Stdio::from(OwnedFd::from(listener)))
                // What ends the agent in a terminal does not end its sessions.
                .process_group(0);
            for name in NOT_INHERITED {
                command.env_remove(name);
            }
            let child = command.spawn()?;
            Ok((child, UnixStream::connect(&path).await?))
        };
        let spawned = spawned.await;
        if spawned.is_err() {
            let _ = std::fs::remove_file(&path);
        }
        spawned
    }

    /// Connects to the keepers that run; sockets of others are removed.
    pub(super) async fn connect(&self) -> Vec<UnixStream> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                let folder = self.folder.display();
                warn!(%folder, %error, "cannot look for sessions of an earlier run");
                return Vec::new();
            }
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let paths = paths.filter(|path| path.extension().is_some_and(|end| end == SUFFIX));
        let mut found = Vec::new();
        for path in paths {
            match UnixStream::connect(&path).await {
                Ok(stream) => {
                    info!(path = %path.display(), "there are sessions of an earlier run");
                    found.push(stream);
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    debug!(path = %path.display(), "nobody listens there any more");
                    let _ = std::fs::remove_file(&path);
                }
                Err(error) => warn!(path = %path.display(), %error, "cannot reach a keeper"),
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sockets_that_nobody_listens_on_go() {
        let folder = tempfile::tempdir().unwrap();
        let sockets = Sockets::new(folder.path());
        std::fs::create_dir(&sockets.folder).unwrap();
        let path = |name: &str| sockets.folder.join(name);
        drop(std::os::unix::net::UnixListener::bind(path("dead.sock")).unwrap());
        let _listener = std::os::unix::net::UnixListener::bind(path("live.sock")).unwrap();
        std::fs::write(path("note"), "").unwrap();

        assert_eq!(sockets.connect().await.len(), 1);

        assert!(!path("dead.sock").exists());
        assert!(path("live.sock").exists() && path("note").exists());
    }

    #[tokio::test]
    async fn program_that_is_not_there_leaves_no_socket() {
        let folder = tempfile::tempdir().unwrap();
        let sockets = Sockets::new(folder.path());
        let program = Program {
            path: folder.path().join("nothing"),
            arguments: Vec::new(),
        };

        assert!(sockets.spawn(&program).await.is_err());

        assert_eq!(std::fs::read_dir(&sockets.folder).unwrap().count(), 0);
    }
}
