//! The task that delivers commands.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};
use uuid::Uuid;

use super::super::frames;
use super::super::hub::Hub;
use super::dispatcher::{Action, Dispatcher, Order, Progress};
use crate::gateway::store::StoreError;
use crate::gateway::store::commands::{
    CommandRecord, CommandSummary, InvocationStatus, OpenInvocation,
};
use crate::protocol::wire::command::CancelCommand;
use crate::protocol::wire::job::{CANCEL_TOPIC, CommandId, Job, JobAnswer, SEND_TOPIC};

/// Events that may wait for the courier, which notes most of them down in memory.
const MAILBOX: usize = 4096;

/// What the courier is told.
#[derive(Debug)]
pub(in crate::gateway::broker) enum Event {
    /// A command was sent; it is in the store.
    Sent {
        command: Box<CommandRecord>,
        nodes: Vec<String>,
        max_concurrency: usize,
        max_errors: usize,
    },
    /// Cancel a command on these nodes, or on all.
    Cancel {
        command: CommandId,
        nodes: Option<Vec<String>>,
        /// Told once it is in the store.
        noted: oneshot::Sender<Result<(), StoreError>>,
    },
    /// The node has a control channel, perhaps a new one, or begins to poll.
    Connected(String),
    /// A control channel of the node is gone.
    Disconnected(String),
    /// The node answered a job.
    Answered {
        command: CommandId,
        node: String,
        answer: JobAnswer,
    },
    /// The node reported, and the report is in the store.
    Reported {
        command: CommandId,
        node: String,
        ended: Option<InvocationStatus>,
    },
}

/// Where the courier is told.
#[derive(Debug, Clone)]
pub(in crate::gateway::broker) struct Mailbox(mpsc::Sender<Event>);

impl Mailbox {
    /// Tells the courier; false if it is gone.
    pub(in crate::gateway::broker) async fn tell(&self, event: Event) -> bool {
        self.0.send(event).await.is_ok()
    }
}

/// A mailbox and its end.
pub(in crate::gateway::broker) fn mailbox() -> (Mailbox, mpsc::Receiver<Event>) {
    let (sender, events) = mpsc::channel(MAILBOX);
    (Mailbox(sender), events)
}

/// Delivers commands.
pub(in crate::gateway::broker) struct Courier {
    hub: Arc<Hub>,
    events: mpsc::Receiver<Event>,
    dispatcher: Dispatcher,
    /// What is sent of each command.
    jobs: HashMap<CommandId, Letter>,
    /// Who waits for the next note.
    noted: Option<oneshot::Sender<Result<(), StoreError>>>,
}

/// What agents get of a command.
struct Letter {
    topic: String,
    content: String,
}

impl Courier {
    /// Takes up the commands that are not over.
    pub(in crate::gateway::broker) async fn open(
        hub: Arc<Hub>,
        events: mpsc::Receiver<Event>,
    ) -> Result<Self, StoreError> {
        let mut courier = Self {
            hub,
            events,
            dispatcher: Dispatcher::default(),
            jobs: HashMap::new(),
            noted: None,
        };
        for (summary, open) in courier.hub.store.open_commands().await? {
            info!(command = %summary.command.command_id, "command goes on");
            courier.take_up(summary, &open);
        }
        Ok(courier)
    }

    fn take_up(&mut self, summary: CommandSummary, open: &[OpenInvocation]) {
        let CommandSummary { command, counts } = summary;
        let total: u64 = counts.iter().map(|(_, count)| count).sum();
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        let errors = counts.iter().filter(|(status, _)| status.is_error());
        let errors: u64 = errors.map(|(_, count)| count).sum();
        let nodes = open.iter().map(|invocation| {
            let delivered = invocation.delivered.map_or_else(Instant::now, instant_of);
            let progress = match invocation.status {
                InvocationStatus::InProgress => Progress::Delivered(delivered),
                InvocationStatus::Cancelling => Progress::Cancelling(delivered),
                _ => Progress::New,
            };
            (invocation.node_id.clone(), progress)
        });
        let order = Order {
            max_concurrency: limit_of(&command.max_concurrency, total).max(1),
            max_errors: limit_of(&command.max_errors, total),
            errors: usize::try_from(errors).unwrap_or(usize::MAX),
            ..order(&command, nodes.collect())
        };
        let (id, is_cancelled) = (command.command_id.clone(), command.cancelled);
        self.take(command, order);
        if is_cancelled {
            // The gateway may have stopped before its nodes were noted and told. None is connected
            // yet, so nothing has been sent.
            self.dispatcher.handle_cancel(&id, None, Instant::now());
        }
    }

    fn take(&mut self, command: CommandRecord, order: Order) {
        let letter = Letter {
            topic: format!("{SEND_TOPIC}.{}", command.document_name),
            content: command.content,
        };
        self.jobs.insert(command.command_id, letter);
        self.dispatcher.handle_order(order, Instant::now());
    }

    /// Delivers until the broker is cancelled.
    pub(in crate::gateway::broker) async fn run(mut self) {
        loop {
            let noted = self.act().await;
            if let Err(error) = &noted {
                error!(%error, "how commands stand cannot be noted");
            }
            if let Some(reply) = self.noted.take() {
                // Who cancelled may be gone.
                let _ = reply.send(noted);
            }
            let due = self.dispatcher.poll_timeout();
            tokio::select! {
                () = self.hub.cancel.cancelled() => return,
                event = self.events.recv() => match event {
                    Some(event) => self.handle(event),
                    None => return,
                },
                () = sleep_until_some(due) => self.dispatcher.handle_timeout(Instant::now()),
            }
        }
    }

