//! Runs one document: its steps in order, what is noted on the way, and what is told.
//!
//! The order at the end makes one final reply of it, wherever the agent dies: the reply's id is in
//! the state from the beginning, the reply goes to disk, the state goes, the reply goes out.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::Services;
use super::execution::{self, Done, Surroundings, asks_for_reboot, is_due, run_step};
use super::journal::Journal;
use super::output::OutputSink;
use super::replies::{Reply, Store};
use super::report::{after_step, at_end, conclude};
use super::settings::{FolderCleanUp, OutputCleanUp, Settings};
use super::state::{DocumentResult, DocumentState, StepState};
use super::steps::{Begun, Streams};
use super::worker::{PATIENCE, Told, Worker};
use crate::protocol::wire::command::Status;
use crate::protocol::wire::job::CommandId;

/// Why a step has failed that a worker of the reference may have run.
const NOT_TOLD: &str = "the agent before this one had begun the command, and how this step ended is not known; it is not run again";

/// What follows once a document has run as far as it can.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    /// Nothing; it ended so.
    Ended(Status),
    /// The host has to start anew for it to go on.
    Reboot(Box<DocumentState>),
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
        let information = &state.document_information;
        // No step begins here without it.
        if information.run_count > 0 && information.boot_id.is_empty() {
            self.take_over(&command, &mut state, &cancel).await;
        }
        let count = state.instance_plugins_information.len();
        for index in 0..count {
            let status = &state.instance_plugins_information[index].result.status;
            if asks_for_reboot(status) {
                break;
            }
            if !is_due(status) {
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
            let done = match saved {
                Ok(()) => self.run_step(&command, &state, index, begun, &cancel).await,
                Err(error) => Done::failed(format!("cannot note how far the command is: {error}")),
            };
            let step = &mut state.instance_plugins_information[index];
            done.note(step);
            info!(%command, step = step.id, status = step.result.status.as_str(), "step ended");
            let (id, status) = (step.id.clone(), step.result.status.clone());
            // The reply at the end tells of a step that is the only one.
            if count > 1 {
                self.tell(Uuid::new_v4(), after_step(&state, &id)).await;
            }
            if asks_for_reboot(&status) {
                break;
            }
        }
        self.end(&command, state).await
    }

    /// Takes a command over that the reference began. Its worker is waited for, and what it told of steps
    /// holds; a step of which it told nothing may have run, and is not run again. As in the reference, failed
    /// steps are told again.
    async fn take_over(
        &self,
        command: &CommandId,
        state: &mut DocumentState,
        cancel: &CancellationToken,
    ) {
        let steps = state.instance_plugins_information.iter();
        let failed = steps.filter(|step| step.result.status == Status::Failed);
        let mut changed: Vec<String> = failed.map(|step| step.id.clone()).collect();
        let (settings, named) = (Arc::clone(&self.settings), command.clone());
        let left = blocking(move || Ok(Worker::left(&settings, &named))).await;
        let worker = left.unwrap_or_default();
        if let Some(worker) = &worker {
            info!(%command, "the command has a worker of another agent");
            let is_cancelled = tokio::select! {
                _ = timeout(PATIENCE, worker.ended()) => false,
                () = cancel.cancelled() => {
                    worker.kill().await;
                    true
                }
            };
            changed.extend(note_told(state, worker.told(), is_cancelled));
        }
        state.document_information.boot_id.clone_from(&self.boot_id);
        match self.save(command, state).await {
            Ok(()) => worker.iter().for_each(Worker::forget),
            Err(error) => {
                warn!(%command, %error, "cannot note what another agent did of a command");
            }
        }
        self.tell_steps(state, &changed).await;
    }

    /// Ends a document for which the host did not start anew: the step that asked for it has failed, those
    /// after it are left out.
    pub(super) async fn end_without_reboot(
        self,
        command: CommandId,
        mut state: DocumentState,
        why: String,
    ) -> Outcome {
        warn!(%command, why, "a command cannot go on");
        let mut changed = Vec::new();
        for step in &mut state.instance_plugins_information {
            let status = &step.result.status;
            if asks_for_reboot(status) {
                step.result.fail(&why);
            } else if is_due(status) {
                let text = format!(
                    "Plugin with name {} and id {} skipped: {why}",
                    step.name, step.id
                );
                Done::skipped(text).note(step);
            } else {
                continue;
            }
            changed.push(step.id.clone());
        }
        let information = &mut state.document_information;
        information.document_status = Status::InProgress;
        // The reply that told of the reboot has the other one.
        information.final_reply_id = Uuid::new_v4().to_string();
        self.end_told(&command, state, &changed).await
    }

    /// Ends a document whose steps `changed` are over by now, which nobody was told.
    async fn end_told(
        &self,
        command: &CommandId,
        state: DocumentState,
        changed: &[String],
    ) -> Outcome {
        if let Err(error) = self.save(command, &state).await {
            warn!(%command, %error, "cannot note how the steps of a command ended");
        }
        self.tell_steps(&state, changed).await;
        self.end(command, state).await
    }

    /// Tells of these steps, unless the reply at the end does.
    async fn tell_steps(&self, state: &DocumentState, ids: &[String]) {
        if state.instance_plugins_information.len() > 1 {
            for id in ids {
                self.tell(Uuid::new_v4(), after_step(state, id)).await;
            }
        }
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
        let boot_id = &state.document_information.boot_id;
        execution::begun(result, boot_id, &self.boot_id)
    }

    async fn run_step(
        &self,
        command: &CommandId,
        state: &DocumentState,
        index: usize,
        begun: Begun,
        cancel: &CancellationToken,
    ) -> Done {
        let surroundings = Surroundings {
            settings: &self.settings,
            services: &self.services,
            command,
            folder: &self.folder(command, state),
            boot_id: &self.boot_id,
            within: "",
            depth: 0,
        };
        let steps = &state.instance_plugins_information;
        let (done, streams) = run_step(&surroundings, steps, index, begun, cancel).await;
        self.upload(state, &steps[index], &done, &streams).await;
        done
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
    async fn upload(
        &self,
        state: &DocumentState,
        step: &StepState,
        done: &Done,
        streams: &[Streams],
    ) {
        let is_over = done.status != Status::SuccessAndReboot;
        for streams in streams {
            let is_stored = match &self.sink {
                Some(sink) => {
                    sink.bring(&state.io_config, &step.name, &step.id, streams)
                        .await
                }
                None => false,
            };
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
            Outcome::Reboot(Box::new(state))
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

/// Notes what a worker told of steps that are not over; returns which those are.
fn note_told(state: &mut DocumentState, mut told: Told, is_cancelled: bool) -> Vec<String> {
    let mut changed = Vec::new();
    for step in &mut state.instance_plugins_information {
        if !is_due(&step.result.status) {
            continue;
        }
        changed.push(step.id.clone());
        let result = told.results.remove(&step.id);
        match result.filter(|result| !is_due(&result.status)) {
            Some(result) if asks_for_reboot(&result.status) => {
                // What follows it has not begun.
                step.result = result;
                break;
            }
            Some(result) => step.result = result,
            None if is_cancelled => Done::cancelled().note(step),
            None => Done::failed(NOT_TOLD.to_owned()).note(step),
        }
    }
    changed
}

/// Runs what blocks on a thread for that.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(std::io::Error::other)?
}
