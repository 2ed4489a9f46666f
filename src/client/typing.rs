//! What goes up: typed or piped bytes, the size of the window, and the end of the input, as a
//! machine without I/O.
//!
//! # The end of piped input
//!
//! The remote end is a terminal, where the end of input is no state but an event: the byte EOT (`^D`),
//! which a terminal in canonical mode takes as end of file at the beginning of a line only, once, and
//! which goes to whichever program reads at that moment. A shell that shall end like `sh < file` needs
//! three things:
//!
//! - a line feed first, if the input does not end with one, since an EOT within a line ends nothing
//!   (a program that copies its input sees that extra line feed);
//! - EOT;
//! - EOT again, at growing intervals, until the session ends: the first one may have gone to a
//!   command that was reading, or been typed before the shell had taken over its terminal (in
//!   which case who reads next finds a NUL in its place).
//!
//! Everything else that a terminal does to its input holds for piped input too: bytes such as `^C` and
//! `^D` act, and in canonical mode a line is cut at 4095 bytes. It is no way to carry binary data.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::escape::{EscapeFilter, Request};
use crate::protocol::wire::features::LARGE_PAYLOAD;
use crate::protocol::wire::{Payload, TerminalSize};

/// Input read ahead at most, in bytes, while the channel takes nothing. It leaves room to notice the
/// escape sequence behind what was typed in vain.
const READ_AHEAD: usize = 256 << 10;
/// End of transmission, `^D`.
const EOT: u8 = 0x04;
/// First wait before EOT is repeated: about what a shell needs to start.
const FIRST_REPEAT: Duration = Duration::from_millis(100);
/// Longest wait between repeats.
const LONGEST_REPEAT: Duration = Duration::from_secs(10);

/// Bytes on their way up.
#[derive(Debug)]
pub(super) struct Typing {
    state: State,
    size: Option<TerminalSize>,
    bytes: BytesMut,
}

#[derive(Debug)]
enum State {
    Keyboard(EscapeFilter),
    Stream { last: Option<u8> },
    Ended { repeat: Option<Repeat> },
}

#[derive(Debug)]
struct Repeat {
    at: Instant,
    wait: Duration,
}

impl Typing {
    /// Input of a person, with escape sequences.
    pub(super) fn keyboard(size: TerminalSize) -> Self {
        Self::new(State::Keyboard(EscapeFilter::new()), size)
    }

    /// Input of a pipe or file.
    pub(super) fn stream(size: TerminalSize) -> Self {
        Self::new(State::Stream { last: None }, size)
    }

    fn new(state: State, size: TerminalSize) -> Self {
        Self {
            state,
            size: Some(size),
            bytes: BytesMut::new(),
        }
    }

    /// Whether more input should be read.
    pub(super) fn wants_input(&self) -> bool {
        match self.state {
            State::Keyboard(_) | State::Stream { .. } => self.bytes.len() < READ_AHEAD,
            State::Ended { .. } => false,
        }
    }

    /// Takes the bytes of one read; returns what the person asked of the client itself.
    pub(super) fn handle_read(&mut self, read: &[u8]) -> Option<Request> {
        match &mut self.state {
            State::Keyboard(filter) => filter.filter(read, &mut self.bytes),
            State::Stream { last } => {
                *last = read.last().copied().or(*last);
                self.bytes.extend_from_slice(read);
                None
            }
            State::Ended { .. } => None,
        }
    }

    /// The input is over. A keyboard that is gone means that the person left.
    pub(super) fn handle_end(&mut self, now: Instant) -> Option<Request> {
        let repeat = match self.state {
            State::Keyboard(_) => return Some(Request::Leave),
            State::Stream { last } => {
                if last.is_some_and(|last| last != b'\n') {
                    self.bytes.extend_from_slice(b"\n");
                }
                self.bytes.extend_from_slice(&[EOT]);
                Some(Repeat {
                    at: now + FIRST_REPEAT,
                    wait: FIRST_REPEAT,
                })
            }
            State::Ended { .. } => None,
        };
        self.state = State::Ended { repeat };
        None
    }

    /// The window has this size now.
    pub(super) fn handle_resize(&mut self, size: TerminalSize) {
        self.size = Some(size);
    }

