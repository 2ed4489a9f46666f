//! What systemd wants to hear: ready, stopping, status, and the watchdog's beat. Without systemd all
//! of it does nothing.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Beats per watchdog period: systemd advises half the period, one more survives a lost datagram.
const BEATS_PER_PERIOD: u32 = 3;

/// How long systemd may take to say how the host is.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Says that start-up is finished.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Says that the service starts anew in the same process; [`ready`] follows.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => debug!(%error, "there is no clock to tell systemd the time by"),
    }
}

/// Says that shutdown has begun.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Sets the line that `systemctl status` shows.
pub fn status(text: &str) {
    notify(&[NotifyState::Status(text)]);
}

/// Feeds the watchdog until `cancel`, if systemd asked for it. Run on the runtime that does the work,
/// so that a runtime that no longer turns is noticed.
pub async fn feed_watchdog(cancel: CancellationToken) {
    if let Some(period) = sd_notify::watchdog_enabled() {
        let beat = || notify(&[NotifyState::Watchdog]);
        beat_every(period / BEATS_PER_PERIOD, cancel, beat).await;
    }
}

/// Whether the host is being shut down. Without systemd nobody can tell.
pub async fn is_shutting_down() -> bool {
    let mut asked = tokio::process::Command::new("systemctl");
    asked.arg("is-system-running").kill_on_drop(true);
    match tokio::time::timeout(ANSWER_LIMIT, asked.output()).await {
        Ok(Ok(output)) => output.stdout.trim_ascii() == b"stopping",
        Ok(Err(_)) | Err(_) => false,
    }
}

fn notify(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        debug!(%error, "systemd was not notified");
    }
}

async fn beat_every(interval: Duration, cancel: CancellationToken, mut beat: impl FnMut()) {
    let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = ticks.tick() => beat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_fed_until_cancelled() {
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        let mut beats = 0;
        let beat = || {
            beats += 1;
            if beats == 4 {
                stop.cancel();
            }
        };
        let started = tokio::time::Instant::now();

        beat_every(Duration::from_secs(10), cancel, beat).await;

        assert_eq!(beats, 4);
        assert_eq!(started.elapsed(), Duration::from_secs(30));
    }

    #[tokio::test]
    async fn without_systemd_there_is_no_watchdog() {
        if std::env::var_os("WATCHDOG_USEC").is_none() {
            feed_watchdog(CancellationToken::new()).await;
        }
    }
}
