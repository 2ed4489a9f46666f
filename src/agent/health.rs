//! The node's sign of life: `UpdateInstanceInformation` at the start and every few minutes.
//!
//! | when | what |
//! |---|---|
//! | first | the short form, which shows whether the node may report at all |
//! | after that | the full report |
//! | commands come by another way | the full report, so that the node shows as connected at once |
//! | after a random part of the interval, then every interval | the full report |
//!
//! A failure is no reason to stop anything, as it is in the reference, which hibernates: the report
//! is repeated with a back-off of at most 30 seconds while the rest of the agent works on.

mod platform;
mod report;

use std::time::Duration;

use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::connection::Way;
use crate::aws::{CallError, Client};
use crate::runtime::backoff::Backoff;

pub use platform::Platform;
use report::{Report, ShortReport};

const OPERATION: &str = "UpdateInstanceInformation";
/// First wait after a failed report.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait after failed reports.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

#[derive(Debug, Deserialize)]
struct Answer {}

/// Reports for the node until `cancel`. `way` tells by which way it gets its commands.
pub async fn run(
    node_id: String,
    interval: Duration,
    client: Client,
    way: watch::Receiver<Way>,
    cancel: CancellationToken,
) {
    let reporter = Reporter {
        interval,
        node_id,
        client,
        way,
        first_wait: FIRST_WAIT,
    };
    cancel.run_until_cancelled(reporter.run()).await;
}

struct Reporter {
    interval: Duration,
    node_id: String,
    client: Client,
    /// Seen as the last report said it.
    way: watch::Receiver<Way>,
    first_wait: Duration,
}

impl Reporter {
    async fn run(mut self) {
        self.insist(Form::Short).await;
        let mut next = Instant::now() + random_part(self.interval);
        loop {
            self.insist(Form::Full).await;
            if !self.wait_until(next).await {
                continue;
            }
            next = Instant::now() + self.interval;
        }
    }

    /// Waits until `next`, and returns true, or until commands come by another way.
    async fn wait_until(&mut self, next: Instant) -> bool {
        tokio::select! {
            () = tokio::time::sleep_until(next) => true,
            // Once whoever knows the way has ended, the next report is due at its time.
            Ok(()) = self.way.changed() => false,
        }
    }

    /// Reports until it succeeds.
    async fn insist(&mut self, form: Form) {
        let mut backoff = Backoff::new(self.first_wait, LONGEST_WAIT);
        let mut failures = 0_u64;
        while let Err(error) = self.send(form).await {
            let wait = backoff.next_wait();
            failures += 1;
            log_failure(&error, failures, wait);
            tokio::time::sleep(wait).await;
        }
        if failures > 0 {
            info!(failures, "health is reported again");
        } else {
            debug!(?form, "health is reported");
        }
    }

    async fn send(&mut self, form: Form) -> Result<(), CallError> {
        let Answer {} = match form {
            Form::Short => {
                let report = ShortReport::new(&self.node_id);
                self.client.ssm(OPERATION, &report).await?
            }
            Form::Full => {
                let way = self.way.borrow_and_update().name();
                let report = Report::gather(&self.node_id, way).await;
                self.client.ssm(OPERATION, &report).await?
            }
        };
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Short,
    Full,
}

/// A row of failures is one event for an operator.
fn log_failure(error: &CallError, failures: u64, wait: Duration) {
    let error = error as &dyn std::error::Error;
    if failures == 1 {
        warn!(
            error,
            ?wait,
            "health is not reported; trying again until it is"
        );
    } else {
        debug!(error, ?wait, failures, "health is still not reported");
    }
}

/// A random time shorter than `interval`: hosts that start together do not report together.
fn random_part(interval: Duration) -> Duration {
    let (random, _, _, _) = Uuid::new_v4().as_fields();
    interval.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests;
