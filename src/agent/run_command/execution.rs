//! One step of a document, of a command or of another step: whether it runs, its plugin, once for each
//! set of properties, and what its document makes of how it ended.

use std::panic::AssertUnwindSafe;
use std::path::Path;

use futures_util::FutureExt as _;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::Services;
use super::precondition::{Verdict, judge};
use super::report::{merge, short_output, short_stream};
use super::settings::Settings;
use super::state::{StepResult, StepState};
use super::steps::script::{EXIT_BADLY, EXIT_WELL};
use super::steps::{self, Begun, Ended, Streams, Task};
use crate::protocol::wire::command::Status;
use crate::protocol::wire::job::CommandId;

/// What the steps of one document have in common.
pub(super) struct Surroundings<'a> {
    pub(super) settings: &'a Settings,
    pub(super) services: &'a Services,
    pub(super) command: &'a CommandId,
    /// The document's folder.
    pub(super) folder: &'a Path,
    /// The boot of the host.
    pub(super) boot_id: &'a str,
    /// The names of the steps that they are part of, each followed by a slash.
    pub(super) within: &'a str,
    /// How many those are.
    pub(super) depth: u32,
}

/// Runs the step at `index`; also gives the files with its output.
pub(super) async fn run_step(
    surroundings: &Surroundings<'_>,
    steps: &[StepState],
    index: usize,
    begun: Begun,
    cancel: &CancellationToken,
) -> (Done, Vec<Streams>) {
    let step = &steps[index];
    if is_left_out(steps, index) {
        let text = format!(
            "Plugin with name {} and id {} skipped due to prior step with an exit condition",
            step.name, step.id
        );
        return (Done::skipped(text), Vec::new());
    }
    let configuration = &step.configuration;
    let verdict = judge(
        &step.name,
        &step.id,
        &configuration.preconditions,
        configuration.is_precondition_enabled,
    );
    match verdict {
        Verdict::Run => {}
        Verdict::Skip(text) => return (Done::skipped(text), Vec::new()),
        Verdict::Fail(text) => return (Done::failed(text), Vec::new()),
    }
    let running = run_plugin(surroundings, step, begun, cancel);
    // What a plugin gets wrong must not take the agent with it.
    let ended = AssertUnwindSafe(running).catch_unwind().await;
    let ended = ended.unwrap_or_else(|panic| {
        let message = panic_text(&*panic);
        error!(command = %surroundings.command, step = step.id, message, "a plugin panicked");
        vec![Ended::failed(format!(
            "Plugin crashed with message {message}!"
        ))]
    });
    let done = Done::of(&configuration.properties, &ended);
    let streams = ended.into_iter().filter_map(|ended| ended.streams);
    (done, streams.collect())
}

/// Whether the step with this result was begun; `noted` is the boot of the host in which the present
/// step of its document began.
pub(super) fn begun(result: &StepResult, noted: &str, boot_id: &str) -> Begun {
    if result.status != Status::InProgress {
        Begun::No
    } else if noted == boot_id {
        Begun::ThisBoot
    } else {
        Begun::EarlierBoot
    }
}

/// Runs a plugin once, or once for each of its sets of properties.
async fn run_plugin(
    surroundings: &Surroundings<'_>,
    step: &StepState,
    begun: Begun,
    cancel: &CancellationToken,
) -> Vec<Ended> {
    let properties = &step.configuration.properties;
    let sets = match properties {
        Value::Array(sets) => sets.as_slice(),
        one => std::slice::from_ref(one),
    };
    let mut ended = Vec::with_capacity(sets.len());
    for properties in sets {
        if cancel.is_cancelled() && begun == Begun::No {
            ended.push(Ended::cancelled());
            continue;
        }
        let task = Task {
            settings: surroundings.settings,
            services: surroundings.services,
            command: surroundings.command,
            folder: surroundings.folder,
            boot_id: surroundings.boot_id,
            within: surroundings.within,
            depth: surroundings.depth,
            plugin: &step.name,
            id: &step.id,
            properties,
            begun,
        };
        ended.push(steps::run(task, cancel).await);
    }
    ended
}

/// A step that is not over.
pub(super) fn is_due(status: &Status) -> bool {
    matches!(status, Status::NotStarted | Status::InProgress)
}

/// Whether a step ended so that the host has to start anew.
pub(super) fn asks_for_reboot(status: &Status) -> bool {
    matches!(status, Status::SuccessAndReboot | Status::PassedAndReboot)
}

