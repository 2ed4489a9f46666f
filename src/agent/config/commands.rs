//! `Mds` and what concerns Run Command elsewhere.

use std::time::Duration;

use super::ConfigError;
use super::section::Section;
use crate::agent::run_command::{QUEUE, RETENTION, START_LIMIT, WORKERS};

/// `Mds.StopTimeoutMillis`: 20 s, as in the reference.
const DELIVERY_TIMEOUT_MS: i64 = 20_000;

/// How commands run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandSettings {
    /// `Mds.CommandWorkersLimit`: commands at a time.
    pub workers: usize,
    /// `Mds.CommandWorkerBufferLimit`: commands that may wait. Its default is 1000, not 5 as in the
    /// reference.
    pub queue: usize,
    /// `Mds.CommandRetryLimit`: how often an agent may start with one command.
    pub start_limit: u32,
    /// `Mds.StopTimeoutMillis`: what a call to the message delivery service may take.
    pub delivery_timeout: Duration,
    /// `Ssm.RunCommandLogsRetentionDurationHours`: how long a command's folder is kept.
    pub retention: Duration,
}

/// Reads them; `mds` is taken up afterwards.
pub(super) fn read(mds: &mut Section, ssm: &mut Section) -> Result<CommandSettings, ConfigError> {
    const MANY: i64 = 100_000;
    let hours = i64::try_from(RETENTION.as_secs() / 3600).unwrap_or(i64::MAX);
    let hours: u64 = ssm.number("RunCommandLogsRetentionDurationHours", hours, 8..=87_600)?;
    let limit = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    Ok(CommandSettings {
        workers: mds.number("CommandWorkersLimit", limit(WORKERS), 1..=1000)?,
        queue: mds.number("CommandWorkerBufferLimit", limit(QUEUE), 1..=MANY)?,
        delivery_timeout: Duration::from_millis(mds.number(
            "StopTimeoutMillis",
            DELIVERY_TIMEOUT_MS,
            10_000..=1_000_000,
        )?),
        start_limit: mds.number("CommandRetryLimit", START_LIMIT.into(), 1..=100)?,
        retention: Duration::from_secs(hours * 3600),
    })
}
