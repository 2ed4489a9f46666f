//! `ssm-gateway sessions`: recordings in the terminal, read from the state folder, beside a running
//! gateway or without one.

use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Context as _;
use clap::Subcommand;

use super::administer::{date, existing_store, to_table};
use super::replay::{self, Pace};
use super::tail::Tail;
use crate::gateway::store::Store;
use crate::gateway::store::recordings::{Agreement, Listed, RecordingFilter};

/// `ssm-gateway sessions`.
#[derive(Debug, Subcommand)]
pub(super) enum Sessions {
    /// List sessions and what is stored of their recordings, newest first
    #[command(after_help = "Example: ssm-gateway sessions list --node mi-0123456789abcdef0")]
    List {
        /// Only those on this node
        #[arg(long, value_name = "NODE_ID")]
        node: Option<String>,
        /// Most sessions to list
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write the recording of a session to standard output, as asciicast v2
    #[command(
        after_help = "Example: ssm-gateway sessions cast alice-0123456789abcdef0 | asciinema play -"
    )]
    Cast {
        /// The session
        session: String,
        /// Go on while the session is recorded
        #[arg(long)]
        follow: bool,
    },
    /// Play the recording of a session in this terminal
    #[command(
        after_help = "Example: ssm-gateway sessions replay alice-0123456789abcdef0 --max-pause 2"
    )]
    Replay {
        /// The session
        session: String,
        /// How many times as fast
        #[arg(long, default_value_t = 1.0, value_parser = replay::speed, value_name = "X")]
        speed: f64,
        /// Longest pause, in seconds
        #[arg(long, value_parser = replay::seconds, value_name = "SECONDS")]
        max_pause: Option<f64>,
        /// Show what there is at once, then what comes, while the session is recorded
        #[arg(long, conflicts_with_all = ["speed", "max_pause"])]
        follow: bool,
    },
}

impl Sessions {
    /// Runs the command on the state folder `state`; returns what it still has to print.
    pub(super) async fn run(self, state: &Path) -> anyhow::Result<String> {
        match self {
            Self::List { node, limit, json } => {
                list(&existing_store(state)?, node, limit, json).await
            }
            Self::Cast { session, follow } => {
                let tail = Tail::open(existing_store(state)?, state, &session, follow).await?;
                cast(tail).await?;
                Ok(String::new())
            }
            Self::Replay {
                session,
                speed,
                max_pause,
                follow,
            } => {
                let tail = Tail::open(existing_store(state)?, state, &session, follow).await?;
                let pace = if follow {
                    Pace::AsItComes
                } else {
                    Pace::Recorded { speed, max_pause }
                };
                replay::play(tail, pace).await?;
                Ok(String::new())
            }
        }
    }
}

async fn list(
    store: &Store,
    node_id: Option<String>,
    limit: u32,
    json: bool,
) -> anyhow::Result<String> {
    let filter = RecordingFilter {
        node_id,
        owner: None,
        all_sessions: true,
        from: None,
        limit,
    };
    let page = store.list_recordings(filter).await?;
    let columns = [
        "SessionId",
        "Target",
        "Owner",
        "Status",
        "Start",
        "Bytes",
        "Recording",
        "SameOnNode",
        "Sha256",
    ];
    let rows = page.items.iter().map(|listed| row(listed, json)).collect();
    Ok(to_table(&columns, rows, json))
}

fn row(listed: &Listed, json: bool) -> Vec<Option<String>> {
    // JSON has escapes of its own.
    let text = |text: &str| Some(if json { text.to_owned() } else { escape(text) });
    let recording = listed.recording.as_ref();
    let same = recording.and_then(|recording| match recording.agreement() {
        Agreement::Unknown => None,
        Agreement::Same => Some("yes".to_owned()),
        Agreement::Differs => Some("NO".to_owned()),
    });
    vec![
        text(listed.session_id.as_str()),
        text(&listed.node_id),
        text(&listed.owner),
        listed.status.map(|status| status.as_str().to_owned()),
        Some(date(listed.start)),
        recording.map(|recording| recording.progress.bytes.to_string()),
        recording.map(|recording| {
            let is_complete = recording.progress.complete;
            if is_complete { "complete" } else { "partial" }.to_owned()
        }),
        same,
        recording.and_then(|recording| recording.sha256.clone()),
    ]
}

/// The text without control characters, which could rewrite the terminal's screen.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

async fn cast(mut tail: Tail) -> anyhow::Result<()> {
    let mut out = io::stdout();
    while let Some(bytes) = tail.next().await? {
        match out.write_all(&bytes).and_then(|()| out.flush()) {
            Ok(()) => {}
            // Whoever read it has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(error).context("cannot write to standard output"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(
            escape("zoë\u{1b}]0;title\u{7}\r\u{9b}"),
            "zoë\\u{1b}]0;title\\u{7}\\r\\u{9b}"
        );
    }
}
