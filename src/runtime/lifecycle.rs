//! From signal to exit: the first SIGTERM or SIGINT cancels the root token, a second one exits at
//! once, and each rung of the shutdown ladder waits for its tasks no longer than its deadline.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::exit;

/// Takes over SIGTERM and SIGINT. The future has to be spawned by its owner and runs until the
/// process ends: the first signal cancels `root`, one that comes after `root` was cancelled exits
/// the process with 128 + its number.
///
/// # Errors
/// If the handlers cannot be installed.
pub fn watch_signals(
    root: CancellationToken,
) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        loop {
            let received = next_signal(&mut terminate, &mut interrupt).await;
            match answer(&root) {
                Answer::ShutDown => {
                    info!(signal = received.name, "shutting down");
                    root.cancel();
                }
                Answer::ExitNow => {
                    warn!(signal = received.name, "exiting at once");
                    std::process::exit(i32::from(exit::SIGNAL_BASE) + received.kind.as_raw_value());
                }
            }
        }
    })
}

/// One rung of the shutdown ladder: waits until all tasks of `tasks` have ended, at most `deadline`.
/// Returns whether they have. Closes the tracker; that keeps nobody from spawning, it only lets the
/// wait end.
pub async fn drain(name: &'static str, tasks: &TaskTracker, deadline: Duration) -> bool {
    tasks.close();
    let drained = tokio::time::timeout(deadline, tasks.wait()).await.is_ok();
    if !drained {
        warn!(
            what = name,
            left = tasks.len(),
            ?deadline,
            "tasks outlived their shutdown deadline"
        );
    }
    drained
}

struct Received {
    kind: SignalKind,
    name: &'static str,
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    ShutDown,
    ExitNow,
}

/// A signal that finds the shutdown on its way comes from someone who does not want to wait for it.
fn answer(root: &CancellationToken) -> Answer {
    if root.is_cancelled() {
        Answer::ExitNow
    } else {
        Answer::ShutDown
    }
}

async fn next_signal(terminate: &mut Signal, interrupt: &mut Signal) -> Received {
    tokio::select! {
        _ = terminate.recv() => Received { kind: SignalKind::terminate(), name: "SIGTERM" },
        _ = interrupt.recv() => Received { kind: SignalKind::interrupt(), name: "SIGINT" },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_signal_exits_at_once() {
        let root = CancellationToken::new();

        assert_eq!(answer(&root), Answer::ShutDown);
        root.cancel();
        assert_eq!(answer(&root), Answer::ExitNow);
    }

    #[tokio::test(start_paused = true)]
    async fn draining_ends_when_the_tasks_do() {
        let tasks = TaskTracker::new();
        tasks.spawn(tokio::time::sleep(Duration::from_secs(1)));

        assert!(drain("sessions", &tasks, Duration::from_secs(5)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn draining_ends_at_its_deadline() {
        let tasks = TaskTracker::new();
        let started = tokio::time::Instant::now();
        tasks.spawn(tokio::time::sleep(Duration::from_secs(60)));

        let drained = drain("sessions", &tasks, Duration::from_secs(5)).await;

        assert!(!drained);
        assert_eq!(started.elapsed(), Duration::from_secs(5));
    }
}
