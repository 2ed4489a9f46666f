//! The task that takes jobs, keeps a bounded number of documents running and sees to it that their
//! replies arrive.

mod accepting;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use uuid::Uuid;

use self::accepting::{Arrival, Draft, Rejected};
use super::journal::Journal;
use super::output::OutputSink;
use super::replies::{self, Deliveries, Reply, Store};
use super::report;
use super::runner::{Outcome, Runner, blocking};
use super::settings::{Load, Settings};
use super::state::{DocumentResult, DocumentState};
use super::{Channels, Services};
use crate::agent::audit::{AuditLog, Event as Happened, Text};
use crate::agent::parameter_store::ParameterStore;
use crate::protocol::wire::command::Status;
use crate::protocol::wire::job::{CommandId, JobAck, JobAnswer, JobReplyAck};
use crate::protocol::wire::{Message, MessageId, MessageType};
use crate::runtime::clock::unix_ms;

/// Replies that may wait for this task, which only notes them down.
const REPLIES: usize = 64;
/// How often old files are looked for, as in the reference.
const SWEEP: Duration = Duration::from_mins(10);
/// What names a boot of the host.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The commands of a node.
pub(super) struct Commands {
    settings: Arc<Settings>,
    runner: Runner,
    outcomes: mpsc::Receiver<Reply>,
    parameters: Option<Arc<dyn ParameterStore>>,
    audit: AuditLog,
    channels: Channels,
    deliveries: Deliveries,
    queue: VecDeque<(CommandId, DocumentState)>,
    running: HashMap<CommandId, CancellationToken>,
    workers: JoinSet<(CommandId, Outcome)>,
    /// Commands whose parameters are being looked up.
    resolving: HashSet<CommandId>,
    lookups: JoinSet<(Arrival, Result<Draft, Rejected>)>,
    /// The host is about to start anew: what comes now waits for that.
    is_rebooting: bool,
}

enum Event {
    Message(Option<Message>),
    Resolved(Box<(Arrival, Result<Draft, Rejected>)>),
    Ended(CommandId, Outcome),
    /// A worker panicked; its command is reported by the next start.
    Lost(tokio::task::JoinError),
    Reply(Box<Reply>),
    Connection,
    Due,
    Sweep,
    Stop,
}

impl Commands {
    /// Opens what is on disk; gives the channels back where that fails.
    pub(super) async fn open(
        settings: Settings,
        channels: Channels,
        services: Services,
    ) -> Result<Self, (io::Error, Channels)> {
        let settings = Arc::new(settings);
        let opened = Arc::clone(&settings);
        let opened = blocking(move || {
            let journal = Journal::open(&opened)?;
            Ok((journal, Store::open(&opened.directory)?))
        });
        let (journal, store) = match opened.await {
            Ok(opened) => opened,
            Err(error) => return Err((error, channels)),
        };
        let (replies, outcomes) = mpsc::channel(REPLIES);
        let runner = Runner {
            settings: Arc::clone(&settings),
            services: services.clone(),
            journal,
            store,
            replies,
            sink: services.client.map(OutputSink::new).map(Arc::new),
            boot_id: boot_id(),
        };
        Ok(Self {
            settings,
            runner,
            outcomes,
            parameters: services.parameters,
            audit: services.audit,
            channels,
            deliveries: Deliveries::default(),
            queue: VecDeque::new(),
            running: HashMap::new(),
            workers: JoinSet::new(),
            resolving: HashSet::new(),
            lookups: JoinSet::new(),
            is_rebooting: false,
        })
    }

