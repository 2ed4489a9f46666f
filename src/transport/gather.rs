//! Small input during bulk output is gathered before it wakes anybody.
//!
//! Who takes a bulk transfer acknowledges each message of it. Read as they come, those
//! acknowledgements cost more than the data: each wakes a task here, and its sender pays for the waking
//! of our processor. So while much goes out, the kernel keeps small input back until there are
//! [`MARK`] bytes of it or [`WAIT`] has passed. Measured with the official plugin, which takes 1024
//! bytes per message: half of the gateway's CPU time, half of the agent's, 13 % more bytes per second.

use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use nix::sys::socket::SetSockOpt;
use nix::{libc, setsockopt_impl};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// Output after which input may wait: more than a person's keystrokes bring in an instant, as much
/// as one message of the largest payload.
const BULK: usize = 32 << 10;
/// Input that does not wait: some 25 acknowledgements of 330 bytes.
const MARK: i32 = 8 << 10;
/// How long input waits at most; also the finest that the runtime's timers have. What a window of
/// 4 MiB holds lasts ten times as long at 400 MB/s.
const WAIT: Duration = Duration::from_millis(1);

/// `SO_RCVLOWAT`, see socket(7): how many bytes have to be there before a socket counts as readable.
#[derive(Debug, Clone, Copy)]
struct ReceiveMark;

setsockopt_impl!(
    ReceiveMark,
    libc::SOL_SOCKET,
    libc::SO_RCVLOWAT,
    i32,
    nix::sys::socket::sockopt::SetStruct<i32>
);

/// A TCP connection that gathers, see the module.
#[derive(Debug)]
pub struct Gather {
    stream: TcpStream,
    /// Bytes sent since input last began to wait.
    sent: usize,
    is_waiting: bool,
    /// When the wait ends; made when first needed, since most connections never have bulk output.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Gather {
    /// Takes over a connection.
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            sent: 0,
            is_waiting: false,
            timer: None,
        }
    }

    /// There is no input now. The socket tells when there is; here it is decided from how much on.
    fn poll_wait(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if !self.is_waiting {
            if self.sent < BULK {
                return Ok(());
            }
            self.sent = 0;
            self.mark(MARK)?;
            self.is_waiting = true;
            let end = Instant::now() + WAIT;
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(end),
                none => *none = Some(Box::pin(sleep(WAIT))),
            }
        }
        if let Some(timer) = &mut self.timer
            && timer.as_mut().poll(context).is_ready()
        {
            self.is_waiting = false;
            // With this the kernel also looks whether there is enough now, and tells.
            self.mark(1)?;
        }
        Ok(())
    }

    fn mark(&self, bytes: i32) -> io::Result<()> {
        Ok(ReceiveMark.set(&self.stream.as_fd(), &bytes)?)
    }

    fn note_sent(&mut self, sent: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = sent {
            self.sent = self.sent.saturating_add(*bytes);
        }
    }
}

impl AsyncRead for Gather {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_pending() {
            self.poll_wait(context)?;
        }
        read
    }
}

impl AsyncWrite for Gather {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note_sent(&sent);
        sent
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note_sent(&sent);
        sent
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use nix::sys::socket::GetSockOpt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::yield_now;

    use super::*;

    nix::getsockopt_impl!(
        ReceiveMark,
        libc::SOL_SOCKET,
        libc::SO_RCVLOWAT,
        i32,
        nix::sys::socket::sockopt::GetStruct<i32>
    );

    #[tokio::test]
    async fn a_quiet_connection_waits_for_nothing() {
        let (mut near, mut far) = connect().await;
        near.write_all(&[0; 1000]).await.unwrap();

        look(&mut near).await;
        assert_eq!(mark(&near), 1);
        far.write_all(b"x").await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), b'x');
        assert!(near.timer.is_none());
    }

    #[tokio::test]
    async fn after_bulk_output_small_input_waits_for_the_timer() {
        let (mut near, mut far) = connect().await;
        near.write_all(&vec![0; BULK]).await.unwrap();

        look(&mut near).await;
        assert_eq!(mark(&near), MARK);
        far.write_all(b"x").await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), b'x');
        assert_eq!(mark(&near), 1, "nothing but the end of the wait lets it in");
        look(&mut near).await;
        assert_eq!(
            mark(&near),
            1,
            "without more output there is no second wait"
        );
    }

    #[tokio::test]
    async fn much_input_does_not_wait() {
        let (mut near, mut far) = connect().await;
        tokio::time::pause();
        near.write_all(&vec![0; BULK]).await.unwrap();
        look(&mut near).await;

        far.write_all(&vec![7; MARK as usize]).await.unwrap();
        let start = Instant::now();
        while Instant::now() == start {
            let mut input = vec![0; MARK as usize];
            let mut input = ReadBuf::new(&mut input);
            let read =
                poll_fn(|context| Poll::Ready(Pin::new(&mut near).poll_read(context, &mut input)));
            if read.await.is_ready() {
                assert_eq!(mark(&near), MARK, "the wait goes on for what follows");
                return;
            }
            yield_now().await;
        }
        panic!("it took the timer");
    }

    #[tokio::test]
    async fn the_end_of_the_peer_is_seen_while_input_waits() {
        let (mut near, far) = connect().await;
        near.write_all(&vec![0; BULK]).await.unwrap();
        look(&mut near).await;
        let (mut output, _) = far.into_split();
        let drained = tokio::spawn(async move { output.read_to_end(&mut Vec::new()).await });

        assert_eq!(near.read(&mut [0; 10]).await.unwrap(), 0);
        drop(near);
        drained.await.unwrap().unwrap();
    }

    /// Finds no input.
    async fn look(near: &mut Gather) {
        let mut input = [0; 10];
        let mut input = ReadBuf::new(&mut input);
        let found =
            poll_fn(|context| Poll::Ready(Pin::new(&mut *near).poll_read(context, &mut input)));
        assert!(found.await.is_pending());
    }

    fn mark(near: &Gather) -> i32 {
        ReceiveMark.get(&near.stream).unwrap()
    }

    async fn connect() -> (Gather, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap());
        let (near, far) = tokio::join!(listener.accept(), far);
        (Gather::new(near.unwrap().0), far.unwrap())
    }
}
