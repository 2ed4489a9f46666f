//! `aws:runDocument`: another document, whose steps run as those of the command do.
//!
//! ```text
//! <folder>/<step>/                         the document's folder
//!   document-<digest of the inputs>.json   its steps with their parameters, and how far it is
//!   downloads/<name>.json                  the document, if Systems Manager has it
//!   <inner step>/, <inner plugin>/<inner step>/   scripts and streams, as in a command's folder
//! ```
//!
//! How far it is goes to disk before a step begins and after it ended, so that an agent that comes
//! next, or the same host after a reboot, goes on where the document was: no step runs twice that has
//! not asked for it. Unlike in the reference, a cancelled command ends the steps of the document too,
//! a step that asks for a reboot gets it even if another one failed, and the outputs are joined in the
//! order of the document.

mod inputs;
mod prepare;
mod progress;

use std::pin::Pin;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::inputs::Inputs;
use self::progress::Progress;
use super::super::execution::{
    self, Done, Surroundings, append, asks_for_reboot, is_due, run_step,
};
use super::super::report::merge;
use super::super::state::StepState;
use super::{Begun, Ended, Task};
use crate::protocol::wire::command::{STREAM_LIMIT, Status};

/// Documents within documents, as in the reference; what runs itself ends here.
const DEPTH: u32 = 3;
/// A document that does nothing, and needs not to be there.
const NOOP: &str = "AWS-Noop";
/// Longest output that is joined: more than a reply takes, so that it is seen to be longer.
const JOINED: usize = STREAM_LIMIT + 8;

/// Runs a document to its end, or goes on with one. It may have steps like this one.
pub(super) fn run<'a>(
    task: Task<'a>,
    cancel: &'a CancellationToken,
) -> Pin<Box<dyn Future<Output = Ended> + Send + 'a>> {
    Box::pin(async move {
        match run_document(&task, cancel).await {
            Ok(ended) => ended.with_streams(&task).await,
            Err(Stopped::Failed(why)) => Ended::failed(why).with_streams(&task).await,
            Err(Stopped::Cancelled) => Ended::cancelled(),
        }
    })
}

/// Why a document did not run.
enum Stopped {
    Failed(String),
    Cancelled,
}

impl From<String> for Stopped {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

async fn run_document(task: &Task<'_>, cancel: &CancellationToken) -> Result<Ended, Stopped> {
    let inputs = Inputs::read(task.properties)?;
    let depth = task.depth + 1;
    if depth > DEPTH {
        return Err(Stopped::Failed(format!(
            "Maximum depth for document execution exceeded. Maximum depth permitted - {DEPTH} and current depth - {depth}"
        )));
    }
    if inputs.path == NOOP {
        return Ok(Ended::succeeded(""));
    }
    let mut progress = match Progress::load(task).await? {
        Some(progress) => progress,
        None if cancel.is_cancelled() => return Err(Stopped::Cancelled),
        None => {
            let steps = tokio::select! {
                steps = prepare::steps(task, &inputs) => steps?,
                () = cancel.cancelled() => return Err(Stopped::Cancelled),
            };
            Progress::new(task, steps)
        }
    };
    if progress.boot_id != task.boot_id {
        // The reboot that it asked for was.
        for step in &mut progress.steps {
            if asks_for_reboot(&step.result.status) {
                step.result.status = Status::NotStarted;
            }
        }
    }
    run_steps(task, depth, &mut progress, cancel).await;
    Ok(conclude(&progress.steps))
}

async fn run_steps(
    task: &Task<'_>,
    depth: u32,
    progress: &mut Progress,
    cancel: &CancellationToken,
) {
    let folder = task.step_folder();
    let within = format!("{}{}/", task.within, task.id);
    let surroundings = Surroundings {
        settings: task.settings,
        services: task.services,
        command: task.command,
        folder: &folder,
        boot_id: task.boot_id,
        within: &within,
        depth,
    };
    for index in 0..progress.steps.len() {
        let result = &progress.steps[index].result;
        if asks_for_reboot(&result.status) {
            break;
        }
        if !is_due(&result.status) {
            continue;
        }
        let begun = execution::begun(result, &progress.boot_id, task.boot_id);
        if begun == Begun::No {
            progress.steps[index].result.begin();
        }
        let saved = if begun == Begun::ThisBoot {
            // So it is on disk.
            Ok(())
        } else {
            progress.boot_id = task.boot_id.to_owned();
            progress.save().await
        };
        let done = match saved {
            Ok(()) => {
                let steps = &progress.steps;
                run_step(&surroundings, steps, index, begun, cancel).await.0
            }
            Err(error) => Done::failed(format!("cannot note how far the document is: {error}")),
        };
        let step = &mut progress.steps[index];
        done.note(step);
        let status = step.result.status.as_str();
        info!(command = %task.command, step = format!("{within}{}", step.id), status, "step ended");
        if let Err(error) = progress.save().await {
            // An agent that comes next asks the step's plugin how it ended.
            warn!(command = %task.command, %error, "cannot note how far a document is");
        }
    }
}

/// How a document ended by its steps.
fn conclude(steps: &[StepState]) -> Ended {
    let mut ended = Ended {
        status: Status::Skipped,
        ..Ended::succeeded("")
    };
    for step in steps {
        let result = &step.result;
        if is_due(&result.status) {
            // It waits for a reboot.
            continue;
        }
        join(&mut ended.output, &result.standard_output);
        join(&mut ended.error_output, &result.standard_error);
        join(&mut ended.error_output, &result.error);
        ended.status = merge(ended.status, result.status.clone());
    }
    for joined in [&mut ended.output, &mut ended.error_output] {
        joined.truncate(joined.floor_char_boundary(JOINED));
    }
    let reboot = steps.iter().map(|step| &step.result.status);
    if let Some(status) = reboot.into_iter().find(|status| asks_for_reboot(status)) {
        ended.status = status.clone();
    }
    ended.code = match ended.status {
        Status::Success | Status::Skipped | Status::SuccessAndReboot | Status::PassedAndReboot => 0,
        Status::NotStarted
        | Status::InProgress
        | Status::Failed
        | Status::Cancelled
        | Status::TimedOut
        | Status::Unknown(_) => 1,
    };
    ended
}

/// Adds an output on a line of its own, as long as there is room.
fn join(joined: &mut String, more: &str) {
    if !more.is_empty() && joined.len() < JOINED {
        append(joined, more);
    }
}

#[cfg(test)]
mod tests;