    /// Takes jobs until `cancel`. Scripts that run then go on without the agent.
    pub(super) async fn run(mut self, cancel: CancellationToken) {
        if let Err(error) = self.go_on().await {
            error!(%error, "what an earlier run left of commands cannot be read");
        }
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.handle_connection();
        loop {
            self.send_replies();
            self.show_load();
            let event = self.next_event(&mut sweep, &cancel).await;
            match event {
                Event::Message(Some(message)) => self.handle_message(&message).await,
                Event::Message(None) | Event::Stop => break,
                Event::Resolved(resolved) => {
                    let (arrival, draft) = *resolved;
                    self.resolving.remove(&arrival.command);
                    self.handle_draft(&arrival, draft).await;
                }
                Event::Ended(command, outcome) => self.handle_outcome(&command, outcome),
                Event::Lost(error) => error!(%error, "a command's task is lost"),
                Event::Reply(reply) => self.deliveries.handle_reply(*reply, now()),
                Event::Connection => self.handle_connection(),
                Event::Due => self.give_up_late(),
                Event::Sweep => self.sweep(),
            }
        }
        self.workers.shutdown().await;
    }

    async fn next_event(
        &mut self,
        sweep: &mut tokio::time::Interval,
        cancel: &CancellationToken,
    ) -> Event {
        let due = self.deliveries.poll_timeout().map(Instant::from_std);
        tokio::select! {
            () = cancel.cancelled() => Event::Stop,
            message = self.channels.jobs.recv() => Event::Message(message),
            Some(resolved) = self.lookups.join_next() => match resolved {
                Ok(resolved) => Event::Resolved(Box::new(resolved)),
                Err(error) => Event::Lost(error),
            },
            Some(ended) = self.workers.join_next() => match ended {
                Ok((command, outcome)) => Event::Ended(command, outcome),
                Err(error) => Event::Lost(error),
            },
            // The runner holds a sender as long as this lives.
            Some(reply) = self.outcomes.recv() => Event::Reply(Box::new(reply)),
            Ok(()) = self.channels.connections.changed() => Event::Connection,
            () = sleep_until_some(due) => Event::Due,
            _ = sweep.tick() => Event::Sweep,
        }
    }

