//! One connection, polled in both directions by one task.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Most bytes of one read.
pub const READ: usize = 64 << 10;
/// Size of the buffer that reads are made into. What was read is cut off it without a copy, and the
/// buffer is used again once all that was cut off is gone.
const BUFFER: usize = 256 << 10;

/// A connection.
#[derive(Debug)]
pub enum Socket {
    /// Of TCP.
    Tcp(TcpStream),
    /// Of a Unix socket.
    Unix(UnixStream),
}

impl Socket {
    /// Reads what is there, at most `limit` bytes, to the end of `buffer`. Zero means that the other
    /// side writes no more.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let limit = limit.min(READ);
        if buffer.capacity() - buffer.len() < limit {
            buffer.reserve(BUFFER);
        }
        let mut room = buffer.limit(limit);
        match self {
            Self::Tcp(stream) => pin!(stream.read_buf(&mut room)).poll(cx),
            Self::Unix(stream) => pin!(stream.read_buf(&mut room)).poll(cx),
        }
    }

    /// Writes as much of `bytes` as is taken.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    /// Says that nothing more will be written.
    pub fn finish(&mut self, cx: &mut Context<'_>) {
        // It never waits, and it fails only on a connection that the next read finds broken.
        let _ = match self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        };
    }
}
