//! A Unix socket for programs on the same host: bound where only its owner can reach it, asked with
//! one line, answered with one line.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use crate::runtime::atomic_file;

/// For its owner, and for root, whom no mode keeps out.
const SOCKET_MODE: u32 = 0o600;
/// Others must not be able to put a socket of theirs in our place.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A socket that others on this host connect to. Its file goes when it is dropped.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file.
    identity: (u64, u64),
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The folder is not ours alone.
    #[error("{} may be written by others than this user and root", .0.display())]
    Exposed(PathBuf),
    /// Something is there that is no socket.
    #[error("{} is in the way, and it is no socket", .0.display())]
    InTheWay(PathBuf),
    /// Another process listens there.
    #[error("another agent listens on {}", .0.display())]
    InUse(PathBuf),
    /// The system refused.
    #[error("cannot listen on {}", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("nobody listens on {}", .0.display())]
    NobodyThere(PathBuf),
    /// This user may not ask.
    #[error("{} is not for this user", .0.display())]
    Forbidden(PathBuf),
    /// Whoever listens does not answer.
    #[error("no answer on {} within {after:?}", .path.display())]
    Late {
        /// The socket.
        path: PathBuf,
        /// How long it had.
        after: Duration,
    },
    /// The connection broke, or the answer was too long.
    #[error("no answer on {}", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

