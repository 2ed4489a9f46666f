//! Port sessions: local connections, or standard input and output, carried to a port of the node or
//! of a host it reaches.
//!
//! ```text
//!  listener --connections--> multiplexed (many at once) --+
//!           \--------------> in_turn (one at a time) -----+--> data channel
//!  standard input and output --> raw (SSH) ---------------+
//! ```
//!
//! `properties` reads what the agent said in the handshake; `listener` is where local programs
//! connect to; `voice` is how the person is told of what happens meanwhile.

mod in_turn;
mod listener;
mod multiplexed;
mod properties;
mod raw;
mod voice;

use std::io;
use std::path::PathBuf;

use tokio::io::AsyncWriteExt as _;
use tokio::select;

use self::in_turn::InTurn;
use self::listener::Listener;
use self::multiplexed::Multiplexed;
use self::properties::{Forward, Local, agent_half_closes};
use super::io::Io;
use crate::protocol::mux::MuxError;
use crate::protocol::wire::SessionId;
use crate::protocol::wire::control::ChannelClosed;
use crate::protocol::wire::version::AgentGates;
use crate::transport::ChannelHandle;

pub use properties::PropertiesError;

/// Session type of port sessions.
pub(super) const SESSION_TYPE: &str = "Port";

/// Why a port session could not be run at this end.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// What the agent said makes no sense.
    #[error(transparent)]
    Properties(#[from] PropertiesError),
    /// Local programs cannot connect.
    #[error("cannot listen on {at}")]
    Listen {
        /// Where.
        at: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// There is something at the path of the Unix socket that is no socket.
    #[error("cannot listen on {}: there is a file that is no socket", .0.display())]
    InTheWay(PathBuf),
    /// No connection can be accepted any more.
    #[error("cannot accept connections")]
    Accept(#[source] io::Error),
    /// The agent's byte stream cannot be followed.
    #[error("the agent broke the protocol")]
    Protocol(#[from] MuxError),
}

/// Why a port session is over.
#[derive(Debug)]
pub(super) enum PortEnd {
    /// The gateway closed the session.
    Closed(ChannelClosed),
    /// The handshake failed.
    HandshakeFailed(String),
    /// Standard output takes no more.
    Output(io::Error),
    /// The person wants no more connections.
    Stopped,
    /// The pump ended.
    PumpEnded,
}

/// What the handshake said.
pub(super) struct Opened<'a> {
    pub(super) session_id: &'a SessionId,
    pub(super) properties: &'a serde_json::Value,
    pub(super) agent_version: &'a str,
}

/// Runs a port session until it is over.
///
/// # Errors
/// [`PortError`].
pub(super) async fn run(
    opened: Opened<'_>,
    handle: &mut ChannelHandle,
    io: &mut Io,
) -> Result<PortEnd, PortError> {
    let gates = AgentGates::of(opened.agent_version);
    let half_close = agent_half_closes(opened.properties);
    let local = match Forward::read(opened.properties)? {
        Forward::Raw => return Ok(raw::run(handle, io, half_close).await),
        Forward::Listen(local) => local,
    };
    let listener = Listener::bind(&local).await?;
    // Whoever has read that it works may want it to stop.
    let mut keys = io.interrupts.listen();
    announce(io, &opened, &local, &listener, gates.mux).await;
    let forward = async {
        if gates.mux {
            let settings = multiplexed::settings(gates, half_close);
            Multiplexed::new(handle, io, opened.session_id, listener, settings)
                .run()
                .await
        } else {
            InTurn::new(handle, io, opened.session_id, listener)
                .run()
                .await
        }
    };
    select! {
        end = forward => end,
        Some(_) = keys.recv() => Ok(PortEnd::Stopped),
    }
}

/// Says where to connect to, in the words that scripts wait for.
async fn announce(
    io: &mut Io,
    opened: &Opened<'_>,
    local: &Local,
    listener: &Listener,
    is_mux: bool,
) {
    let session = opened.session_id;
    let opened = match (local, listener.port()) {
        (Local::Unix(path), _) => {
            format!(
                "Unix socket {} opened for sessionId {session}.",
                path.display()
            )
        }
        (Local::Tcp(port), actual) => {
            let port = actual.unwrap_or(*port);
            format!("Port {port} opened for sessionId {session}.")
        }
    };
    say(io, &opened).await;
    if is_mux {
        say(io, "Waiting for connections...\n").await;
    }
}

/// Tells the person something; nobody who reads is no reason to end.
async fn say(io: &mut Io, text: &str) {
    let said = async {
        io.output.write_all(format!("{text}\n").as_bytes()).await?;
        io.output.flush().await
    };
    if let Err(error) = said.await {
        tracing::debug!(%error, "a message was not shown");
    }
}
