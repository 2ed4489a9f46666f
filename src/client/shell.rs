//! The session kinds that look like a shell: both ways at once, at a terminal or between pipes. A
//! command without a terminal needs less, see `command`.

use std::io;

use tokio::sync::mpsc;

use super::command;
use super::downlink::{self, Downlink};
use super::io::Io;
use super::terminal::RawMode;
use super::typing::Typing;
use super::uplink::{Left, Uplink};
use crate::protocol::wire::control::ChannelClosed;
use crate::transport::ChannelHandle;

/// What runs at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shell {
    /// A shell or command in a terminal of its own.
    Terminal,
    /// A command without terminal, whose input is empty.
    Command,
}

/// Why a shell is over.
#[derive(Debug)]
pub(super) enum ShellEnd {
    /// The gateway closed the session.
    Closed(ChannelClosed),
    /// The person left, or the terminal is gone.
    Left,
    /// The handshake failed.
    HandshakeFailed(String),
    /// Output cannot be written.
    Output(io::Error),
    /// The pump ended.
    PumpEnded,
}

impl Shell {
    /// The shell that a session type stands for, if any.
    pub(super) fn of(session_type: &str) -> Option<Self> {
        match session_type {
            "Standard_Stream" | "InteractiveCommands" => Some(Self::Terminal),
            "NonInteractiveCommands" => Some(Self::Command),
            _ => None,
        }
    }
}

impl From<downlink::End> for ShellEnd {
    fn from(end: downlink::End) -> Self {
        match end {
            downlink::End::Closed(closed) => Self::Closed(closed),
            downlink::End::HandshakeFailed(text) => Self::HandshakeFailed(text),
            downlink::End::PumpEnded => Self::PumpEnded,
            downlink::End::Output(error) => Self::Output(error),
        }
    }
}

/// Runs the shell until it is over. The first exit code that is told goes to `exit_code`.
///
/// # Errors
/// If the terminal does not take raw mode.
pub(super) async fn run(
    shell: Shell,
    handle: &mut ChannelHandle,
    io: &mut Io,
    exit_code: &mut Option<i32>,
) -> io::Result<ShellEnd> {
    match shell {
        Shell::Terminal => run_terminal(handle, io, exit_code).await,
        Shell::Command => Ok(command::run(handle, io, exit_code).await),
    }
}

async fn run_terminal(
    handle: &mut ChannelHandle,
    io: &mut Io,
    exit_code: &mut Option<i32>,
) -> io::Result<ShellEnd> {
    let raw_mode = io.keyboard.as_ref().map(RawMode::enter).transpose()?;
    let size = io.screen.size();
    let typing = match raw_mode {
        Some(_) => Typing::keyboard(size),
        None => Typing::stream(size),
    };
    let (notices, shown) = mpsc::channel(1);
    let up = Uplink {
        input: &mut io.input,
        screen: &mut io.screen,
        typing,
        outgoing: &handle.outgoing,
        notices,
    };
    let down = Downlink {
        output: &mut io.output,
        error: &mut io.error,
        interactive: raw_mode.is_some(),
        exit_code,
    };
    Ok(tokio::select! {
        Left = up.run() => ShellEnd::Left,
        end = down.run(&mut handle.incoming, shown) => end.into(),
    })
}

#[cfg(test)]
mod tests;
