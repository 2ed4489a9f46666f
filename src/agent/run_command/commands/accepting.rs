//! Taking a job: reading it, looking up what it refers to, keeping it, answering.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::super::document::{Document, Refusal};
use super::super::report;
use super::super::route::Route;
use super::super::runner::blocking;
use super::super::state::DocumentState;
use super::super::validators::Invalid;
use super::Commands;
use super::draft::{Draft, draft};
use crate::agent::audit::{Event as Happened, Text};
use crate::agent::parameter_store::look_up;
use crate::protocol::wire::command::{CancelCommand, SendCommand, Status};
use crate::protocol::wire::job::{CommandId, Job, JobAnswer, Subject};
use crate::protocol::wire::session_document::StoredParameters;
use crate::protocol::wire::{DecodeError, Message, MessageId};

/// What looking up parameters may take, so that a job is answered.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(30);

/// A job that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arrival {
    /// By which it came.
    pub(super) route: Route,
    pub(super) job_id: String,
    pub(super) command: CommandId,
    /// The message that brought it.
    pub(super) id: MessageId,
    pub(super) created_ms: u64,
}

/// Why a command cannot be run.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejected {
    #[error(transparent)]
    Unreadable(#[from] DecodeError),
    #[error("encountered error while parsing input - {0}")]
    Document(#[from] Refusal),
    #[error("{0}")]
    Parameters(String),
    #[error(transparent)]
    Values(#[from] Invalid),
    #[error("the command is {got:?}, the job is for {expected}")]
    OtherCommand { got: String, expected: CommandId },
    #[error("the command was cancelled before it began")]
    Cancelled,
}

impl Commands {
    /// Takes or refuses a job.
    pub(super) async fn handle_job(&mut self, route: Route, message: &Message) {
        let job = match Job::decode(&message.payload) {
            Ok(job) => job,
            Err(error) => {
                warn!(%error, "a job is not understood");
                if let Some(job_id) = Job::find_id(&message.payload) {
                    self.refuse_unreadable(route, message, job_id, &error).await;
                }
                return;
            }
        };
        let command = match CommandId::of_job(&job.job_id) {
            Ok(command) => command,
            Err(error) => {
                warn!(%error, "a job is not understood");
                self.refuse_unreadable(route, message, job.job_id, &error)
                    .await;
                return;
            }
        };
        let arrival = Arrival {
            route,
            command,
            id: message.id,
            created_ms: message.created_ms,
            job_id: job.job_id.clone(),
        };
        match job.subject() {
            _ if self.settings.in_container => {
                self.answer(&arrival, JobAnswer::ContainerNotSupported);
            }
            Some(Subject::Send) => self.handle_send(&arrival, &job.content).await,
            Some(Subject::Cancel) => self.handle_cancel(&arrival, &job.content).await,
            None => self.answer(&arrival, JobAnswer::UnexpectedDocumentType),
        }
    }

    /// Answers a job of which no more than its id is known; one that is no id names nobody.
    async fn refuse_unreadable(
        &mut self,
        route: Route,
        message: &Message,
        job_id: String,
        why: &DecodeError,
    ) {
        let Ok(command) = CommandId::of_job(&job_id).or_else(|_| CommandId::new("unknown")) else {
            return;
        };
        let arrival = Arrival {
            route,
            command,
            id: message.id,
            created_ms: message.created_ms,
            job_id,
        };
        self.refuse(&arrival, &why.to_string()).await;
    }

    async fn handle_send(&mut self, arrival: &Arrival, content: &str) {
        let command = &arrival.command;
        if self.resolving.contains_key(command) {
            // Its answer comes.
            return;
        }
        if self.is_known(command).await {
            info!(%command, "the command is known already");
            self.answer(arrival, JobAnswer::DuplicateCommand);
            return;
        }
        if self.queue.len() >= self.settings.queue {
            warn!(%command, limit = self.settings.queue, "too many commands wait");
            self.answer(arrival, JobAnswer::ProcessorBufferFull);
            return;
        }
        let send = SendCommand::decode(content).map_err(Rejected::from);
        self.handle_command(arrival, send).await;
    }

    /// Takes or refuses a command that is new.
    pub(super) async fn handle_command(
        &mut self,
        arrival: &Arrival,
        send: Result<SendCommand, Rejected>,
    ) {
        let command = &arrival.command;
        let (send, document) = match send.and_then(|send| read(arrival, send)) {
            Ok(read) => read,
            Err(rejected) => return self.handle_draft(arrival, Err(rejected)).await,
        };
        let names = document.references(&send.parameters);
        let settings = Arc::clone(&self.settings);
        if names.is_empty() {
            let stored = StoredParameters::default();
            let draft = draft(&settings, arrival, &send, &document, &stored);
            return self.handle_draft(arrival, draft).await;
        }
        let cancel = CancellationToken::new();
        self.resolving.insert(command.clone(), cancel.clone());
        let (arrival, parameters) = (arrival.clone(), self.parameters.clone());
        self.lookups.spawn(async move {
            let looking_up = timeout(LOOKUP_PATIENCE, look_up(parameters.as_deref(), &names));
            let Some(looked_up) = cancel.run_until_cancelled(looking_up).await else {
                return (arrival, Err(Rejected::Cancelled));
            };
            let stored = looked_up.unwrap_or_else(|_| {
                let (names, seconds) = (names.join(", "), LOOKUP_PATIENCE.as_secs());
                Err(format!(
                    "Parameter Store did not answer for {names} within {seconds} s"
                ))
            });
            let drafted = stored
                .map_err(Rejected::Parameters)
                .and_then(|stored| draft(&settings, &arrival, &send, &document, &stored));
            (arrival, drafted)
        });
    }

    pub(super) async fn is_known(&self, command: &CommandId) -> bool {
        let is_here = self.running.contains_key(command)
            || self.queue.iter().any(|(waiting, _)| waiting == command);
        let (journal, asked) = (self.runner.journal.clone(), command.clone());
        is_here
            || blocking(move || Ok(journal.knows(&asked)))
                .await
                .unwrap_or(false)
    }

    /// Takes a command whose parameters were looked up, unless somebody cancelled it meanwhile.
    pub(super) async fn handle_resolved(
        &mut self,
        arrival: &Arrival,
        draft: Result<Draft, Rejected>,
    ) {
        let lookup = self.resolving.remove(&arrival.command);
        if lookup.is_some_and(|lookup| lookup.is_cancelled()) {
            self.end_cancelled(arrival).await;
        } else {
            self.handle_draft(arrival, draft).await;
        }
    }

    /// Keeps a command and answers its job.
    pub(super) async fn handle_draft(&mut self, arrival: &Arrival, draft: Result<Draft, Rejected>) {
        let command = &arrival.command;
        let mut state = match draft {
            Ok(draft) => draft.state,
            Err(rejected) => {
                warn!(%command, error = %rejected, "the command cannot be run");
                self.refuse(arrival, &rejected.to_string()).await;
                return self.remember(arrival).await;
            }
        };
        // What begins at once is noted as begun at once: one durable write instead of two.
        let route = arrival.route;
        let mut waiting = self.queue.iter().map(|(_, state)| Route::of_state(state));
        let begins = self.has_free_worker(route) && !waiting.any(|other| other == route);
        if begins {
            self.runner.begin(&mut state);
        }
        let (journal, id, kept) = (self.runner.journal.clone(), command.clone(), state.clone());
        let accepting = blocking(move || {
            if begins {
                journal.accept_begun(&id, &kept)
            } else {
                journal.accept(&id, &kept)
            }
        });
        if let Err(error) = accepting.await {
            warn!(%command, %error, "the command cannot be kept on disk");
            let why = format!("the command cannot be kept on the disk of the host: {error}");
            // It is not remembered: offered again, it may find room.
            return self.refuse(arrival, &why).await;
        }
        info!(%command, document = state.document_information.document_name, "command accepted");
        let steps = state.instance_plugins_information.iter();
        let steps: Vec<String> = steps
            .map(|step| format!("{} {}", step.id, step.name))
            .collect();
        self.audit.record(&Happened::CommandAccepted {
            command,
            document: Text::from(&state.document_information.document_name),
            steps: Text::from(steps.join(", ")),
        });
        self.answer(arrival, JobAnswer::Successful);
        self.settle(command, true).await;
        if begins {
            self.start(command.clone(), state);
        } else {
            self.queue.push_back((command.clone(), state));
        }
    }

    /// Refuses a command and says why. The reference keeps the reason to itself.
    async fn refuse(&mut self, arrival: &Arrival, why: &str) {
        self.answer(arrival, JobAnswer::ParseError);
        self.audit.record(&Happened::CommandRefused {
            command: &arrival.command,
            refusal: Text::from(why),
        });
        if arrival.route == Route::Local {
            return self.settle(&arrival.command, false).await;
        }
        let result = report::not_run(arrival.route, &arrival.job_id, Status::Failed, why);
        self.keep_and_send(Uuid::new_v4(), result).await;
    }

    /// Ends a command of which nothing is on disk yet as cancelled. Whoever offers it again is told that
    /// it was taken.
    async fn end_cancelled(&mut self, arrival: &Arrival) {
        let command = &arrival.command;
        info!(%command, "command is cancelled before it was kept");
        let why = Rejected::Cancelled.to_string();
        let result = report::not_run(arrival.route, &arrival.job_id, Status::Cancelled, &why);
        self.keep_and_send(Uuid::new_v4(), result).await;
        self.remember(arrival).await;
        self.answer(arrival, JobAnswer::Successful);
        self.settle(command, true).await;
        self.audit.record(&Happened::CommandCancelled { command });
        self.note_end(command, &Status::Cancelled);
    }

    /// A command that was refused once is not refused again when it is offered again: its reply is on
    /// its way.
    async fn remember(&self, arrival: &Arrival) {
        let (journal, command) = (self.runner.journal.clone(), arrival.command.clone());
        let kind = arrival.route.document_type();
        let remembered = blocking(move || {
            journal.remember(&command, kind);
            Ok(())
        });
        // Where it is not, it is refused twice.
        let _ = remembered.await;
    }

    async fn handle_cancel(&mut self, arrival: &Arrival, content: &str) {
        let target = CancelCommand::decode(content)
            .and_then(|cancel| CommandId::of_job(&cancel.cancel_message_id));
        let target = match target {
            Ok(target) => target,
            Err(error) => {
                warn!(%error, "a cancellation is not understood");
                self.answer(arrival, JobAnswer::ParseError);
                return;
            }
        };
        self.answer(arrival, JobAnswer::Successful);
        if let Some(running) = self.running.get(&target) {
            info!(command = %target, "command is cancelled");
            running.cancel.cancel();
            self.audit
                .record(&Happened::CommandCancelled { command: &target });
        } else if let Some(at) = self
            .queue
            .iter()
            .position(|(waiting, _)| *waiting == target)
        {
            if let Some((command, state)) = self.queue.remove(at) {
                info!(%command, "command is cancelled before it began");
                self.cancel_waiting(&command, state).await;
            }
        } else if let Some(lookup) = self.resolving.get(&target) {
            info!(command = %target, "command is cancelled while its parameters are looked up");
            lookup.cancel();
        } else {
            info!(command = %target, "command to cancel is not here");
        }
    }

    /// The reference leaves the service without a word of such a command.
    async fn cancel_waiting(&mut self, command: &CommandId, mut state: DocumentState) {
        for step in &mut state.instance_plugins_information {
            step.result.plugin_id.clone_from(&step.id);
            step.result.plugin_name.clone_from(&step.name);
            step.result.code = 1;
            step.result.end(Status::Cancelled);
        }
        report::conclude(&mut state);
        self.audit.record(&Happened::CommandCancelled { command });
        self.note_end(command, &Status::Cancelled);
        let id = Uuid::parse_str(&state.document_information.final_reply_id);
        let id = id.unwrap_or_else(|_| Uuid::new_v4());
        self.keep_and_send(id, report::at_end(&state)).await;
        let (journal, ended) = (self.runner.journal.clone(), command.clone());
        if let Err(error) = blocking(move || journal.finish(&ended)).await {
            warn!(%command, %error, "the state of a cancelled command cannot be deleted");
        }
    }
}

fn read(arrival: &Arrival, send: SendCommand) -> Result<(SendCommand, Document), Rejected> {
    if send.command_id != arrival.command.as_str() {
        return Err(Rejected::OtherCommand {
            got: send.command_id,
            expected: arrival.command.clone(),
        });
    }
    let document = Document::read(&send.document_content)?;
    Ok((send, document))
}
