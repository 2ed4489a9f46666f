//! What a person was shown, as lines of text.
//!
//! Where a line ends, and where one that is too long is cut, depends on the bytes alone, not on how they
//! came in entries or batches. The next run of the agent makes the same lines, and can tell which of
//! them the service has.

use super::sequences::strip;
use crate::agent::transcript::entry::{About, Entry, Event};
use crate::agent::transcript::script::{first_line, last_line};

/// How lines go to the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// As JSON records while the session runs, without escape sequences.
    Records,
    /// As the text that `script(1)` makes of the session.
    Text,
}

impl Manner {
    /// Most bytes of text in one event, as the reference has it; also of one line. As JSON it may take
    /// six times that.
    pub fn event_text(self) -> usize {
        match self {
            Self::Records => 33_000,
            Self::Text => 200_000,
        }
    }
}

/// A line without its line feed, or a piece of one that is too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub text: String,
    /// The line ends here.
    pub is_end: bool,
}

/// Makes lines, and holds what is not one yet: at most as much as one may have.
#[derive(Debug, Clone)]
pub struct Lines {
    manner: Manner,
    /// The first line was made.
    pub begun: bool,
    /// The beginning of the next line.
    pub partial: Vec<u8>,
}

impl Lines {
    /// Lines of a session from its beginning.
    pub fn new(manner: Manner) -> Self {
        Self {
            manner,
            begun: false,
            partial: Vec::new(),
        }
    }

    /// The lines that end in these entries. The end of the session ends its last line.
    pub fn split(&mut self, about: &About, entries: &[Entry]) -> Vec<Line> {
        let mut out = Vec::new();
        if !self.begun && self.manner == Manner::Text {
            self.add(first_line(about).as_bytes(), &mut out);
        }
        self.begun = true;
        for entry in entries {
            match &entry.event {
                Event::Output(bytes) | Event::ErrorOutput(bytes) => self.add(bytes, &mut out),
                Event::Missing { bytes } => {
                    let text = format!("\r\n[{bytes} bytes are missing here]\r\n");
                    self.add(text.as_bytes(), &mut out);
                }
                Event::End(end) => {
                    if self.manner == Manner::Text {
                        let text = last_line(about, entry.at, end);
                        self.add(text.as_bytes(), &mut out);
                    } else if !self.partial.is_empty() {
                        self.add(b"\n", &mut out);
                    }
                }
                Event::Input(_) | Event::Resize(_) => {}
            }
        }
        out
    }

    fn add(&mut self, bytes: &[u8], out: &mut Vec<Line>) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (part, is_end) = match part.split_last() {
                Some((b'\n', line)) => (line, true),
                _ => (part, false),
            };
            self.partial.extend_from_slice(part);
            let limit = self.manner.event_text();
            while self.partial.len() > limit {
                let piece = self.partial.drain(..whole_characters(&self.partial, limit));
                let piece: Vec<u8> = piece.collect();
                self.finish(&piece, false, out);
            }
            if is_end {
                let line = std::mem::take(&mut self.partial);
                self.finish(&line, true, out);
            }
        }
    }

    fn finish(&self, bytes: &[u8], is_end: bool, out: &mut Vec<Line>) {
        let text = String::from_utf8_lossy(bytes);
        let text = match self.manner {
            Manner::Text => text.into_owned(),
            Manner::Records => plain(&text),
        };
        // What is no UTF-8 takes three times as much now.
        let mut rest = &text[..];
        while rest.len() > self.manner.event_text() {
            let (piece, more) = rest.split_at(rest.floor_char_boundary(self.manner.event_text()));
            out.push(Line {
                text: piece.to_owned(),
                is_end: false,
            });
            rest = more;
        }
        out.push(Line {
            text: rest.to_owned(),
            is_end,
        });
    }
}

/// Text as records have it. The reference too leaves a line with a broken sequence alone.
fn plain(text: &str) -> String {
    let stripped = strip(text).unwrap_or_else(|| text.to_owned());
    stripped.replace('\t', " ").replace('\r', "")
}

/// At most `limit` of these bytes, so that no character is cut that is whole.
fn whole_characters(bytes: &[u8], limit: usize) -> usize {
    const LONGEST: usize = 4;
    let is_inside = |byte: u8| byte & 0xc0 == 0x80;
    let start = (0..LONGEST).map(|back| limit - back);
    let start = start.into_iter().find(|&at| !is_inside(bytes[at]));
    start.filter(|&at| at > 0).unwrap_or(limit)
}

#[cfg(test)]
mod tests;
