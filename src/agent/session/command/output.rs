//! The output of a command, read from one pipe or two and cut into messages.
//!
//! Its bytes pass as they are, whatever they are. Where the streams come apart, each has a prefix
//! that goes before its first message and before every message that follows one which ended a line.

use std::future::pending;
use std::io;

use bytes::{Bytes, BytesMut};
use tokio::select;
use tracing::warn;

use super::Prefixes;
use crate::agent::host::pipes::Pipe;
use crate::agent::host::pty::Output;

/// The streams of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Output,
    Error,
}

/// The output of a command.
#[derive(Debug)]
pub(super) struct Outputs {
    output: Stream,
    error: Stream,
    /// What was read and not yet taken.
    waiting: Option<(Source, Bytes)>,
}

#[derive(Debug)]
struct Stream {
    /// `None` once nobody writes to it any more.
    pipe: Option<Pipe>,
    /// Most bytes to read still, without waiting for any; `None` while the command runs.
    left: Option<usize>,
    prefix: Bytes,
    at_line_start: bool,
}

impl Outputs {
    pub(super) fn new(output: Pipe, error: Option<Pipe>, prefixes: Prefixes) -> Self {
        Self {
            output: Stream::new(Some(output), prefixes.output),
            error: Stream::new(error, prefixes.error),
            waiting: None,
        }
    }

    /// Whether something was read that waits to be taken.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Whether there may be more to read.
    pub(super) fn is_open(&self) -> bool {
        self.output.is_open() || self.error.is_open()
    }

    /// The command has ended: what it had written is still to be read, and no more. A job that it
    /// left behind may write for ever.
    pub(super) fn expect_end(&mut self) {
        self.output.expect_end();
        self.error.expect_end();
    }

    /// Reads some output, which waits from then on; or finds that a stream has ended. Nothing may
    /// wait before. Cancel-safe.
    pub(super) async fn read(&mut self) {
        let (source, found) = select! {
            found = self.output.read(), if self.output.is_open() => (Source::Output, found),
            found = self.error.read(), if self.error.is_open() => (Source::Error, found),
            else => return pending().await,
        };
        match found {
            Ok(Output::Bytes(bytes)) => self.waiting = Some((source, bytes)),
            Ok(Output::None) => {}
            Ok(Output::End) => self.stream(source).pipe = None,
            Err(error) => {
                warn!(%error, ?source, "cannot read from the command");
                self.stream(source).pipe = None;
            }
        }
    }

    /// Takes the next message, of at most `longest` bytes with its prefix.
    pub(super) fn take_message(&mut self, longest: usize) -> Option<(Source, Bytes)> {
        let (source, mut rest) = self.waiting.take()?;
        let message = self.stream(source).next_message(&mut rest, longest);
        if !rest.is_empty() {
            self.waiting = Some((source, rest));
        }
        Some((source, message))
    }

    fn stream(&mut self, source: Source) -> &mut Stream {
        match source {
            Source::Output => &mut self.output,
            Source::Error => &mut self.error,
        }
    }
}

impl Stream {
    fn new(pipe: Option<Pipe>, prefix: String) -> Self {
        Self {
            pipe,
            left: None,
            prefix: prefix.into(),
            at_line_start: true,
        }
    }

    fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    fn expect_end(&mut self) {
        let capacity = self.pipe.as_ref().map_or(Ok(0), Pipe::capacity);
        self.left = Some(capacity.unwrap_or(0));
    }

    async fn read(&mut self) -> io::Result<Output> {
        let Some(pipe) = &self.pipe else {
            return Ok(Output::End);
        };
        let Some(left) = self.left else {
            return pipe.read().await;
        };
        if left == 0 {
            return Ok(Output::End);
        }
        match pipe.read_now()? {
            Output::Bytes(bytes) => {
                self.left = Some(left.saturating_sub(bytes.len()));
                Ok(Output::Bytes(bytes))
            }
            Output::None | Output::End => Ok(Output::End),
        }
    }

    fn next_message(&mut self, rest: &mut Bytes, longest: usize) -> Bytes {
        let prefix = if self.at_line_start {
            self.prefix.clone()
        } else {
            Bytes::new()
        };
        let room = longest.saturating_sub(prefix.len()).max(1);
        let taken = rest.split_to(rest.len().min(room));
        self.at_line_start = taken.ends_with(b"\n");
        if prefix.is_empty() {
            return taken;
        }
        let mut message = BytesMut::with_capacity(prefix.len() + taken.len());
        message.extend_from_slice(&prefix);
        message.extend_from_slice(&taken);
        message.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_goes_before_the_first_message_and_after_each_end_of_a_line() {
        let mut stream = Stream::new(None, "o:".into());
        let mut message = |text: &'static str| {
            let mut rest = Bytes::from_static(text.as_bytes());
            stream.next_message(&mut rest, 1024)
        };

        assert_eq!(message("one"), "o:one");
        assert_eq!(message("two\nthree\n"), "two\nthree\n");
        assert_eq!(message("four"), "o:four");
    }

    #[test]
    fn message_is_no_longer_than_allowed_with_its_prefix() {
        let mut stream = Stream::new(None, "o:".into());
        let mut rest = Bytes::from_static(b"abcdefgh");

        let messages: Vec<_> =
            std::iter::from_fn(|| (!rest.is_empty()).then(|| stream.next_message(&mut rest, 5)))
                .collect();

        assert_eq!(messages, ["o:abc", "defgh"]);
    }

    #[test]
    fn character_may_be_cut_as_bytes_are_not_text() {
        let mut stream = Stream::new(None, String::new());
        let mut rest = Bytes::from_static("ä€".as_bytes());

        assert_eq!(stream.next_message(&mut rest, 3), &b"\xc3\xa4\xe2"[..]);
        assert_eq!(rest, &b"\x82\xac"[..]);
    }
}
