//! Polls for messages and passes them on.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::DeliverySettings;
use crate::aws::{CallError, Client};
use crate::protocol::wire::command::CancelCommand;
use crate::protocol::wire::job::{CommandId, Job, Subject};
use crate::protocol::wire::mds::{
    FailMessage, GetMessages, HANDLER_FAILED, Mail, Messages, VISIBILITY_SECONDS,
};
use crate::protocol::wire::{Message, MessageId, MessageType};
use crate::runtime::backoff::Backoff;
use crate::runtime::cause::in_one_line;
use crate::runtime::clock::unix_ms;

/// First wait after a poll that failed.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait: a service that is not there costs two small calls a minute.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A poll that took this long and then failed is one that brought nothing, as in the reference.
const LONG: Duration = Duration::from_secs(10);
/// An empty answer that comes earlier than this is followed by a pause, as in the reference.
const QUICK: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Poller {
    pub(super) settings: DeliverySettings,
    pub(super) client: Client,
    pub(super) polling: watch::Receiver<bool>,
    pub(super) gateway: watch::Receiver<bool>,
    pub(super) jobs: mpsc::Sender<Message>,
    pub(super) connected: watch::Sender<bool>,
    pub(super) pause: Duration,
}

impl Poller {
    /// Polls while that is wanted.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut failures = 0_u64;
        loop {
            if self.polling.wait_for(|polling| *polling).await.is_err() {
                // Nobody will want it any more.
                return;
            }
            let began = Instant::now();
            match self.poll().await {
                Ok(messages) => {
                    if failures > 0 {
                        info!(failures, "commands are polled for again");
                        // What could not be told meanwhile can be now.
                        self.connected.send_replace(true);
                        failures = 0;
                    }
                    backoff.reset();
                    let is_empty = messages.is_empty();
                    for mail in messages {
                        self.take(mail).await;
                    }
                    if is_empty && began.elapsed() < QUICK {
                        sleep(Backoff::new(self.pause, self.pause).next_wait()).await;
                    }
                }
                Err(error) if began.elapsed() >= LONG => {
                    debug!(error = in_one_line(&error), "a poll brought nothing");
                }
                Err(error) => {
                    failures += 1;
                    let wait = backoff.next_wait();
                    self.log_failure(&error, failures, wait);
                    sleep(wait).await;
                }
            }
        }
    }

    async fn poll(&self) -> Result<Vec<Mail>, CallError> {
        let request = GetMessages {
            destination: Some(self.settings.node_id.clone()),
            messages_request_id: Some(Uuid::new_v4().to_string()),
            visibility_timeout_in_seconds: Some(VISIBILITY_SECONDS),
        };
        let timeout = self.settings.timeout;
        let answer = self
            .client
            .poll_delivery("GetMessages", &request, timeout)
            .await;
        answer.map(|Messages { messages, .. }| messages)
    }

    /// A row of failures is one event for an operator, and none where commands come by the control
    /// channel: a service of one's own may have no such service.
    fn log_failure(&self, error: &CallError, failures: u64, wait: Duration) {
        let error = in_one_line(error);
        if failures == 1 && !*self.gateway.borrow() {
            warn!(
                error,
                ?wait,
                "commands cannot be polled for; trying again until they can"
            );
        } else {
            debug!(
                error,
                ?wait,
                failures,
                "commands still cannot be polled for"
            );
        }
    }

    /// Passes a message on as the job that it is, or fails it.
    async fn take(&self, mail: Mail) {
        if !mail.is_complete() {
            debug!(
                message = mail.message_id,
                "an incomplete message is ignored"
            );
            return;
        }
        let created_ms = mail.created_ms().unwrap_or_else(unix_ms);
        let job = Job {
            content: mail.payload,
            job_id: mail.message_id,
            topic: mail.topic,
            schema_version: 1,
        };
        let is_handled = match job.subject() {
            Some(Subject::Send) => true,
            Some(Subject::Cancel) => CancelCommand::decode(&job.content)
                .and_then(|cancel| CommandId::of_job(&cancel.cancel_message_id))
                .is_ok(),
            None => false,
        };
        if !is_handled {
            warn!(
                message = job.job_id,
                topic = job.topic,
                "a message is not understood"
            );
            return self.fail(job.job_id).await;
        }
        debug!(message = job.job_id, topic = job.topic, "message received");
        let id = MessageId::from(Uuid::new_v4());
        let message =
            Message::of_control_channel(MessageType::AgentJob, id, created_ms, job.encode());
        // Without a receiver the agent stops; the message is offered again.
        let _ = self.jobs.send(message).await;
    }

    async fn fail(&self, message_id: String) {
        let request = FailMessage {
            message_id,
            failure_type: HANDLER_FAILED.into(),
        };
        let timeout = self.settings.timeout;
        let failed: Result<serde_json::Value, _> =
            self.client.delivery("FailMessage", &request, timeout).await;
        if let Err(error) = failed {
            debug!(error = in_one_line(&error), "a message cannot be failed");
        }
    }
}
