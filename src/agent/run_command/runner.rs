//! Runs one document: its steps in order, what is noted on the way, and what is told.
//!
//! The order at the end makes one final reply of it, wherever the agent dies: the reply's id is in
//! the state from the beginning, the reply goes to disk, the state goes, the reply goes out.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::FutureExt as _;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::Services;
use super::journal::Journal;
use super::output::OutputSink;
use super::precondition::{Verdict, judge};
use super::replies::{Reply, Store};
use super::report::{after_step, at_end, conclude, merge, short_output, short_stream};
use super::settings::{FolderCleanUp, OutputCleanUp, Settings};
use super::state::{DocumentResult, DocumentState, StepState};
use super::steps::script::{EXIT_BADLY, EXIT_WELL};
use super::steps::{self, Begun, Ended, Task};
use crate::protocol::wire::command::Status;
use crate::protocol::wire::job::CommandId;

/// What follows once a document has run as far as it can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing; it ended so.
    Ended(Status),
    /// The host has to start anew.
    Reboot,
}

/// What running a document takes.
#[derive(Clone)]
pub(super) struct Runner {
    pub(super) settings: Arc<Settings>,
    pub(super) services: Services,
    pub(super) journal: Journal,
    pub(super) store: Store,
    pub(super) replies: mpsc::Sender<Reply>,
    pub(super) sink: Option<Arc<OutputSink>>,
    /// The boot of the host.
    pub(super) boot_id: String,
}

impl Runner {
    /// Runs a document to its end.
    pub(super) async fn run(
        self,
        command: CommandId,
        mut state: DocumentState,
        cancel: CancellationToken,
    ) -> Outcome {
        info!(%command, document = state.document_information.document_name, "command runs");
        let count = state.instance_plugins_information.len();
        for index in 0..count {
            if !is_due(&state.instance_plugins_information[index].result.status) {
                continue;
            }
            let begun = self.begun(&state, index);
            if begun == Begun::No {
                state.instance_plugins_information[index].result.begin();
            }
            let saved = if begun == Begun::ThisBoot {
                // So it is on disk.
                Ok(())
            } else {
                state.document_information.boot_id.clone_from(&self.boot_id);
                self.save(&command, &state).await
            };
            let ended = match saved {
                Ok(()) => self.run_step(&command, &state, index, begun, &cancel).await,
                Err(error) => Done::failed(format!("cannot note how far the command is: {error}")),
            };
            let step = &mut state.instance_plugins_information[index];
            self.note(step, ended);
            info!(%command, step = step.id, status = step.result.status.as_str(), "step ended");
            let (id, status) = (step.id.clone(), step.result.status.clone());
            // The reply at the end tells of a step that is the only one.
            if count > 1 {
                self.tell(Uuid::new_v4(), after_step(&state, &id)).await;
            }
            if matches!(status, Status::SuccessAndReboot | Status::PassedAndReboot) {
                break;
            }
        }
        self.end(&command, state).await
    }

    /// Marks a new command as one whose first step begins now.
    pub(super) fn begin(&self, state: &mut DocumentState) {
        state.document_information.boot_id.clone_from(&self.boot_id);
        if let Some(first) = state.instance_plugins_information.first_mut() {
            first.result.begin();
        }
    }

    fn begun(&self, state: &DocumentState, index: usize) -> Begun {
        let result = &state.instance_plugins_information[index].result;
        if result.status != Status::InProgress {
            Begun::No
        } else if state.document_information.boot_id == self.boot_id {
            Begun::ThisBoot
        } else {
            Begun::EarlierBoot
        }
    }

