//! Signals that end a client: the program cancels its session and gives the terminal back.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What ends a client. In a raw terminal the keyboard sends none of them; they come from other
/// programs, from a terminal that closes, or before the session is open.
const ENDING: [SignalKind; 4] = [
    SignalKind::hangup(),
    SignalKind::interrupt(),
    SignalKind::quit(),
    SignalKind::terminate(),
];

/// The signals that end a client.
pub(super) struct Signals(Vec<(SignalKind, Signal)>);

impl Signals {
    /// Takes over the signals. Has to be called within a runtime.
    ///
    /// # Errors
    /// If a handler cannot be installed.
    pub(super) fn take_over() -> io::Result<Self> {
        let take_over = |kind| Ok((kind, signal(kind)?));
        ENDING
            .into_iter()
            .map(take_over)
            .collect::<io::Result<_>>()
            .map(Self)
    }

    /// The number of the next signal. Cancel-safe.
    pub(super) async fn next(&mut self) -> u8 {
        poll_fn(|context| {
            let caught = self
                .0
                .iter_mut()
                .find_map(|(kind, signal)| signal.poll_recv(context).is_ready().then_some(*kind));
            match caught {
                Some(kind) => Poll::Ready(u8::try_from(kind.as_raw_value()).unwrap_or(0)),
                None => Poll::Pending,
            }
        })
        .await
    }
}
