//! Tells the service what became of its messages: several calls at a time, those about one message in
//! their order.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{debug, warn};
use uuid::Uuid;

use super::super::report;
use super::DeliverySettings;
use crate::aws::{CallError, Client};
use crate::protocol::wire::job::{JobAck, JobAnswer, JobReply, JobReplyAck};
use crate::protocol::wire::mds::{MessageName, SendReply};
use crate::protocol::wire::{DecodeError, Message, MessageId, MessageType};
use crate::runtime::cause::in_one_line;
use crate::runtime::clock::unix_ms;

/// What may wait for its turn; the rest waits in the channel.
const WAITING: usize = 64;

/// See the module.
pub(super) struct Teller {
    pub(super) settings: DeliverySettings,
    pub(super) client: Client,
    pub(super) gateway: watch::Receiver<bool>,
    /// Where acknowledgements of replies go.
    pub(super) jobs: mpsc::Sender<Message>,
}

/// What is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    /// The message is taken: a first reply, then its acknowledgement, in the reference's order.
    Taken { first_reply: SendReply },
    /// It is taken already.
    Known { message_id: String },
    /// A reply.
    Reply(SendReply),
}

impl Word {
    fn message_id(&self) -> &str {
        match self {
            Self::Taken { first_reply: reply } | Self::Reply(reply) => &reply.message_id,
            Self::Known { message_id } => message_id,
        }
    }
}

impl Teller {
    /// Tells what comes from `answers`, to their end.
    pub(super) async fn run(self, mut answers: mpsc::Receiver<Message>) {
        let mut waiting: VecDeque<Word> = VecDeque::new();
        let mut busy: HashSet<String> = HashSet::new();
        let mut calls = JoinSet::new();
        let mut is_open = true;
        while is_open || !waiting.is_empty() || !calls.is_empty() {
            while calls.len() < self.settings.calls.max(1)
                && let Some(at) = waiting
                    .iter()
                    .position(|word| !busy.contains(word.message_id()))
                && let Some(word) = waiting.remove(at)
            {
                busy.insert(word.message_id().to_owned());
                let caller = Caller {
                    client: self.client.clone(),
                    timeout: self.settings.timeout,
                    jobs: self.jobs.clone(),
                };
                calls.spawn(caller.tell(word));
            }
            tokio::select! {
                answer = answers.recv(), if is_open && waiting.len() < WAITING => match answer {
                    Some(answer) => waiting.extend(self.read(&answer)),
                    None => is_open = false,
                },
                Some(told) = calls.join_next() => match told {
                    Ok(message_id) => {
                        busy.remove(&message_id);
                    }
                    Err(error) => {
                        warn!(%error, "a call's task is lost");
                        if calls.is_empty() {
                            busy.clear();
                        }
                    }
                },
            }
        }
    }

    fn read(&self, answer: &Message) -> Option<Word> {
        let word = match &answer.message_type {
            MessageType::AgentJobAck => {
                JobAck::decode(&answer.payload).map(|ack| self.word_of(ack))
            }
            MessageType::AgentJobReply => {
                JobReply::decode(&answer.payload).map(|reply| Some(reply_of(answer.id, reply)))
            }
            other => {
                debug!(message_type = %other, "nothing to tell");
                Ok(None)
            }
        };
        word.unwrap_or_else(|error: DecodeError| {
            warn!(%error, "an answer cannot be told");
            None
        })
    }

    /// A message that is not taken now is offered again by itself.
    fn word_of(&self, ack: JobAck) -> Option<Word> {
        match ack.answer() {
            JobAnswer::Successful => Some(Word::Taken {
                first_reply: SendReply {
                    message_id: ack.job_id,
                    payload: report::taken(Some(*self.gateway.borrow())),
                    reply_id: Uuid::new_v4().to_string(),
                },
            }),
            JobAnswer::DuplicateCommand => Some(Word::Known {
                message_id: ack.job_id,
            }),
            JobAnswer::ClosedProcessor
            | JobAnswer::ProcessorBufferFull
            | JobAnswer::UnexpectedDocumentType
            | JobAnswer::InvalidDocument
            | JobAnswer::ContainerNotSupported
            | JobAnswer::ParseError
            | JobAnswer::UnexpectedError => {
                debug!(
                    message = ack.job_id,
                    answer = ack.error_message,
                    "not acknowledged"
                );
                None
            }
        }
    }
}

fn reply_of(id: MessageId, reply: JobReply) -> Word {
    Word::Reply(SendReply {
        message_id: reply.job_id,
        payload: reply.content,
        reply_id: id.to_string(),
    })
}

/// What a call takes.
struct Caller {
    client: Client,
    timeout: Duration,
    jobs: mpsc::Sender<Message>,
}

impl Caller {
    /// Tells a word and returns which message it was about.
    async fn tell(self, word: Word) -> String {
        match word {
            Word::Taken { first_reply } => {
                // Nobody repeats the first reply.
                self.call("SendReply", &first_reply).await;
                self.acknowledge(first_reply.message_id).await
            }
            Word::Known { message_id } => self.acknowledge(message_id).await,
            Word::Reply(reply) => {
                if self.call("SendReply", &reply).await {
                    self.confirm(&reply).await;
                }
                reply.message_id
            }
        }
    }

    /// Without it the message is offered again, and known then.
    async fn acknowledge(self, message_id: String) -> String {
        let name = MessageName { message_id };
        self.call("AcknowledgeMessage", &name).await;
        name.message_id
    }

    async fn call<Q: Serialize>(&self, operation: &str, request: &Q) -> bool {
        let called: Result<Value, CallError> =
            self.client.delivery(operation, request, self.timeout).await;
        match called {
            Ok(_) => true,
            Err(error) => {
                debug!(operation, error = in_one_line(&error), "nothing was told");
                false
            }
        }
    }

    /// Tells commands that the service has the reply.
    async fn confirm(&self, reply: &SendReply) {
        let ack = JobReplyAck {
            job_id: reply.message_id.clone(),
            acknowledged_message_id: reply.reply_id.clone(),
        };
        let id = MessageId::from(Uuid::new_v4());
        let message_type = MessageType::AgentJobReplyAck;
        let message = Message::of_control_channel(message_type, id, unix_ms(), ack.encode());
        // Without a receiver the agent stops.
        let _ = self.jobs.send(message).await;
    }
}
