//! Cuts the incoming byte stream into headers and pieces of payload, without copying payload.

use bytes::{Buf, Bytes};

use super::frame::{Command, HEADER_LENGTH, Header};
use super::stream::StreamId;
use crate::protocol::wire::DecodeError;

/// What the byte stream said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    Syn(StreamId),
    Fin(StreamId),
    /// The next piece of a PSH frame's payload.
    Data(StreamId, Bytes),
}

/// Where in the byte stream the next byte stands.
#[derive(Debug)]
enum Position {
    /// In a header of which this much is known.
    Header([u8; HEADER_LENGTH], usize),
    /// In a payload of which this much is to come.
    Payload(StreamId, usize),
}

/// The place up to which the incoming byte stream is understood.
#[derive(Debug)]
pub(super) struct Decoder {
    position: Position,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self {
            position: Position::Header([0; HEADER_LENGTH], 0),
        }
    }

    /// Takes what it can from the front of `bytes`. `Ok(None)` means that all was taken.
    ///
    /// # Errors
    /// [`DecodeError`]: the byte stream cannot be followed any further, and every later call says so
    /// again.
    pub(super) fn next(&mut self, bytes: &mut Bytes) -> Result<Option<Item>, DecodeError> {
        while !bytes.is_empty() {
            match &mut self.position {
                Position::Payload(id, left) => {
                    let id = *id;
                    let piece = bytes.split_to(bytes.len().min(*left));
                    *left -= piece.len();
                    if *left == 0 {
                        self.position = Position::Header([0; HEADER_LENGTH], 0);
                    }
                    return Ok(Some(Item::Data(id, piece)));
                }
                Position::Header(header, known) => {
                    let more = bytes.len().min(HEADER_LENGTH - *known);
                    bytes.copy_to_slice(&mut header[*known..*known + more]);
                    *known += more;
                    if *known < HEADER_LENGTH {
                        return Ok(None);
                    }
                    let header = Header::decode(*header)?;
                    if let Some(item) = self.begin(header) {
                        return Ok(Some(item));
                    }
                }
            }
        }
        Ok(None)
    }

    fn begin(&mut self, header: Header) -> Option<Item> {
        let id = StreamId(header.stream_id);
        self.position = match header.length {
            0 => Position::Header([0; HEADER_LENGTH], 0),
            length => Position::Payload(id, usize::from(length)),
        };
        match header.command {
            Command::Syn => Some(Item::Syn(id)),
            Command::Fin => Some(Item::Fin(id)),
            Command::Psh | Command::Nop => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn frames_survive_any_cut(
            frames in proptest::collection::vec(any_frame(), 1..20),
            cuts in proptest::collection::vec(1usize..60, 1..50),
        ) {
            let wire: Vec<u8> = frames.iter().flat_map(|(header, payload)| {
                [&header.encode()[..], payload].concat()
            }).collect();

            let mut decoder = Decoder::new();
            let mut items: Vec<Item> = Vec::new();
            let mut rest = Bytes::from(wire);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let mut piece = rest.split_to(rest.len().min(*cut));
                while let Some(item) = decoder.next(&mut piece).unwrap() {
                    append(&mut items, item);
                }
            }

            let mut expected = Vec::new();
            for (header, payload) in frames {
                let id = StreamId(header.stream_id);
                match header.command {
                    Command::Syn => append(&mut expected, Item::Syn(id)),
                    Command::Fin => append(&mut expected, Item::Fin(id)),
                    Command::Psh if payload.is_empty() => {}
                    Command::Psh => append(&mut expected, Item::Data(id, payload.into())),
                    Command::Nop => {}
                }
            }
            prop_assert_eq!(items, expected);
        }
    }

    fn any_frame() -> impl Strategy<Value = (Header, Vec<u8>)> {
        let bare = |command| (1..5u32).prop_map(move |id| (Header::bare(command, id), Vec::new()));
        let psh = (1..5u32, proptest::collection::vec(any::<u8>(), 0..300)).prop_map(
            |(stream_id, payload)| {
                let header = Header {
                    command: Command::Psh,
                    length: u16::try_from(payload.len()).unwrap(),
                    stream_id,
                };
                (header, payload)
            },
        );
        prop_oneof![
            bare(Command::Syn),
            bare(Command::Fin),
            bare(Command::Nop),
            psh
        ]
    }

    /// Joins pieces of one stream, which may be cut anywhere.
    fn append(items: &mut Vec<Item>, item: Item) {
        if let Item::Data(id, piece) = &item
            && let Some(Item::Data(last, bytes)) = items.last_mut()
            && last == id
        {
            *bytes = [&bytes[..], piece].concat().into();
            return;
        }
        items.push(item);
    }
}
