//! What an earlier run of the agent left: commands that it had taken, replies that nobody had.

use std::io;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tracing::{info, warn};
use uuid::Uuid;

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
        for reply in replies {
            self.handle_reply(reply);
        }
        let begun = left.current.into_iter().map(|state| (state, true));
        let waiting = left.pending.into_iter().map(|state| (state, false));
        for (mut state, is_begun) in begun.chain(waiting) {
            let Ok(command) = CommandId::new(state.document_information.document_id.clone()) else {
                continue;
            };
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

    /// A command that ended the agent each time must not do so for ever.
    async fn give_up(
        &mut self,
        command: CommandId,
        state: DocumentState,
        why: String,
    ) -> io::Result<()> {
        let result = DocumentResult {
            trace: why,
            status: Status::Failed,
            ..report::at_end(&state)
        };
        self.keep_and_send(Uuid::new_v4(), result).await;
        let journal = self.runner.journal.clone();
        blocking(move || journal.give_up(&command)).await
    }

    fn go_on_after_reboot(&mut self, command: CommandId, mut state: DocumentState) {
        if state.document_information.boot_id == self.runner.boot_id {
            info!(%command, "the host has not been started anew for this command yet");
            self.reboot();
            return;
        }
        info!(%command, "going on with a command after the host was started anew");
        state.document_information.document_status = Status::InProgress;
        state.document_information.final_reply_id = Uuid::new_v4().to_string();
        for step in &mut state.instance_plugins_information {
            let result = &mut step.result;
            if matches!(
                result.status,
                Status::SuccessAndReboot | Status::PassedAndReboot
            ) {
                // The same step runs again from its start.
                result.status = Status::NotStarted;
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
    if Route::of_state(state) != Route::Delivery {
        return false;
    }
    let created: Result<Timestamp, _> = state.document_information.created_date.parse();
    let age = created.map(|created| SystemTime::now().duration_since(created.into()));
    age.is_ok_and(|age| age.is_ok_and(|age| age > OLDEST))
}