    fn handle(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Sent {
                command,
                nodes,
                max_concurrency,
                max_errors,
            } => {
                let nodes = nodes.into_iter().map(|node| (node, Progress::New));
                let order = Order {
                    max_concurrency,
                    max_errors,
                    ..order(&command, nodes.collect())
                };
                self.take(*command, order);
            }
            Event::Cancel {
                command,
                nodes,
                noted,
            } => {
                self.noted = Some(noted);
                self.dispatcher
                    .handle_cancel(&command, nodes.as_deref(), now);
            }
            Event::Connected(node) => self.dispatcher.handle_connected(&node, now),
            Event::Disconnected(node) => {
                // The older of two channels may be the one that went, and the node may poll already.
                if !self.is_reachable(&node) {
                    self.dispatcher.handle_disconnected(&node);
                }
            }
            Event::Answered {
                command,
                node,
                answer,
            } => self.dispatcher.handle_answer(&command, &node, answer, now),
            Event::Reported {
                command,
                node,
                ended,
            } => self.dispatcher.handle_report(&command, &node, ended, now),
        }
    }

    /// Does what the dispatcher wants, what is to be noted all at once.
    async fn act(&mut self) -> Result<(), StoreError> {
        let mut notes = Vec::new();
        while let Some(action) = self.dispatcher.poll_action() {
            match action {
                Action::Send(command, node) => self.send(&command, &node),
                Action::Cancel(command, node) => self.cancel(&command, &node),
                Action::Note(command, node, status) => {
                    if status.is_final() {
                        let job_id = command.job_on(&node);
                        self.hub.letterboxes.take_back(&node, &job_id);
                    }
                    notes.push((command, node, status));
                }
                Action::Forget(command) => {
                    self.jobs.remove(&command);
                }
            }
        }
        if notes.is_empty() {
            return Ok(());
        }
        self.hub.store.set_invocations(notes).await
    }

    fn is_reachable(&self, node: &str) -> bool {
        let hub = &self.hub;
        hub.registry.handle(node).is_some() || hub.letterboxes.is_live(node, Instant::now())
    }

    fn send(&mut self, command: &CommandId, node: &str) {
        let Some(letter) = self.jobs.get(command) else {
            return;
        };
        debug!(%command, node, "command is sent");
        let job = Job {
            content: letter.content.clone(),
            job_id: command.job_on(node),
            topic: letter.topic.clone(),
            schema_version: 1,
        };
        self.post(node, job);
    }

    fn cancel(&mut self, command: &CommandId, node: &str) {
        let content = CancelCommand {
            cancel_message_id: command.job_on(node),
        };
        let Ok(own) = CommandId::new(Uuid::new_v4().to_string()) else {
            return;
        };
        info!(%command, node, "command is to be cancelled");
        let job = Job {
            content: content.encode(),
            job_id: own.job_on(node),
            topic: CANCEL_TOPIC.into(),
            schema_version: 1,
        };
        self.post(node, job);
    }

    /// Brings a job to the node, by one way: its control channel if there is one, else its next poll. A
    /// job that finds no room is sent again later.
    fn post(&mut self, node: &str, job: Job) {
        let (hub, now) = (Arc::clone(&self.hub), Instant::now());
        if hub.letterboxes.was_given(node, &job.job_id, now) {
            debug!(
                node,
                job = job.job_id,
                "a poll has it, its answer may be on its way"
            );
            return;
        }
        if let Some(handle) = hub.registry.handle(node) {
            hub.letterboxes.clear(node);
            if !handle.try_send(frames::job(&job)) {
                warn!(node, job = job.job_id, "the node takes no job now");
            }
        } else if !hub.letterboxes.post(node, job, now) {
            debug!(node, "the node does not poll any more");
            self.dispatcher.handle_disconnected(node);
        }
    }
}

fn order(command: &CommandRecord, nodes: Vec<(String, Progress)>) -> Order {
    Order {
        command: command.command_id.clone(),
        nodes,
        max_concurrency: 1,
        max_errors: 0,
        errors: 0,
        expires: instant_of(command.expires),
        execution: command.execution,
    }
}

/// A number, or that part of `total`: at least one node, as in AWS, unless the part is 0.
pub(in crate::gateway::broker) fn limit_of(text: &str, total: usize) -> usize {
    match text.strip_suffix('%') {
        None => text.parse().unwrap_or(1),
        Some(percent) => {
            let percent: usize = percent.parse().unwrap_or(100);
            let part = total.saturating_mul(percent) / 100;
            if percent == 0 { 0 } else { part.max(1) }
        }
    }
}

/// The moment on the other clock; one far away is as good as never.
fn instant_of(time: SystemTime) -> Instant {
    const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
    let (now, wall) = (Instant::now(), SystemTime::now());
    match time.duration_since(wall) {
        Ok(ahead) => now + ahead.min(FAR),
        Err(behind) => now.checked_sub(behind.duration()).unwrap_or(now),
    }
}

async fn sleep_until_some(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_numbers_or_parts() {
        for (text, total, limit) in [
            ("50", 10, 50),
            ("0", 10, 0),
            ("10%", 50, 5),
            ("10%", 5, 1),
            ("0%", 5, 0),
            ("100%", 7, 7),
        ] {
            assert_eq!(limit_of(text, total), limit, "{text} of {total}");
        }
    }
}
