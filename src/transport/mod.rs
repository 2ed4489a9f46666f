//! Moving messages: WebSocket dial and accept over TLS, proxies, liveness, and the pump that drives
//! one channel over one WebSocket and reconnects it; forwarding of connections over a mux session; a Unix socket
//! for programs on the same host.

pub mod forward;
pub mod gather;
pub mod local_socket;
pub mod pump;
pub mod websocket;

#[cfg(test)]
mod testing;

pub use pump::{
    ChannelHandle, ConnectError, Connected, Connector, Incoming, KeyFuture, KeySource, Outgoing,
    PumpEnd, PumpSettings,
};
pub use websocket::{DialError, Socket};
