//! The process's own stdin, stdout and stderr as asynchronous streams.
//!
//! Descriptors that a program inherits share their open file description, and with it `O_NONBLOCK`,
//! with the shell that started it. So the flag is left alone: input is read only when `poll(2)` says
//! that there is some, and output is written by blocking calls on the runtime's blocking threads,
//! one at a time. A program whose output is stuck has to end its runtime with `shutdown_background`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use tokio::fs::File;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, Interest, ReadBuf};

/// Input from a descriptor of any kind.
#[derive(Debug)]
pub enum Input {
    /// A terminal, pipe or socket.
    Pollable(AsyncFd<OwnedFd>),
    /// A regular file or a device without readiness, such as `/dev/null`: reading it does not wait.
    File(File),
}

impl Input {
    /// Takes over `fd`; its flags stay as they are.
    ///
    /// # Errors
    /// The I/O error of registering it with the runtime.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        #[expect(
            deprecated,
            reason = "deprecated for types whose descriptor may change; that of an OwnedFd cannot"
        )]
        match AsyncFd::try_with_interest(fd, Interest::READABLE) {
            Ok(fd) => Ok(Self::Pollable(fd)),
            Err(refused) => match refused.into_parts() {
                // epoll refuses what is always ready.
                (fd, error) if error.raw_os_error() == Some(Errno::EPERM as i32) => {
                    Ok(Self::File(File::from_std(fd.into())))
                }
                (_, error) => Err(error),
            },
        }
    }
}

impl AsyncRead for Input {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Pollable(fd) => poll_read_ready(fd, context, buffer),
            Self::File(file) => Pin::new(file).poll_read(context, buffer),
        }
    }
}

fn poll_read_ready(
    fd: &AsyncFd<OwnedFd>,
    context: &mut Context<'_>,
    buffer: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    loop {
        let mut guard = ready!(fd.poll_read_ready(context))?;
        if !has_input(fd.get_ref())? {
            guard.clear_ready();
            continue;
        }
        match nix::unistd::read(fd.get_ref(), buffer.initialize_unfilled()) {
            Ok(count) => {
                buffer.advance(count);
                return Poll::Ready(Ok(()));
            }
            // Another process took the bytes, or it set O_NONBLOCK.
            Err(Errno::EAGAIN) => guard.clear_ready(),
            Err(Errno::EINTR) => {}
            Err(error) => return Poll::Ready(Err(error.into())),
        }
    }
}

/// Whether a read would return at once: with bytes, the end, or an error.
fn has_input(fd: &OwnedFd) -> io::Result<bool> {
    let mut poll = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    loop {
        match nix::poll::poll(&mut poll, PollTimeout::ZERO) {
            Ok(count) => return Ok(count > 0),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Tells when nobody will read an output any more, although nothing is written to it.
#[derive(Debug)]
pub struct Hangup(Option<AsyncFd<OwnedFd>>);

impl Hangup {
    /// Never tells.
    pub fn never() -> Self {
        Self(None)
    }

    /// Watches `fd`, which may be a duplicate of what is written to. What has no readiness, such as a
    /// regular file, is never deserted.
    pub fn of(fd: OwnedFd) -> Self {
        #[expect(
            deprecated,
            reason = "deprecated for types whose descriptor may change; that of an OwnedFd cannot"
        )]
        Self(AsyncFd::with_interest(fd, Interest::WRITABLE).ok())
    }

    /// Waits until the other end is gone; for ever if that is never told. Cancel-safe.
    pub async fn happened(&self) {
        let Some(fd) = &self.0 else {
            return std::future::pending().await;
        };
        // Edges that say that there is room again come in between.
        while let Ok(mut guard) = fd.writable().await {
            if is_deserted(fd.get_ref()) {
                return;
            }
            guard.clear_ready();
        }
    }
}

/// Whether the other end of an output is gone: of a pipe that is an error, of a socket or terminal a
/// hang-up.
fn is_deserted(fd: &OwnedFd) -> bool {
    let mut poll = [PollFd::new(fd.as_fd(), PollFlags::empty())];
    let gone = PollFlags::POLLERR | PollFlags::POLLHUP;
    nix::poll::poll(&mut poll, PollTimeout::ZERO).is_ok()
        && poll[0]
            .revents()
            .is_some_and(|found| found.intersects(gone))
}

/// Output to a descriptor of any kind. A write returns once the blocking call has begun; a flush
/// waits until it is over.
pub fn output(fd: OwnedFd) -> File {
    File::from_std(fd.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn pipe_is_read_as_bytes_arrive_and_ends_with_its_writer() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut input = Input::new(reader.into()).unwrap();
        assert!(matches!(input, Input::Pollable(_)));

        let mut buffer = [0; 16];
        for text in ["one", "two"] {
            writer.write_all(text.as_bytes()).unwrap();
            let count = input.read(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..count], text.as_bytes());
        }
        drop(writer);

        assert_eq!(input.read(&mut buffer).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn waiting_read_is_cancelled_without_blocking_the_runtime() {
        let (reader, _writer) = io::pipe().unwrap();
        let mut input = Input::new(reader.into()).unwrap();
        let mut buffer = [0; 16];

        let read = tokio::time::timeout(Duration::from_millis(20), input.read(&mut buffer)).await;

        assert!(read.is_err(), "read {read:?} out of nothing");
    }

    #[tokio::test]
    async fn flags_of_the_shared_description_stay_as_they_were() {
        let (reader, mut writer) = io::pipe().unwrap();
        let inherited = reader.try_clone().unwrap();
        let mut input = Input::new(reader.into()).unwrap();
        writer.write_all(b"x").unwrap();
        input.read_u8().await.unwrap();

        let flags = OFlag::from_bits_retain(fcntl(&inherited, FcntlArg::F_GETFL).unwrap());

        assert!(!flags.contains(OFlag::O_NONBLOCK));
    }

    #[tokio::test]
    async fn regular_file_and_null_device_are_read_to_their_end() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"from a file").unwrap();
        io::Seek::rewind(&mut file).unwrap();
        let mut input = Input::new(file.into()).unwrap();
        let mut text = String::new();
        input.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "from a file");

        let null = std::fs::File::open("/dev/null").unwrap();
        let mut input = Input::new(null.into()).unwrap();
        assert_eq!(input.read(&mut [0; 1]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn output_that_loses_its_reader_is_told_of_without_a_write() {
        let (pipe, pipe_writer) = io::pipe().unwrap();
        let (socket, other) = std::os::unix::net::UnixStream::pair().unwrap();
        let ends: [(OwnedFd, OwnedFd); 2] = [
            (pipe.into(), pipe_writer.into()),
            (socket.into(), other.into()),
        ];
        for (reader, writer) in ends {
            let hangup = Hangup::of(writer);
            let wait = tokio::time::timeout(Duration::from_millis(20), hangup.happened()).await;
            assert!(wait.is_err(), "there is a reader");

            drop(reader);

            hangup.happened().await;
        }
    }

    #[tokio::test]
    async fn output_reaches_a_slow_reader_whole() {
        const SIZE: usize = 1 << 20;
        let (mut reader, writer) = io::pipe().unwrap();
        let mut output = output(writer.into());
        let slow_reader = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut reader, &mut bytes).map(|_| bytes)
        });

        output.write_all(&vec![7; SIZE]).await.unwrap();
        output.flush().await.unwrap();
        drop(output);

        assert_eq!(slow_reader.await.unwrap().unwrap(), vec![7; SIZE]);
    }
}
