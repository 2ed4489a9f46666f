//! Escape sequences of the keyboard: `~.` at the start of a line leaves, `~?` explains, `~~` is one `~`.
//!
//! They are looked for on this side, so that they work when nothing else does. What arrives in one
//! large read was pasted, not typed, and is passed through as it is.

use bytes::BytesMut;

/// The character that starts an escape sequence at the beginning of a line.
const ESCAPE: u8 = b'~';

/// Reads of more bytes than this are pastes. A person types a few bytes between two reads, also over
/// a slow link; a terminal delivers a paste in pieces of up to 4095.
const LARGEST_TYPED_READ: usize = 64;

/// What the person asked of the client itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// `~.`
    Leave,
    /// `~?`
    Help,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    LineStart,
    InLine,
    /// A `~` at the start of a line was held back.
    Escape,
}

/// Follows the typed bytes.
#[derive(Debug)]
pub struct EscapeFilter {
    state: State,
}

impl EscapeFilter {
    /// Starts at the beginning of a line.
    pub fn new() -> Self {
        Self {
            state: State::LineStart,
        }
    }

    /// Takes the bytes of one read, appends those meant for the remote side to `out`, and returns
    /// what was asked of the client. What follows a request to leave is dropped.
    pub fn filter(&mut self, read: &[u8], out: &mut BytesMut) -> Option<Request> {
        if read.len() > LARGEST_TYPED_READ {
            self.pass(read, out);
            return None;
        }
        let mut request = None;
        for &byte in read {
            match self.step(byte, out) {
                Some(Request::Leave) => return Some(Request::Leave),
                Some(Request::Help) => request = Some(Request::Help),
                None => {}
            }
        }
        request
    }

    fn pass(&mut self, read: &[u8], out: &mut BytesMut) {
        if self.state == State::Escape {
            out.extend_from_slice(&[ESCAPE]);
        }
        out.extend_from_slice(read);
        self.state = read.last().map_or(self.state, |&last| after(last));
    }

    fn step(&mut self, byte: u8, out: &mut BytesMut) -> Option<Request> {
        match (self.state, byte) {
            (State::LineStart, ESCAPE) => {
                self.state = State::Escape;
                return None;
            }
            (State::Escape, b'.') => return Some(Request::Leave),
            (State::Escape, b'?') => {
                self.state = State::LineStart;
                return Some(Request::Help);
            }
            (State::Escape, ESCAPE) => out.extend_from_slice(&[ESCAPE]),
            (State::Escape, _) => out.extend_from_slice(&[ESCAPE, byte]),
            (State::LineStart | State::InLine, _) => out.extend_from_slice(&[byte]),
        }
        self.state = after(byte);
        None
    }
}

fn after(byte: u8) -> State {
    if matches!(byte, b'\r' | b'\n') {
        State::LineStart
    } else {
        State::InLine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tilde_dot_at_the_start_of_a_line_leaves() {
        assert_eq!(typed(&["~."]), (String::new(), Some(Request::Leave)));
        assert_eq!(
            typed(&["ls\r", "~", "."]),
            ("ls\r".into(), Some(Request::Leave))
        );
        assert_eq!(typed(&["x\n~.y"]), ("x\n".into(), Some(Request::Leave)));
    }

    #[test]
    fn tilde_within_a_line_is_ordinary() {
        assert_eq!(typed(&["ls ~.", "~."]), ("ls ~.~.".into(), None));
    }

    #[test]
    fn double_tilde_sends_one() {
        assert_eq!(typed(&["~~."]), ("~.".into(), None));
    }

    #[test]
    fn tilde_before_other_characters_is_sent_with_them() {
        assert_eq!(typed(&["~", "/x\r", "~\r", "~."]).0, "~/x\r~\r");
    }

    #[test]
    fn help_is_asked_for_and_leaves_the_line_empty() {
        assert_eq!(typed(&["~?"]), (String::new(), Some(Request::Help)));
        assert_eq!(typed(&["~?~."]), (String::new(), Some(Request::Leave)));
    }

    #[test]
    fn paste_is_passed_through_unchanged() {
        let paste = format!("{}\n~.\n~~\n", "x".repeat(LARGEST_TYPED_READ));

        assert_eq!(typed(&[&paste]), (paste.clone(), None));
    }

    #[test]
    fn held_back_tilde_goes_out_before_a_paste() {
        let paste = "y".repeat(LARGEST_TYPED_READ + 1);

        assert_eq!(typed(&["~", &paste]), (format!("~{paste}"), None));
    }

    #[test]
    fn line_start_is_known_after_a_paste() {
        let paste = format!("{}\n", "x".repeat(LARGEST_TYPED_READ));

        assert_eq!(typed(&[&paste, "~."]).1, Some(Request::Leave));
    }

    fn typed(reads: &[&str]) -> (String, Option<Request>) {
        let mut filter = EscapeFilter::new();
        let mut out = BytesMut::new();
        let mut request = None;
        for read in reads {
            request = filter.filter(read.as_bytes(), &mut out);
        }
        (String::from_utf8(out.to_vec()).unwrap(), request)
    }
}