    async fn run_step(
        &self,
        command: &CommandId,
        state: &DocumentState,
        index: usize,
        begun: Begun,
        cancel: &CancellationToken,
    ) -> Done {
        let steps = &state.instance_plugins_information;
        let step = &steps[index];
        if is_left_out(steps, index) {
            return Done::skipped(format!(
                "Plugin with name {} and id {} skipped due to prior step with an exit condition",
                step.name, step.id
            ));
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
            Verdict::Skip(text) => return Done::skipped(text),
            Verdict::Fail(text) => return Done::failed(text),
        }
        let running = self.run_plugin(command, state, step, begun, cancel);
        // What a plugin gets wrong must not take the agent with it.
        let ended = AssertUnwindSafe(running).catch_unwind().await;
        let ended = ended.unwrap_or_else(|panic| {
            let message = panic_text(&*panic);
            error!(%command, step = step.id, message, "a plugin panicked");
            vec![Ended::failed(format!(
                "Plugin crashed with message {message}!"
            ))]
        });
        self.upload(state, step, &ended).await;
        Done::of(&configuration.properties, ended)
    }

    /// Runs a plugin once, or once for each of its sets of properties.
    async fn run_plugin(
        &self,
        command: &CommandId,
        state: &DocumentState,
        step: &StepState,
        begun: Begun,
        cancel: &CancellationToken,
    ) -> Vec<Ended> {
        let properties = &step.configuration.properties;
        let sets = match properties {
            Value::Array(sets) => sets.as_slice(),
            one => std::slice::from_ref(one),
        };
        let folder = self.folder(command, state);
        let mut ended = Vec::with_capacity(sets.len());
        for properties in sets {
            if cancel.is_cancelled() && begun == Begun::No {
                ended.push(Ended::cancelled());
                continue;
            }
            let task = Task {
                settings: &self.settings,
                services: &self.services,
                command,
                folder: &folder,
                plugin: &step.name,
                id: &step.id,
                properties,
                begun,
            };
            ended.push(steps::run(task, cancel).await);
        }
        ended
    }

    /// The command's folder; a document that the reference began has its own.
    fn folder(&self, command: &CommandId, state: &DocumentState) -> PathBuf {
        match state.io_config.orchestration_directory.as_str() {
            "" => self.settings.orchestration().join(command.as_str()),
            folder => folder.into(),
        }
    }

    /// Brings a step's output to where the command wants it, and deletes it here if the configuration
    /// says so. A failure changes nothing for the command, as in the reference.
    async fn upload(&self, state: &DocumentState, step: &StepState, ended: &[Ended]) {
        for one in ended {
            let Some(streams) = &one.streams else {
                continue;
            };
            let is_stored = match &self.sink {
                Some(sink) => {
                    sink.bring(&state.io_config, &step.name, &step.id, streams)
                        .await
                }
                None => false,
            };
            let is_over = one.status != Status::SuccessAndReboot;
            let is_done_with = match self.settings.output_clean_up {
                OutputCleanUp::ByAge => false,
                OutputCleanUp::AfterExecution => is_over,
                OutputCleanUp::AfterUpload => is_over && is_stored,
            };
            if is_done_with {
                for path in [streams.output(), streams.error_output()] {
                    if let Err(error) = std::fs::remove_file(&path) {
                        warn!(path = %path.display(), %error, "output cannot be deleted");
                    }
                }
            }
        }
    }

    /// Deletes the folder of a command that is over, if the configuration says so.
    async fn clean_up(&self, command: &CommandId, state: &DocumentState) {
        let is_done_with = match (
            self.settings.folder_clean_up,
            &state.document_information.document_status,
        ) {
            (FolderCleanUp::ByAge, _) => false,
            (FolderCleanUp::Success, status) => *status == Status::Success,
            (FolderCleanUp::SuccessAndFailure, status) => {
                matches!(status, Status::Success | Status::Failed)
            }
        };
        if !is_done_with {
            return;
        }
        let folder = self.folder(command, state);
        let removed = blocking(move || std::fs::remove_dir_all(folder)).await;
        if let Err(error) = removed
            && error.kind() != std::io::ErrorKind::NotFound
        {
            warn!(%command, %error, "the folder of a command that is over cannot be deleted");
        }
    }

