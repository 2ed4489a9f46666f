//! The session kinds that look like a shell: both ways at once, at a terminal or between pipes.

use std::io;

use tokio::sync::mpsc;

use super::downlink::{self, Downlink};
use super::io::Io;
use super::terminal::{LineFeeds, RawMode};
use super::typing::{AtEnd, Typing};
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

    fn line_feeds(self) -> LineFeeds {
        match self {
            Self::Terminal => LineFeeds::Remote,
            Self::Command => LineFeeds::Local,
        }
    }

    fn at_end(self) -> AtEnd {
        match self {
            Self::Terminal => AtEnd::TypeEot,
            Self::Command => AtEnd::Ignore,
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
    let raw_mode = io
        .keyboard
        .as_ref()
        .map(|keyboard| RawMode::enter(keyboard, shell.line_feeds()))
        .transpose()?;
    let size = io.screen.size();
    let typing = match raw_mode {
        Some(_) => Typing::keyboard(size),
        None => Typing::stream(size, shell.at_end()),
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
        end = down.run(&mut handle.incoming, shown) => match end {
            downlink::End::Closed(closed) => ShellEnd::Closed(closed),
            downlink::End::HandshakeFailed(text) => ShellEnd::HandshakeFailed(text),
            downlink::End::PumpEnded => ShellEnd::PumpEnded,
            downlink::End::Output(error) => ShellEnd::Output(error),
        },
    })
}

#[cfg(test)]
mod tests;
