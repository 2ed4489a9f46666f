//! What the broker does by the clock. Deadlines of a session are the session's own.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::hub::Hub;

/// How often what nobody used is forgotten.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// Sweeps until the broker is cancelled.
pub(super) async fn run(hub: &Hub) {
    let mut ticks = interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = hub.cancel.cancelled() => return,
            _ = ticks.tick() => {
                hub.tokens.sweep(Instant::now());
                hub.registry.sweep();
            }
        }
    }
}
