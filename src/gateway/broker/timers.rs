//! What the broker does by the clock. Deadlines of a session are the session's own.

use std::time::{Duration, SystemTime};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use super::hub::Hub;

/// How often what nobody used is forgotten.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// How often the history is cut to its length; a matter of days.
const HISTORY_INTERVAL: Duration = Duration::from_secs(3600);

/// Sweeps until the broker is cancelled.
pub(super) async fn run(hub: &Hub) {
    let mut ticks = interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut history = interval(HISTORY_INTERVAL);
    history.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = hub.cancel.cancelled() => return,
            _ = ticks.tick() => {
                hub.tokens.sweep(Instant::now());
                hub.registry.sweep();
                hub.letterboxes.sweep(Instant::now());
            }
            _ = history.tick() => {
                forget_old_sessions(hub).await;
                forget_old_commands(hub).await;
            }
        }
    }
}

async fn forget_old_sessions(hub: &Hub) {
    match hub.store.forget_old_sessions(SystemTime::now()).await {
        Ok(0) => {}
        Ok(sessions) => info!(sessions, "old sessions are forgotten"),
        Err(error) => warn!(%error, "old sessions cannot be forgotten"),
    }
}

async fn forget_old_commands(hub: &Hub) {
    match hub.store.forget_old_commands(SystemTime::now()).await {
        Ok(0) => {}
        Ok(commands) => info!(commands, "old commands are forgotten"),
        Err(error) => warn!(%error, "old commands cannot be forgotten"),
    }
}
