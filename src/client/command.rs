//! A remote command without a terminal: its output and error output to ours, `^C` and `^\` to it.
//!
//! Its input is empty, so ours is left to whoever else reads it, such as the loop of a script around
//! this program, and a terminal stays in the modes it is in.

use std::convert::Infallible;
use std::future::pending;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::downlink::Downlink;
use super::interrupts::Interrupts;
use super::io::Io;
use super::shell::ShellEnd;
use crate::protocol::wire::Payload;
use crate::transport::{ChannelHandle, Outgoing};

/// Runs the command until it is over. The first exit code that is told goes to `exit_code`.
pub(super) async fn run(
    handle: &mut ChannelHandle,
    io: &mut Io,
    exit_code: &mut Option<i32>,
) -> ShellEnd {
    let down = Downlink {
        output: &mut io.output,
        error: &mut io.error,
        interactive: false,
        exit_code,
    };
    let (_, no_notices) = mpsc::channel(1);
    tokio::select! {
        never = send_keys(&io.interrupts, &handle.outgoing) => match never {},
        end = down.run(&mut handle.incoming, no_notices) => end.into(),
    }
}

async fn send_keys(interrupts: &Interrupts, outgoing: &mpsc::Sender<Outgoing>) -> Infallible {
    let mut keys = interrupts.listen();
    while let Some(key) = keys.recv().await {
        let payload = Payload::Output(Bytes::copy_from_slice(&[key]));
        if outgoing.send(Outgoing::Payload(payload)).await.is_err() {
            break;
        }
    }
    // The way down tells why nothing goes up any more.
    pending().await
}
