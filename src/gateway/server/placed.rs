//! A connection with its place among all of them, which does not wait for ever for a peer that takes
//! nothing.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::gateway::api::Impatience;

/// A connection that keeps its place when it is upgraded.
pub(super) struct Placed<S> {
    stream: S,
    _place: OwnedSemaphorePermit,
    impatience: Impatience,
    /// Since the peer took something last; none while it does.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Placed<S> {
    /// A connection on its place.
    pub(super) fn new(stream: S, place: OwnedSemaphorePermit) -> Self {
        Self {
            stream,
            _place: place,
            impatience: Impatience::default(),
            stalled: None,
        }
    }

    /// What makes it impatient.
    pub(super) fn impatience(&self) -> Impatience {
        self.impatience.clone()
    }

    /// Passes on what a write came to; an error once the peer has taken nothing for too long.
    fn watch<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        let Some(limit) = self.impatience.limit().filter(|_| written.is_pending()) else {
            self.stalled = None;
            return written;
        };
        let due = || Box::pin(sleep_until(Instant::now() + limit));
        ready!(self.stalled.get_or_insert_with(due).as_mut().poll(context));
        let text = format!("the peer took nothing for {} s", limit.as_secs());
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Placed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Placed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(flushed, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watch(shut, context)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::sync::Semaphore;
    use tokio::time::{Instant, sleep};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn peer_that_takes_nothing_is_cut_off_after_the_limit_and_a_slow_one_is_not() {
        let (mut stream, mut peer) = pair().await;
        stream.impatience().set(LIMIT);
        let slow = tokio::spawn(async move {
            let mut buffer = [0; 64];
            for _ in 0..20 {
                sleep(LIMIT - Duration::from_secs(1)).await;
                peer.read_exact(&mut buffer).await.unwrap();
            }
            peer
        });

        let began = Instant::now();
        stream.write_all(&[b'x'; 20 * 64]).await.unwrap();
        assert!(began.elapsed() > LIMIT * 10);
        let _peer = slow.await.unwrap();
        let began = Instant::now();
        let cut = stream.write_all(&[b'x'; 128]).await.unwrap_err();

        assert_eq!(cut.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn connection_that_nobody_made_impatient_waits() {
        let (mut stream, _peer) = pair().await;

        let write = stream.write_all(&[b'x'; 128]);

        let waited = tokio::time::timeout(LIMIT * 100, write).await;
        assert!(waited.is_err());
    }

    /// A connection that has 64 bytes under way at most.
    async fn pair() -> (Placed<DuplexStream>, DuplexStream) {
        let (stream, peer) = duplex(64);
        let place = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        (Placed::new(stream, place), peer)
    }
}
