//! Taking the commands that somebody on this host left.

use tracing::{info, warn};
use uuid::Uuid;

use super::super::local::Claim;
use super::super::route::Route;
use super::super::runner::blocking;
use super::Commands;
use super::accepting::Arrival;
use crate::protocol::wire::MessageId;
use crate::protocol::wire::command::SendCommand;
use crate::protocol::wire::job::CommandId;
use crate::runtime::clock::unix_ms;

impl Commands {
    /// Takes what lies there, as long as there is room.
    pub(super) async fn look_for_local(&mut self) {
        if self.settings.in_container {
            return;
        }
        self.has_more_local = false;
        loop {
            if self.queue.len() >= self.settings.queue {
                self.has_more_local = true;
                return;
            }
            let (local, known) = (self.local.clone(), self.claims.keys().cloned().collect());
            match blocking(move || local.claim(&known)).await {
                Ok(Some(claim)) => self.handle_claim(claim).await,
                Ok(None) => return,
                Err(error) => {
                    warn!(%error, folder = %self.settings.local.display(), "no commands of this host are taken");
                    return;
                }
            }
        }
    }

    async fn handle_claim(&mut self, claim: Claim) {
        let command = claim.command.clone();
        self.claims.insert(command.clone(), claim.clone());
        if self.is_known(&command).await {
            return self.settle(&command, true).await;
        }
        let name = claim.name.clone();
        let document = match blocking(move || claim.read()).await {
            Ok(document) => document,
            Err(error) => {
                warn!(%command, name, %error, "a command of this host cannot be read");
                return self.settle(&command, false).await;
            }
        };
        info!(%command, name, "a command of this host is taken");
        let send = SendCommand {
            parameters: serde_json::Map::new(),
            document_content: document,
            command_id: command.to_string(),
            document_name: name,
            output_s3_key_prefix: String::new(),
            output_s3_bucket_name: String::new(),
            cloud_watch_log_group_name: String::new(),
            cloud_watch_output_enabled: "false".into(),
        };
        let arrival = Arrival {
            route: Route::Local,
            job_id: command.job_on(&self.settings.node_id),
            command,
            id: MessageId::from(Uuid::new_v4()),
            created_ms: unix_ms(),
        };
        self.handle_command(&arrival, Ok(send)).await;
    }

    /// Puts the file of a command where it tells what became of it. One that cannot be put there is
    /// looked at again later.
    pub(super) async fn settle(&mut self, command: &CommandId, is_taken: bool) {
        let Some(claim) = self.claims.get(command).cloned() else {
            return;
        };
        let local = self.local.clone();
        let put = blocking(move || {
            if is_taken {
                local.submitted(&claim)
            } else {
                local.invalid(&claim)
            }
        });
        match put.await {
            Ok(()) => {
                self.claims.remove(command);
            }
            Err(error) => {
                warn!(%command, %error, "what became of a command of this host cannot be noted");
            }
        }
    }
}
