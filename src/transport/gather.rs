//! Acknowledgements during bulk output are gathered before they wake anybody.
//!
//! Who takes a bulk transfer in small messages acknowledges each of them. Read as they come, those
//! acknowledgements cost more than the data: each wakes a task here, and its sender pays for waking
//! our processor. So while they come fast, the kernel keeps them back until there are 8 KiB
//! of them or a millisecond has passed. Other input, a keystroke or the next request, does not come fast
//! enough to be kept back. Measured with the official plugin, which takes 1024 bytes per message and
//! acknowledges them with 330: half of the gateway's CPU time, half of the agent's, a quarter more
//! bytes per second.

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

/// Input that does not wait: some 25 acknowledgements.
const MARK: usize = 8 << 10;
/// How long input waits at most; the finest that the runtime's timers have. What a window of 4 MiB
/// holds lasts ten times as long at 400 MB/s.
const WAIT: Duration = Duration::from_millis(1);
/// Input that takes longer to reach [`MARK`] does not wait. Three times [`WAIT`], since a timer may
/// take twice its time; at this rate a wait ends by itself about as soon as by the timer.
const FAST: Duration = Duration::from_millis(3);
/// How much more has to go out than comes in, for it to be bulk output with its acknowledgements.
const BULK: usize = 2;
/// Output whose acknowledgements may still be on their way: what a send window holds.
const UNACKNOWLEDGED: usize = 4 << 20;

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
    /// Since when `received` counts.
    since: Instant,
    received: usize,
    /// Output for which nothing came back yet.
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
            since: Instant::now(),
            received: 0,
            sent: 0,
            is_waiting: false,
            timer: None,
        }
    }

    /// There is no input now. The socket tells when there is; here it is decided from how much on.
    fn poll_wait(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if !self.is_waiting {
            let now = Instant::now();
            if !self.is_bulk(now) {
                return Ok(());
            }
            self.mark(MARK)?;
            self.is_waiting = true;
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(now + WAIT),
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

    /// Whether what came lately were acknowledgements of bulk output. Begins to count anew once it
    /// can tell.
    fn is_bulk(&mut self, now: Instant) -> bool {
        let is_fast = now < self.since + FAST;
        if is_fast && self.received < MARK {
            return false;
        }
        let acknowledged = BULK.saturating_mul(self.received);
        let is_bulk = is_fast && self.sent >= acknowledged;
        self.sent = self.sent.saturating_sub(acknowledged);
        (self.since, self.received) = (now, 0);
        is_bulk
    }

    fn mark(&self, bytes: usize) -> io::Result<()> {
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        Ok(ReceiveMark.set(&self.stream.as_fd(), &bytes)?)
    }

    fn note_sent(&mut self, sent: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = sent {
            self.sent = self.sent.saturating_add(*bytes).min(UNACKNOWLEDGED);
        }
    }
}

impl AsyncRead for Gather {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_pending() {
            self.poll_wait(context)?;
        }
        let bytes = buffer.filled().len() - before;
        self.received = self.received.saturating_add(bytes);
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
    async fn requests_and_keystrokes_wait_for_nothing() {
        let (mut near, mut far) = connect().await;
        tokio::time::pause();

        for _ in 0..100 {
            far.write_all(&[0; 200]).await.unwrap();
            near.read_exact(&mut [0; 200]).await.unwrap();
            near.write_all(&[0; 2000]).await.unwrap();
            look(&mut near).await;
            assert_eq!(mark(&near), 1);
            tokio::time::advance(Duration::from_micros(100)).await;
        }
        assert!(near.timer.is_none());
    }

    #[tokio::test]
    async fn bulk_input_does_not_wait() {
        let (mut near, mut far) = connect().await;
        tokio::time::pause();

        far.write_all(&[0; 2 * MARK]).await.unwrap();
        near.read_exact(&mut [0; 2 * MARK]).await.unwrap();
        near.write_all(&[0; MARK]).await.unwrap();
        look(&mut near).await;
        assert_eq!(mark(&near), 1);
    }

    #[tokio::test]
    async fn acknowledgements_wait_for_the_timer_at_most() {
        let (mut near, mut far) = connect().await;
        send_bulk(&mut near, &mut far).await;
        tokio::time::resume();

        far.write_all(b"x").await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), b'x');
        assert_eq!(mark(&near), 1, "nothing but the end of the wait lets it in");
        look(&mut near).await;
        assert_eq!(
            mark(&near),
            1,
            "without more of them there is no second wait"
        );
    }

    #[tokio::test]
    async fn many_acknowledgements_do_not_wait_for_the_timer() {
        let (mut near, mut far) = connect().await;
        send_bulk(&mut near, &mut far).await;

        far.write_all(&[7; MARK]).await.unwrap();
        let start = Instant::now();
        while Instant::now() == start {
            let mut input = [0; MARK];
            let mut input = ReadBuf::new(&mut input);
            if poll_once(&mut near, &mut input).await.is_ready() {
                assert_eq!(mark(&near), MARK, "the wait goes on for what follows");
                return;
            }
            yield_now().await;
        }
        panic!("it took the timer");
    }

    #[tokio::test]
    async fn the_end_of_the_peer_is_seen_while_input_waits() {
        let (mut near, mut far) = connect().await;
        send_bulk(&mut near, &mut far).await;

        far.shutdown().await.unwrap();
        assert_eq!(near.read(&mut [0; 10]).await.unwrap(), 0);
    }

    /// Bulk output and its acknowledgements, all at once; what follows them waits. The clock stands.
    async fn send_bulk(near: &mut Gather, far: &mut TcpStream) {
        tokio::time::pause();
        near.since = Instant::now();
        near.write_all(&[0; BULK * MARK]).await.unwrap();
        far.read_exact(&mut [0; BULK * MARK]).await.unwrap();
        far.write_all(&[0; MARK]).await.unwrap();
        near.read_exact(&mut [0; MARK]).await.unwrap();
        look(near).await;
        assert_eq!(mark(near), MARK);
    }

    /// Finds no input.
    async fn look(near: &mut Gather) {
        let mut input = [0; 10];
        let found = poll_once(near, &mut ReadBuf::new(&mut input)).await;
        assert!(found.is_pending());
    }

    async fn poll_once(near: &mut Gather, input: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        poll_fn(|context| Poll::Ready(Pin::new(&mut *near).poll_read(context, input))).await
    }

    fn mark(near: &Gather) -> usize {
        let bytes = ReceiveMark.get(&near.stream).unwrap();
        usize::try_from(bytes).unwrap()
    }

    async fn connect() -> (Gather, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap());
        let (near, far) = tokio::join!(listener.accept(), far);
        (Gather::new(near.unwrap().0), far.unwrap())
    }
}