    /// Notes how a step ended.
    fn note(&self, step: &mut StepState, done: Done) {
        let result = &mut step.result;
        result.plugin_id.clone_from(&step.id);
        result.plugin_name.clone_from(&step.name);
        result.code = done.code;
        result.output = done.short;
        result.error = done.error;
        result.standard_output = short_stream(&done.output);
        result.standard_error = short_stream(&done.error_output);
        let configuration = &step.configuration;
        if !configuration.output_s3_bucket_name.is_empty() {
            result
                .output_s3_bucket_name
                .clone_from(&configuration.output_s3_bucket_name);
            result
                .output_s3_key_prefix
                .clone_from(&configuration.output_s3_key_prefix);
            result.step_name = done.name;
        }
        result.end(done.status);
    }

    async fn end(&self, command: &CommandId, mut state: DocumentState) -> Outcome {
        conclude(&mut state);
        let status = state.document_information.document_status.clone();
        let is_reboot = status == Status::SuccessAndReboot;
        if is_reboot && let Err(error) = self.save(command, &state).await {
            // Its steps would run again from the first, after a reboot that nobody expects then.
            warn!(%command, %error, "cannot note that a command goes on after a reboot");
        }
        let id = Uuid::parse_str(&state.document_information.final_reply_id);
        let id = id.unwrap_or_else(|_| Uuid::new_v4());
        let reply = self.keep(id, at_end(&state)).await;
        if !is_reboot {
            let (journal, ended) = (self.journal.clone(), command.clone());
            if let Err(error) = blocking(move || journal.finish(&ended)).await {
                warn!(%command, %error, "the state of a command that is over cannot be deleted");
            }
        }
        if !is_reboot {
            self.clean_up(command, &state).await;
        }
        info!(%command, status = status.as_str(), "command ended");
        // Without a receiver the agent stops; the reply is on disk.
        let _ = self.replies.send(reply).await;
        if is_reboot {
            Outcome::Reboot
        } else {
            Outcome::Ended(status)
        }
    }

    async fn tell(&self, id: Uuid, result: DocumentResult) {
        let reply = self.keep(id, result).await;
        let _ = self.replies.send(reply).await;
    }

    /// Puts a reply on disk, or finds it there. Where the disk takes none it is sent all the same.
    async fn keep(&self, id: Uuid, result: DocumentResult) -> Reply {
        let (store, kept) = (self.store.clone(), result.clone());
        let kept = blocking(move || match store.find(&id.to_string())? {
            Some(reply) => Ok(reply),
            None => store.keep(id, kept),
        });
        kept.await.unwrap_or_else(|error| {
            warn!(%error, "a reply cannot be kept on disk");
            self.store.in_memory(id, result)
        })
    }

    async fn save(&self, command: &CommandId, state: &DocumentState) -> std::io::Result<()> {
        let (journal, command, state) = (self.journal.clone(), command.clone(), state.clone());
        blocking(move || journal.save(&command, &state)).await
    }
}

/// Runs what blocks on a thread for that.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(std::io::Error::other)?
}

/// A step that is not over.
fn is_due(status: &Status) -> bool {
    matches!(status, Status::NotStarted | Status::InProgress)
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
struct Done {
    status: Status,
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
    fn skipped(text: String) -> Self {
        Self {
            status: Status::Skipped,
            code: 0,
            short: text,
            ..Self::failed(String::new())
        }
    }

    fn failed(error: String) -> Self {
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
    fn of(properties: &Value, ended: Vec<Ended>) -> Self {
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
            done.status = merge(done.status, ended.status);
            if let Some(streams) = ended.streams {
                done.name = streams.name;
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
fn append(joined: &mut String, more: &str) {
    if !joined.is_empty() {
        joined.push('\n');
    }
    joined.push_str(more);
}