impl Listener {
    /// Listens on `path`, whose folder is made if it is not there. A socket that nobody listens on
    /// any more is replaced.
    ///
    /// # Errors
    /// [`BindError`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let failed = |cause| BindError::Io {
            path: path.to_owned(),
            cause,
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        atomic_file::create_private_dir(folder).map_err(failed)?;
        if !is_private(folder).map_err(failed)? {
            return Err(BindError::Exposed(folder.to_owned()));
        }
        make_way(path)?;
        // Under another name until only its owner can connect.
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let bound = bind_as(&temporary, path);
        if bound.is_err() {
            // The error of the failing step matters more than that of the clean-up.
            let _ = fs::remove_file(&temporary);
        }
        let (listener, identity) = bound.map_err(failed)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            identity,
        })
    }

    /// The next connection, and whether the user at its other end is this one or root.
    ///
    /// # Errors
    /// The I/O error of the failing step.
    pub async fn accept(&self) -> io::Result<(UnixStream, bool)> {
        let (stream, _) = self.listener.accept().await?;
        let user = stream.peer_cred()?.uid();
        let is_ours = user == 0 || user == nix::unistd::geteuid().as_raw();
        Ok((stream, is_ours))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Another agent may have taken the place.
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn bind_as(temporary: &Path, path: &Path) -> io::Result<(UnixListener, (u64, u64))> {
    match fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(temporary)?;
    fs::set_permissions(temporary, Permissions::from_mode(SOCKET_MODE))?;
    let identity = identity(temporary)?;
    fs::rename(temporary, path)?;
    Ok((listener, identity))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// Whether only this user and root can put something into a folder.
fn is_private(folder: &Path) -> io::Result<bool> {
    let metadata = fs::metadata(folder)?;
    let owner = metadata.uid();
    let is_ours = owner == 0 || owner == nix::unistd::geteuid().as_raw();
    Ok(is_ours && metadata.mode() & WRITABLE_BY_OTHERS == 0)
}

/// Makes sure that what is at `path` may be replaced.
fn make_way(path: &Path) -> Result<(), BindError> {
    let failed = |cause| BindError::Io {
        path: path.to_owned(),
        cause,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(BindError::InTheWay(path.to_owned()));
        }
        Ok(_) => {}
    }
    match BlockingStream::connect(path) {
        Ok(_) => Err(BindError::InUse(path.to_owned())),
        Err(error) if is_nobody(&error) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// Reads a line of at most `limit` bytes; returns it without its end. The end of the stream ends a
/// line too.
///
/// # Errors
/// The I/O error of the failing step; [`io::ErrorKind::InvalidData`] if the line is longer.
pub async fn read_line<R: AsyncRead + Unpin>(stream: R, limit: usize) -> io::Result<Vec<u8>> {
    let mut stream = stream.take(limit as u64 + 1);
    let mut line = Vec::new();
    while !line.contains(&b'\n') {
        if stream.read_buf(&mut line).await? == 0 {
            break;
        }
    }
    if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
        line.truncate(end);
    }
    if line.len() > limit {
        let text = format!("the line has more than {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(line)
}

/// Writes a line and its end.
///
/// # Errors
/// The I/O error of the failing step.
pub async fn write_line(stream: &mut UnixStream, mut line: Vec<u8>) -> io::Result<()> {
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.flush().await
}

/// Sends a line to whoever listens on `path`; returns the line that comes back.
///
/// # Errors
/// [`AskError`].
pub async fn ask(
    path: &Path,
    line: Vec<u8>,
    limit: usize,
    within: Duration,
) -> Result<Vec<u8>, AskError> {
    let conversation = async {
        let mut stream = UnixStream::connect(path).await?;
        write_line(&mut stream, line).await?;
        let answer = read_line(&mut stream, limit).await?;
        if answer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(answer)
    };
    let path = path.to_owned();
    match timeout(within, conversation).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) if is_nobody(&error) => Err(AskError::NobodyThere(path)),
        Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(AskError::Forbidden(path))
        }
        Ok(Err(cause)) => Err(AskError::Io { path, cause }),
        Err(_) => Err(AskError::Late {
            path,
            after: within,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn line_gets_its_answer_and_the_file_goes_with_the_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/agent.sock");
        let listener = Listener::bind(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().mode() & 0o777;
        let answer = async {
            let (mut stream, is_ours) = listener.accept().await.unwrap();
            let line = read_line(&mut stream, 10).await.unwrap();
            write_line(&mut stream, [line, b"!".to_vec()].concat())
                .await
                .unwrap();
            is_ours
        };

        let (is_ours, answer) = tokio::join!(answer, ask(&path, b"hello".to_vec(), 10, SOON));

        assert_eq!((is_ours, mode), (true, 0o600));
        assert_eq!(answer.unwrap(), b"hello!");
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(matches!(
            ask(&path, b"x".to_vec(), 10, SOON).await,
            Err(AskError::NobodyThere(_))
        ));

        let first = Listener::bind(&path).unwrap();
        let second = Listener::bind(&path);

        assert!(matches!(second, Err(BindError::InUse(_))), "{second:?}");
        drop(first);
    }

    #[tokio::test]
    async fn file_of_somebody_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        fs::write(&path, "precious").unwrap();

        let refused = Listener::bind(&path);

        assert!(
            matches!(refused, Err(BindError::InTheWay(_))),
            "{refused:?}"
        );
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn folder_that_others_may_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();

        let refused = Listener::bind(&folder.path().join("agent.sock"));

        assert!(matches!(refused, Err(BindError::Exposed(_))), "{refused:?}");
    }

    #[tokio::test]
    async fn socket_that_took_the_place_is_not_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let old = Listener::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _new = Listener::bind(&path).unwrap();

        drop(old);

        assert!(path.exists());
    }

    #[tokio::test]
    async fn long_lines_and_silence_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let listener = Listener::bind(&path).unwrap();

        assert_eq!(read_line(&b"12345\n6"[..], 5).await.unwrap(), b"12345");
        assert_eq!(read_line(&b"1234"[..], 5).await.unwrap(), b"1234");
        let long = read_line(&b"123456\n"[..], 5).await.unwrap_err();
        assert_eq!(long.kind(), io::ErrorKind::InvalidData);
        let late = ask(&path, b"x".to_vec(), 10, Duration::from_millis(20)).await;
        assert!(matches!(late, Err(AskError::Late { .. })), "{late:?}");
        drop(listener);
    }
}
