//! `Mds` and what concerns Run Command elsewhere.

use std::time::Duration;

use super::ConfigError;
use super::section::Section;
use crate::agent::run_command::{
    FolderCleanUp, OutputCleanUp, QUEUE, RETENTION, START_LIMIT, WORKERS,
};

/// `Mds.StopTimeoutMillis`: 20 s, as in the reference.
const DELIVERY_TIMEOUT_MS: i64 = 20_000;

const AFTER_EXECUTION: &str = "after-execution";
const AFTER_UPLOAD: &str = "after-upload";
const OUTPUT_CLEAN_UP: [&str; 3] = ["default", AFTER_EXECUTION, AFTER_UPLOAD];
const CLEAN_SUCCESS: &str = "clean-success";
const CLEAN_SUCCESS_FAILED: &str = "clean-success-failed";
const FOLDER_CLEAN_UP: [&str; 3] = ["default", CLEAN_SUCCESS, CLEAN_SUCCESS_FAILED];

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
    /// `Ssm.PluginLocalOutputCleanup`: when the files with a step's output are deleted before that.
    pub output_clean_up: OutputCleanUp,
    /// `Ssm.OrchestrationDirectoryCleanup`: when a command's folder is deleted before that.
    pub folder_clean_up: FolderCleanUp,
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
        output_clean_up: match ssm.one_of("PluginLocalOutputCleanup", &OUTPUT_CLEAN_UP)? {
            AFTER_EXECUTION => OutputCleanUp::AfterExecution,
            AFTER_UPLOAD => OutputCleanUp::AfterUpload,
            _ => OutputCleanUp::ByAge,
        },
        folder_clean_up: match ssm.one_of("OrchestrationDirectoryCleanup", &FOLDER_CLEAN_UP)? {
            CLEAN_SUCCESS => FolderCleanUp::Success,
            CLEAN_SUCCESS_FAILED => FolderCleanUp::SuccessAndFailure,
            _ => FolderCleanUp::ByAge,
        },
    })
}
