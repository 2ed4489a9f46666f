//! What the person is told beside the bytes. Nothing waits for it: whoever started the program may
//! not read what it says.

use std::future::pending;
use std::io;

use bytes::{BufMut as _, BytesMut};
use tokio::io::AsyncWriteExt as _;
use tracing::debug;

use crate::client::io::Sink;

/// Most bytes that wait: lines enough for whoever reads late, and nothing to speak of in memory.
const MOST: usize = 4 << 10;

/// Lines on their way to a stream.
#[derive(Debug, Default)]
pub(super) struct Voice {
    /// What is left of them.
    rest: BytesMut,
    is_speaking: bool,
}

impl Voice {
    /// Whether nothing is on its way.
    pub(super) fn is_silent(&self) -> bool {
        !self.is_speaking
    }

    /// Says a line behind those that are on their way. If too much of them is left, it is never said.
    pub(super) fn say(&mut self, text: &str) {
        if self.rest.len() + text.len() < MOST {
            self.rest.put_slice(text.as_bytes());
            self.rest.put_u8(b'\n');
            self.is_speaking = true;
        }
    }

    /// Waits until what is on its way was taken; for ever if nothing is. Cancel-safe.
    pub(super) async fn speak(&mut self, sink: &mut Sink) {
        if self.is_silent() {
            pending::<()>().await;
        }
        if let Err(error) = self.write(sink).await {
            debug!(%error, "a message was not shown");
            self.rest.clear();
        }
        self.is_speaking = false;
    }

    async fn write(&mut self, sink: &mut Sink) -> io::Result<()> {
        while !self.rest.is_empty() {
            if sink.write_buf(&mut self.rest).await? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        sink.flush().await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, duplex};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lines_that_nobody_takes_wait_and_too_many_are_dropped() {
        let (sink, mut reader) = duplex(4);
        let (mut sink, mut voice): (Sink, _) = (Box::new(sink), Voice::default());
        let turn = Duration::from_secs(1);
        for number in 0..1000 {
            voice.say(&format!("line {number}"));
            assert!(timeout(turn, voice.speak(&mut sink)).await.is_err());
        }

        assert!(voice.rest.len() < MOST);
        assert!(!voice.is_silent());
        let mut taken = [0; 4];
        reader.read_exact(&mut taken).await.unwrap();
        assert_eq!(&taken, b"line");
    }

    #[tokio::test]
    async fn lines_come_in_turn_and_whole() {
        let (sink, mut reader) = duplex(4);
        let (mut sink, mut voice): (Sink, _) = (Box::new(sink), Voice::default());
        voice.say("one");
        voice.say("two");

        let mut taken = [0; 8];
        let (read, ()) = tokio::join!(reader.read_exact(&mut taken), voice.speak(&mut sink));

        assert_eq!((read.unwrap(), &taken), (8, b"one\ntwo\n"));
        assert!(voice.is_silent());
    }

    #[tokio::test]
    async fn stream_that_is_closed_ends_a_line() {
        let (sink, reader) = duplex(4);
        let (mut sink, mut voice): (Sink, _) = (Box::new(sink), Voice::default());
        drop(reader);
        voice.say("nobody reads this");

        voice.speak(&mut sink).await;

        assert!(voice.is_silent());
    }
}