/// Whether a step is left out because of how an earlier one ended.
fn is_left_out(steps: &[StepState], index: usize) -> bool {
    let is_last = index + 1 == steps.len();
    if is_last && modifier(&steps[index], "finallyStep").as_deref() == Some("true") {
        return false;
    }
    steps[..index].iter().any(|step| {
        let (status, code) = (&step.result.status, step.result.code);
        let on_failure = modifier(step, "onFailure");
        matches!(code, EXIT_WELL | EXIT_BADLY)
            || *status == Status::Failed && on_failure.is_some_and(|word| is_exit(&word))
            || *status == Status::Success && modifier(step, "onSuccess").as_deref() == Some("exit")
    })
}

fn is_exit(word: &str) -> bool {
    matches!(word, "exit" | "successAndExit")
}

/// A key among a step's inputs that says what follows it.
fn modifier(step: &StepState, name: &str) -> Option<String> {
    modifier_in(&step.configuration.properties, name)
}

fn modifier_in(properties: &Value, name: &str) -> Option<String> {
    match properties.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}

/// How a step ended, with what its document makes of it.
pub(super) struct Done {
    pub(super) status: Status,
    code: i64,
    /// Why it could not run.
    error: String,
    /// Both streams in short.
    short: String,
    output: String,
    error_output: String,
    /// Its own name.
    name: String,
}

impl Done {
    /// Notes it in the state of its step.
    pub(super) fn note(self, step: &mut StepState) {
        let result = &mut step.result;
        result.plugin_id.clone_from(&step.id);
        result.plugin_name.clone_from(&step.name);
        result.code = self.code;
        result.output = self.short;
        result.error = self.error;
        result.standard_output = short_stream(&self.output);
        result.standard_error = short_stream(&self.error_output);
        let configuration = &step.configuration;
        if !configuration.output_s3_bucket_name.is_empty() {
            result
                .output_s3_bucket_name
                .clone_from(&configuration.output_s3_bucket_name);
            result
                .output_s3_key_prefix
                .clone_from(&configuration.output_s3_key_prefix);
            result.step_name = self.name;
        }
        result.end(self.status);
    }

    /// A step that was left out.
    pub(super) fn skipped(text: String) -> Self {
        Self {
            status: Status::Skipped,
            code: 0,
            short: text,
            ..Self::failed(String::new())
        }
    }

    /// A step that somebody cancelled.
    pub(super) fn cancelled() -> Self {
        Self {
            status: Status::Cancelled,
            code: 1,
            ..Self::failed(String::new())
        }
    }

    /// A step that could not run at all.
    pub(super) fn failed(error: String) -> Self {
        Self {
            status: Status::Failed,
            code: 0,
            error,
            short: String::new(),
            output: String::new(),
            error_output: String::new(),
            name: String::new(),
        }
    }

    /// Joins what the sets of properties gave, and applies the exit codes and the inputs that end a
    /// document.
    fn of(properties: &Value, ended: &[Ended]) -> Self {
        let mut done = Self {
            status: Status::Skipped,
            ..Self::failed(String::new())
        };
        for ended in ended {
            append(&mut done.output, &ended.output);
            append(&mut done.error_output, &ended.error_output);
            if done.code == 0 {
                done.code = ended.code;
            }
            done.status = merge(done.status, ended.status.clone());
            if let Some(streams) = &ended.streams {
                done.name.clone_from(&streams.name);
            }
        }
        done.short = short_output(&done.output, &done.error_output);
        let on_failure = modifier_in(properties, "onFailure").filter(|word| is_exit(word));
        let stop = |marked: &str| {
            format!(
                "\nStep exited with code {}. Therefore, marking step as {marked}. Further document steps will be skipped.",
                done.code
            )
        };
        match done.code {
            EXIT_WELL => {
                let text = stop("succeeded");
                done.short = short_output(&done.output, "");
                done.status = Status::Success;
                done.error_output.clear();
                done.output.push_str(&text);
            }
            EXIT_BADLY => {
                let text = stop("Failed");
                done.error_output.push_str(&text);
                done.output.push_str(&text);
            }
            _ if done.status == Status::Failed
                && let Some(word) = on_failure =>
            {
                let text = "\nStep was found to have onFailure property. Further document steps will be skipped.";
                done.error_output.push_str(text);
                done.output.push_str(text);
                if word == "successAndExit" {
                    done.status = Status::Success;
                    done.code = EXIT_WELL;
                }
            }
            _ => {}
        }
        done
    }
}

/// Joins outputs of several runs by newlines.
pub(super) fn append(joined: &mut String, more: &str) {
    if !joined.is_empty() {
        joined.push('\n');
    }
    joined.push_str(more);
}