    /// When to call [`Typing::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Ended { repeat } => repeat.as_ref().map(|repeat| repeat.at),
            State::Keyboard(_) | State::Stream { .. } => None,
        }
    }

    /// Types EOT again if it is due and the one before has gone out.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let State::Ended {
            repeat: Some(repeat),
        } = &mut self.state
            && repeat.at <= now
        {
            repeat.wait = (repeat.wait * 2).min(LONGEST_REPEAT);
            repeat.at = now + repeat.wait;
            if self.bytes.is_empty() {
                self.bytes.extend_from_slice(&[EOT]);
            }
        }
    }

    /// Whether [`Typing::poll_payload`] has something.
    pub(super) fn has_payload(&self) -> bool {
        self.size.is_some() || !self.bytes.is_empty()
    }

    /// The next payload to send: a new size first, so that what is typed meets the right window.
    pub(super) fn poll_payload(&mut self) -> Option<Payload> {
        if let Some(size) = self.size.take() {
            return Some(Payload::Size(size));
        }
        let length = self.bytes.len().min(LARGE_PAYLOAD);
        let bytes: Bytes = self.bytes.split_to(length).freeze();
        (!bytes.is_empty()).then_some(Payload::Output(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: TerminalSize = TerminalSize { cols: 80, rows: 24 };

    #[test]
    fn size_goes_ahead_of_what_was_typed() {
        let mut typing = Typing::keyboard(SIZE);
        typing.handle_read(b"ls\r");
        let larger = TerminalSize { cols: 90, rows: 24 };
        typing.handle_resize(larger);

        assert_eq!(typing.poll_payload(), Some(Payload::Size(larger)));
        assert_eq!(typed(&mut typing), b"ls\r");
        assert!(!typing.has_payload());
    }

    #[test]
    fn end_of_piped_input_is_typed_at_the_start_of_a_line() {
        for (input, expected) in [
            ("", "\x04"),
            ("exit 3\n", "exit 3\n\x04"),
            ("exit 3", "exit 3\n\x04"),
        ] {
            let mut typing = Typing::stream(SIZE);
            typing.handle_read(input.as_bytes());
            typing.handle_end(Instant::now());

            assert_eq!(typed(&mut typing), expected.as_bytes(), "{input:?}");
        }
    }

    #[test]
    fn end_of_input_is_repeated_at_growing_intervals() {
        let mut typing = Typing::stream(SIZE);
        typing.handle_end(Instant::now());
        assert_eq!(typed(&mut typing), b"\x04");
        let mut before = typing.poll_timeout().unwrap();
        let mut waits = Vec::new();

        for _ in 0..9 {
            typing.handle_timeout(before);
            assert_eq!(typed(&mut typing), b"\x04");
            let next = typing.poll_timeout().unwrap();
            waits.push(next - before);
            before = next;
        }

        assert!(waits.is_sorted() && waits[0] > FIRST_REPEAT, "{waits:?}");
        assert_eq!(waits.last(), Some(&LONGEST_REPEAT));
    }

    #[test]
    fn end_of_input_does_not_pile_up_while_nothing_goes_out() {
        let mut typing = Typing::stream(SIZE);
        typing.handle_end(Instant::now());

        for _ in 0..5 {
            let due = typing.poll_timeout().unwrap();
            typing.handle_timeout(due);
        }

        assert_eq!(typed(&mut typing), b"\x04");
    }

    #[test]
    fn keyboard_that_is_gone_means_that_the_person_left() {
        let mut typing = Typing::keyboard(SIZE);

        assert_eq!(typing.handle_end(Instant::now()), Some(Request::Leave));
    }

    #[test]
    fn piped_input_has_no_escape_sequences() {
        let mut typing = Typing::stream(SIZE);

        assert_eq!(typing.handle_read(b"~."), None);
        assert_eq!(typed(&mut typing), b"~.");
    }

    #[test]
    fn reading_stops_when_too_much_waits_and_goes_on_afterwards() {
        let mut typing = Typing::stream(SIZE);
        typing.handle_read(&vec![b'x'; READ_AHEAD]);
        assert!(!typing.wants_input());

        assert_eq!(typed(&mut typing).len(), READ_AHEAD);
        assert!(typing.wants_input());
    }

    #[test]
    fn payloads_are_no_larger_than_any_peer_takes() {
        let mut typing = Typing::stream(SIZE);
        typing.handle_read(&vec![b'x'; LARGE_PAYLOAD + 1]);
        let mut lengths = Vec::new();
        while let Some(payload) = typing.poll_payload() {
            if let Payload::Output(bytes) = payload {
                lengths.push(bytes.len());
            }
        }

        assert_eq!(lengths, [LARGE_PAYLOAD, 1]);
    }

    fn typed(typing: &mut Typing) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(payload) = typing.poll_payload() {
            if let Payload::Output(bytes) = payload {
                all.extend_from_slice(&bytes);
            }
        }
        all
    }
}
