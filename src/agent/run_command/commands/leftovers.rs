//! What an earlier run of the agent left: commands that it had taken, replies that nobody had.

use std::collections::HashSet;
use std::io;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tracing::{info, warn};
use uuid::Uuid;

use super::super::execution::asks_for_reboot;
use super::super::report;
use super::super::route::Route;
use super::super::runner::blocking;
use super::super::state::{DocumentResult, DocumentState};
use super::{Commands, now};
use crate::protocol::wire::command::Status;
use crate::protocol::wire::job::CommandId;

/// The service has given up a command of this age that it offered to polls, so it is not begun any more, as
/// in the reference. Those of the control channel have no such age there, as their dates are misread.
const OLDEST: Duration = Duration::from_hours(48);

impl Commands {
    /// Goes on with what an earlier run left, what it had begun first.
    pub(super) async fn go_on(&mut self) -> io::Result<()> {
        let (journal, store) = (self.runner.journal.clone(), self.runner.store.clone());
        let (left, replies) = blocking(move || Ok((journal.load()?, store.load()?))).await?;
        let told: HashSet<String> = replies.iter().map(|reply| reply.id.to_string()).collect();
        for reply in replies {
            self.handle_reply(reply);
        }
        let begun = left.current.into_iter().map(|state| (state, true));
        let waiting = left.pending.into_iter().map(|state| (state, false));
        for (mut state, is_begun) in begun.chain(waiting) {
            let Ok(command) = CommandId::new(state.document_information.document_id.clone()) else {
                continue;
            };
            if self.is_over(&command, &state, &told) {
                info!(%command, "the command was over, only its state was left");
                let journal = self.runner.journal.clone();
                blocking(move || journal.finish(&command)).await?;
                continue;
            }
            let is_late = is_late(&state);
            let information = &mut state.document_information;
            if information.final_reply_id.is_empty() {
                information.final_reply_id = Uuid::new_v4().to_string();
            }
            if is_late {
                warn!(%command, "the command is given up, it is too old");
                let hours = OLDEST.as_secs() / 3600;
                let why = format!("the command is given up: it is older than {hours} hours");
                self.give_up(command, state, why).await?;
                continue;
            }
            if !is_begun {
                self.queue.push_back((command, state));
                continue;
            }
            information.run_count += 1;
            let starts = information.run_count;
            if starts >= self.settings.start_limit {
                warn!(%command, starts, "the command is given up, the agent started with it too often");
                let why = format!(
                    "the command is given up: the agent was started {starts} times with it"
                );
                self.give_up(command, state, why).await?;
            } else if information.document_status == Status::SuccessAndReboot {
                self.go_on_after_reboot(command, state);
            } else {
                info!(%command, "going on with a command that an earlier run began");
                self.queue.push_back((command, state));
            }
        }
        self.start_waiting();
        Ok(())
    }

    /// Whether the last reply about a command is on disk, of which `told` are the ids. The agent died before
    /// it came to delete the state.
    fn is_over(&self, command: &CommandId, state: &DocumentState, told: &HashSet<String>) -> bool {
        let information = &state.document_information;
        // A reply that told of a reboot is not the last one.
        information.document_status != Status::SuccessAndReboot
            && (told.contains(&information.final_reply_id)
                || Route::of_state(state) == Route::Local
                    && self.runner.store.is_completed(command))
    }

    /// A command that ended the agent each time must not do so for ever.
    async fn give_up(
        &mut self,
        command: CommandId,
        mut state: DocumentState,
        why: String,
    ) -> io::Result<()> {
        let information = &mut state.document_information;
        if information.document_status == Status::SuccessAndReboot {
            // The reply that told of the reboot has the other one.
            information.final_reply_id = Uuid::new_v4().to_string();
        }
        information.document_status = Status::Failed;
        let id = information.final_reply_id.clone();
        let (journal, noted) = (
            self.runner.journal.clone(),
            (command.clone(), state.clone()),
        );
        // An agent that dies from here on leaves the next one the same id.
        blocking(move || journal.save(&noted.0, &noted.1)).await?;
        let result = DocumentResult {
            trace: why,
            ..report::at_end(&state)
        };
        let id = Uuid::parse_str(&id).unwrap_or_else(|_| Uuid::new_v4());
        self.keep_and_send(id, result).await;
        let journal = self.runner.journal.clone();
        blocking(move || journal.give_up(&command)).await
    }

    fn go_on_after_reboot(&mut self, command: CommandId, mut state: DocumentState) {
        if state.document_information.boot_id == self.runner.boot_id {
            let patience = self.settings.reboot_patience;
            if asked_before(&state, patience) {
                let minutes = patience.as_secs() / 60;
                let why = format!("it was to restart more than {minutes} minutes ago");
                return self.end_without_reboot(command, state, &why);
            }
            info!(%command, "the host has not been started anew for this command yet");
            return self.reboot_for(command, state);
        }
        info!(%command, "going on with a command after the host was started anew");
        let information = &mut state.document_information;
        information.document_status = Status::InProgress;
        information.final_reply_id = Uuid::new_v4().to_string();
        // Also if the reference began it: its worker is no more.
        information.boot_id.clone_from(&self.runner.boot_id);
        for step in &mut state.instance_plugins_information {
            if asks_for_reboot(&step.result.status) {
                // The same step runs again from its start.
                step.result.status = Status::NotStarted;
            }
        }
        self.queue.push_back((command, state));
    }

    /// Gives up on replies that were not taken for a day.
    pub(super) fn give_up_late(&mut self) {
        let mut late = self.gateway.handle_timeout(now());
        if let Some(delivery) = &mut self.delivery {
            late.extend(delivery.handle_timeout(now()));
        }
        for reply in late {
            let job = reply.job_id();
            warn!(job, "a reply is given up, nobody acknowledged it for a day");
            reply.forget();
        }
    }
}

fn is_late(state: &DocumentState) -> bool {
    Route::of_state(state) == Route::Delivery
        && is_before(&state.document_information.created_date, OLDEST)
}

/// Whether the step that wants the host to start anew said so longer ago than `patience`.
fn asked_before(state: &DocumentState, patience: Duration) -> bool {
    let steps = &state.instance_plugins_information;
    let mut results = steps.iter().map(|step| &step.result);
    results
        .any(|result| asks_for_reboot(&result.status) && is_before(&result.end_date_time, patience))
}

/// Whether a date is past by more than `age`.
fn is_before(date: &str, age: Duration) -> bool {
    let date: Result<Timestamp, _> = date.parse();
    let past = date.map(|date| SystemTime::now().duration_since(date.into()));
    past.is_ok_and(|past| past.is_ok_and(|past| past > age))
}
