//! The pump: one task that drives one channel over one WebSocket at a time.
//!
//! ```text
//!             outgoing            poll_transmit
//!  session  ------------> channel -------------> link (WebSocket)
//!           <------------         <-------------
//!             incoming            handle_message
//! ```
//!
//! Each turn it reads what the socket has, takes what the session sends, hands over what the session
//! has room for, writes what the socket takes, and flushes once. Reading never waits for writing:
//! two peers whose socket buffers are full would wait for each other for ever. After a cut it dials
//! again, with the channel's state kept, until the session's time for that is over.

mod app;
mod core;
mod keys;
mod link;
mod redial;
mod timer;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::app::App;
use self::core::Core;
use self::keys::Keys;
pub use self::keys::{KeyFuture, KeySource};
use super::websocket::Socket;
use crate::protocol::channel::{Channel, Event};
use crate::protocol::wire::control::SessionState;
use crate::protocol::wire::{Payload, PeerFeatures};

/// Payloads that wait between session and pump: enough for one turn to fill several frames, few
/// enough to be a small part of the send window (8 of at most 32 KiB).
const OUTGOING_QUEUE: usize = 8;
/// Payloads that wait between pump and session; they count as taken.
const INCOMING_QUEUE: usize = 16;

/// Makes connections for a channel: the first one and each one after a cut.
pub trait Connector: Send + 'static {
    /// Obtains a token, dials, and sends the open message. `attempt` counts the calls over the whole
    /// life of the channel, from 0.
    fn connect(
        &mut self,
        attempt: u32,
    ) -> impl Future<Output = Result<Connected, ConnectError>> + Send;
}

/// A connection whose open message was sent.
#[derive(Debug)]
pub struct Connected {
    /// The WebSocket.
    pub socket: Socket,
    /// What the other side announced in the upgrade's response.
    pub features: PeerFeatures,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The session is over; no further attempt makes sense.
    #[error("the session is over: {0}")]
    Ended(String),
    /// Try again later.
    #[error("cannot connect: {0}")]
    Retry(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// How the pump behaves.
#[derive(Debug, Clone)]
pub struct PumpSettings {
    /// Interval of our pings (agent 54 s, client 5 min and one at open).
    pub ping_interval: Duration,
    /// How long the peer may be silent (no frame of any kind, pongs included) before the connection
    /// counts as dead. Has to be longer than `ping_interval`.
    pub read_timeout: Duration,
    /// Ping at once after opening, as the official plugin does.
    pub ping_at_open: bool,
    /// Reconnecting is given up this long after the connection was lost; so is the first connection
    /// this long after the start.
    pub reconnect_for: Duration,
    /// When the session is over in any case, if that is known; then reconnecting is given up too.
    pub session_ends: Option<Instant>,
}

/// From the session to the pump.
#[derive(Debug)]
pub enum Outgoing {
    /// A payload to send.
    Payload(Payload),
    /// Agent: a session state for the gateway.
    State(SessionState),
    /// Agent: from now on presume nothing delivered, see
    /// [`Settings::presume_delivery`](crate::protocol::channel::Settings::presume_delivery).
    PresumeNothing,
    /// Drain, then end.
    Close,
}

/// From the pump to the session.
#[derive(Debug)]
pub enum Incoming {
    /// A payload, in order; acknowledged by being taken.
    Payload(Payload),
    /// An event of the channel. [`Event::Closed`] comes after all payloads that came before it.
    Event(Event),
    /// The connection was lost; the pump is dialling again.
    Disconnected {
        /// Until when it will try.
        give_up: Instant,
    },
    /// A connection is up (the first one too).
    Connected,
}

/// The session's end of a pump. Both directions are bounded: a full `outgoing` means the send window
/// is full, an `incoming` that nobody reads keeps the peer's messages unacknowledged.
///
/// Dropping both halves without [`Outgoing::Close`] ends the pump at once. States and `Close` keep
/// their place behind payloads: who cannot wait for a full window drops the handle or cancels.
#[derive(Debug)]
pub struct ChannelHandle {
    /// To the pump.
    pub outgoing: mpsc::Sender<Outgoing>,
    /// From the pump.
    pub incoming: mpsc::Receiver<Incoming>,
    /// Cancelled as soon as the gateway has closed the session or the channel is gone for good, ahead
    /// of what still waits in `incoming`. For a session that may be unable to read on.
    pub over: CancellationToken,
}

/// Why a pump ended.
#[derive(Debug)]
pub enum PumpEnd {
    /// After [`Outgoing::Close`]; true if everything was acknowledged. False too if the session
    /// dropped its handle.
    Closed {
        /// Whether the peer acknowledged everything.
        drained: bool,
    },
    /// The connector said the session is over.
    Ended(String),
    /// No connection could be made in time.
    GaveUp(ConnectError),
    /// Cancelled.
    Cancelled,
}

/// Makes a pump and the handle to it, for a channel that is not encrypted. The future has to be
/// spawned by its owner.
pub fn pump<C: Connector>(
    channel: Channel,
    connector: C,
    settings: PumpSettings,
    cancel: CancellationToken,
) -> (ChannelHandle, impl Future<Output = PumpEnd> + Send) {
    pump_with_keys(channel, connector, None, settings, cancel)
}

/// Makes a pump that gets the channel its data key from `keys`, should it want one.
pub fn pump_with_keys<C: Connector>(
    channel: Channel,
    connector: C,
    keys: Option<Arc<dyn KeySource>>,
    settings: PumpSettings,
    cancel: CancellationToken,
) -> (ChannelHandle, impl Future<Output = PumpEnd> + Send) {
    let (outgoing_sender, outgoing) = mpsc::channel(OUTGOING_QUEUE);
    let (incoming, incoming_receiver) = mpsc::channel(INCOMING_QUEUE);
    let over = CancellationToken::new();
    let handle = ChannelHandle {
        outgoing: outgoing_sender,
        incoming: incoming_receiver,
        over: over.clone(),
    };
    let run = async move {
        let app = App::new(outgoing, incoming);
        let core = Core::new(channel, app, Keys::new(keys), &cancel, over);
        core.run(connector, settings).await
    };
    (handle, run)
}

#[cfg(test)]
mod tests;