    /// Goes on with what an earlier run left, what it had begun first.
    async fn go_on(&mut self) -> io::Result<()> {
        let (journal, store) = (self.runner.journal.clone(), self.runner.store.clone());
        let (left, replies) = blocking(move || Ok((journal.load()?, store.load()?))).await?;
        for reply in replies {
            self.deliveries.handle_reply(reply, now());
        }
        let begun = left.current.into_iter().map(|state| (state, true));
        let waiting = left.pending.into_iter().map(|state| (state, false));
        for (mut state, is_begun) in begun.chain(waiting) {
            let Ok(command) = CommandId::new(state.document_information.document_id.clone()) else {
                continue;
            };
            let information = &mut state.document_information;
            if information.final_reply_id.is_empty() {
                information.final_reply_id = Uuid::new_v4().to_string();
            }
            if !is_begun {
                self.queue.push_back((command, state));
                continue;
            }
            information.run_count += 1;
            if information.run_count >= self.settings.start_limit {
                self.give_up(command, state).await?;
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
    async fn give_up(&mut self, command: CommandId, state: DocumentState) -> io::Result<()> {
        let starts = state.document_information.run_count;
        warn!(%command, starts, "the command is given up, the agent started with it too often");
        let why = format!("the command is given up: the agent was started {starts} times with it");
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

    fn start_waiting(&mut self) {
        while self.has_free_worker()
            && let Some((command, state)) = self.queue.pop_front()
        {
            self.start(command, state);
        }
    }

    fn has_free_worker(&self) -> bool {
        !self.is_rebooting && self.running.len() < self.settings.workers
    }

    fn start(&mut self, command: CommandId, state: DocumentState) {
        let cancel = CancellationToken::new();
        self.running.insert(command.clone(), cancel.clone());
        let run = self.runner.clone().run(command.clone(), state, cancel);
        self.workers.spawn(async move { (command, run.await) });
    }

    fn handle_outcome(&mut self, command: &CommandId, outcome: Outcome) {
        self.running.remove(command);
        match outcome {
            Outcome::Ended(status) => self.note_end(command, &status),
            Outcome::Reboot => self.reboot(),
        }
        self.start_waiting();
    }

    fn note_end(&self, command: &CommandId, status: &Status) {
        let status = Text::from(status.as_str());
        self.audit
            .record(&Happened::CommandEnded { command, status });
    }

    /// Has the host start anew in a minute. What waits goes on after that.
    fn reboot(&mut self) {
        let Some((program, arguments)) = self.settings.reboot.split_first() else {
            return;
        };
        if self.is_rebooting {
            return;
        }
        info!("a command asked for a restart of the host");
        match Command::new(program).args(arguments).spawn() {
            Ok(_) => self.is_rebooting = true,
            Err(error) => error!(%error, "the host cannot be restarted"),
        }
    }

    fn show_load(&self) {
        let now = Load {
            running: self.running.len(),
            queued: self.queue.len(),
        };
        self.settings.load.send_if_modified(|load| {
            let is_news = *load != now;
            *load = now;
            is_news
        });
    }

    fn handle_connection(&mut self) {
        let is_connected = *self.channels.connections.borrow_and_update();
        self.deliveries.handle_connection(is_connected, now());
    }

    fn send_replies(&mut self) {
        while let Some(message) = self.deliveries.poll_message(now()) {
            self.send(message);
        }
    }

    /// Hands a message to the control channel. One that it has no room for is like one that got
    /// lost on the way.
    fn send(&self, message: Message) {
        if let Err(error) = self.channels.answers.try_send(message) {
            debug!(%error, "the control channel takes no message now");
        }
    }

    fn give_up_late(&mut self) {
        for reply in self.deliveries.handle_timeout(now()) {
            let job = &reply.result.message_id;
            warn!(job, "a reply is given up, nobody acknowledged it for a day");
            reply.forget();
        }
    }

    fn sweep(&self) {
        let journal = self.runner.journal.clone();
        tokio::task::spawn_blocking(move || journal.sweep());
    }

    async fn handle_message(&mut self, message: &Message) {
        match &message.message_type {
            MessageType::AgentJob => self.handle_job(message).await,
            MessageType::AgentJobReplyAck => match JobReplyAck::decode(&message.payload) {
                Ok(ack) => self.handle_reply_ack(&ack).await,
                Err(error) => warn!(%error, "an acknowledgement of a reply is not understood"),
            },
            other => debug!(message_type = %other, "not a message for commands"),
        }
    }

    async fn handle_reply_ack(&mut self, ack: &JobReplyAck) {
        let id = &ack.acknowledged_message_id;
        if let Some(reply) = self.deliveries.handle_acknowledgement(id, now()) {
            let forgotten = blocking(move || {
                reply.forget();
                Ok(())
            });
            // What stays on disk is sent again, under the same id.
            let _ = forgotten.await;
        }
    }

    async fn keep_and_send(&mut self, id: Uuid, result: DocumentResult) {
        let (store, kept) = (self.runner.store.clone(), result.clone());
        let reply = blocking(move || store.keep(id, kept)).await;
        let reply = reply.unwrap_or_else(|error| {
            warn!(%error, "a reply cannot be kept on disk");
            Reply::in_memory(id, result)
        });
        self.deliveries.handle_reply(reply, now());
    }

    fn answer(&self, arrival: &Arrival, answer: JobAnswer) {
        let ack = JobAck::new(&arrival.job_id, arrival.id, arrival.created_ms, answer);
        let id = MessageId::from(Uuid::new_v4());
        self.send(Message::of_control_channel(
            MessageType::AgentJobAck,
            id,
            unix_ms(),
            ack.encode(),
        ));
        if answer == JobAnswer::Successful {
            self.send(replies::taken(&arrival.job_id));
        }
    }
}

fn boot_id() -> String {
    std::fs::read_to_string(BOOT_ID)
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

async fn sleep_until_some(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
