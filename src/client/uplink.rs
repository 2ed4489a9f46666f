//! The way up: reads input and window changes, and feeds the channel as fast as it takes them.

use std::future::pending;
use std::io;

use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::downlink::Notice;
use super::escape::Request;
use super::io::{Screen, Source};
use super::typing::Typing;
use crate::protocol::wire::features::LARGE_PAYLOAD;
use crate::transport::Outgoing;

/// The person's side of the way up, and where it leads.
pub(super) struct Uplink<'a> {
    pub(super) input: &'a mut Source,
    pub(super) screen: &'a mut Screen,
    pub(super) typing: Typing,
    pub(super) outgoing: &'a mpsc::Sender<Outgoing>,
    pub(super) notices: mpsc::Sender<Notice>,
}

/// The person left, or the terminal is gone.
#[derive(Debug)]
pub(super) struct Left;

enum Wake<'a> {
    Room(mpsc::Permit<'a, Outgoing>),
    Read(io::Result<usize>),
    Resized,
    Timeout,
    Gone,
}

impl Uplink<'_> {
    /// Runs until the person leaves. The end of piped input is no end of the session, and neither
    /// is a channel that takes nothing any more: the way down tells why.
    pub(super) async fn run(mut self) -> Left {
        let mut buffer = vec![0; LARGE_PAYLOAD];
        let outgoing = self.outgoing;
        loop {
            let request = match self.wait(outgoing, &mut buffer).await {
                Wake::Room(permit) => {
                    if let Some(payload) = self.typing.poll_payload() {
                        permit.send(Outgoing::Payload(payload));
                    }
                    None
                }
                Wake::Read(Ok(count)) if count > 0 => self.typing.handle_read(&buffer[..count]),
                Wake::Read(read) => self.end_input(read),
                Wake::Resized => {
                    self.typing.handle_resize(self.screen.size());
                    None
                }
                Wake::Timeout => {
                    self.typing.handle_timeout(Instant::now());
                    None
                }
                Wake::Gone => pending().await,
            };
            match request {
                Some(Request::Leave) => return Left,
                // A full queue holds the same text already.
                Some(Request::Help) => drop(self.notices.try_send(Notice::Help)),
                None => {}
            }
        }
    }

    async fn wait<'p>(
        &mut self,
        outgoing: &'p mpsc::Sender<Outgoing>,
        buffer: &mut [u8],
    ) -> Wake<'p> {
        let timeout = self.typing.poll_timeout();
        tokio::select! {
            permit = outgoing.reserve(), if self.typing.has_payload() => {
                permit.map_or(Wake::Gone, Wake::Room)
            }
            read = self.input.read(buffer), if self.typing.wants_input() => Wake::Read(read),
            () = self.screen.changed() => Wake::Resized,
            () = sleep_until(timeout.unwrap_or_else(Instant::now)), if timeout.is_some() => Wake::Timeout,
        }
    }

    /// A terminal that hung up fails its reads instead of ending them.
    fn end_input(&mut self, read: io::Result<usize>) -> Option<Request> {
        if let Err(error) = read {
            tracing::debug!(%error, "input failed");
        }
        self.typing.handle_end(Instant::now())
    }
}
