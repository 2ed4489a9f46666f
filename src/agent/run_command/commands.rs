//! The task that takes jobs, keeps a bounded number of documents running and sees to it that their
//! replies arrive.

mod accepting;
mod draft;
mod leftovers;
mod line;
mod local;
mod reboot;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};
use uuid::Uuid;

use self::accepting::{Arrival, Rejected};
use self::draft::Draft;
use self::line::{Heard, Line};
use super::deliveries::{CALL_AGAIN, RESEND_FIRST};
use super::journal::Journal;
use super::local::{Claim, Local};
use super::output::OutputSink;
use super::replies::{self, Reply, Store};
use super::route::Route;
use super::runner::{Outcome, Runner, blocking};
use super::settings::{Load, Settings};
use super::state::{DocumentResult, DocumentState};
use super::steps;
use super::{Services, Sources};
use crate::agent::audit::{AuditLog, Event as Happened, Text};
use crate::agent::parameter_store::ParameterStore;
use crate::protocol::wire::command::Status;
use crate::protocol::wire::job::{CommandId, JobAck, JobAnswer, JobReplyAck};
use crate::protocol::wire::{Message, MessageId, MessageType};
use crate::runtime::clock::unix_ms;

/// Replies that may wait for this task, which only notes them down.
const REPLIES: usize = 64;
/// Commands of this host at a time, as in the reference.
const LOCAL_WORKERS: usize = 1;
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
    /// The control channel.
    gateway: Line,
    /// The message delivery service, if it is used.
    delivery: Option<Line>,
    local: Local,
    /// Files of this host that are being taken.
    claims: HashMap<CommandId, Claim>,
    /// Says that there may be more of them.
    look: Arc<Notify>,
    /// There was no room for all of them.
    has_more_local: bool,
    queue: VecDeque<(CommandId, DocumentState)>,
    running: HashMap<CommandId, Running>,
    workers: JoinSet<(CommandId, Outcome)>,
    /// Commands whose parameters are being looked up, with what ends that.
    resolving: HashMap<CommandId, CancellationToken>,
    lookups: JoinSet<(Arrival, Result<Draft, Rejected>)>,
    /// Waits for the host to start anew, which what comes now does too; says why if it does not.
    reboots: JoinSet<String>,
    /// The commands that asked for it.
    rebooting: Vec<(CommandId, DocumentState)>,
}

/// A command that runs.
struct Running {
    cancel: CancellationToken,
    route: Route,
}

enum Event {
    Heard(Route, Heard),
    Look,
    Resolved(Box<(Arrival, Result<Draft, Rejected>)>),
    Ended(CommandId, Outcome),
    /// The host was to start anew and did not; why.
    NotRebooted(String),
    /// A worker panicked; its command is reported by the next start.
    Lost(tokio::task::JoinError),
    Reply(Box<Reply>),
    Due,
    Sweep,
    Stop,
}

impl Commands {
    /// Opens what is on disk; gives the channels back where that fails.
    pub(super) async fn open(
        settings: Settings,
        sources: Sources,
        services: Services,
    ) -> Result<Self, (io::Error, Sources)> {
        let settings = Arc::new(settings);
        let opened = Arc::clone(&settings);
        let connections = sources.gateway.connections.clone();
        let opened = blocking(move || {
            steps::remove_empty_groups(&opened);
            let journal = Journal::open(&opened)?;
            let store = Store::open(&opened, connections)?;
            Ok((journal, store, Local::open(&opened.local)?))
        });
        let (journal, store, local) = match opened.await {
            Ok(opened) => opened,
            Err(error) => return Err((error, sources)),
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
            gateway: Line::new(sources.gateway, RESEND_FIRST),
            delivery: sources
                .delivery
                .map(|channels| Line::new(channels, CALL_AGAIN)),
            local,
            claims: HashMap::new(),
            look: sources.local,
            has_more_local: false,
            queue: VecDeque::new(),
            running: HashMap::new(),
            workers: JoinSet::new(),
            resolving: HashMap::new(),
            lookups: JoinSet::new(),
            reboots: JoinSet::new(),
            rebooting: Vec::new(),
        })
    }

    /// Takes jobs until `cancel`. Scripts that run then go on without the agent.
    pub(super) async fn run(mut self, cancel: CancellationToken) {
        if let Err(error) = self.go_on().await {
            error!(%error, "what an earlier run left of commands cannot be read");
        }
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.lines().for_each(|line| line.handle_connection(now()));
        self.look_for_local().await;
        loop {
            self.lines().for_each(|line| line.send_due(now()));
            self.show_load();
            let event = self.next_event(&mut sweep, &cancel).await;
            match event {
                Event::Heard(route, Heard::Message(Some(message))) => {
                    self.handle_message(route, &message).await;
                }
                Event::Heard(Route::Delivery, Heard::Message(None)) => {
                    // What polls may notice before this that the agent stops.
                    if !cancel.is_cancelled() {
                        error!("commands are not polled for any more");
                    }
                    self.delivery = None;
                }
                Event::Heard(_, Heard::Message(None)) | Event::Stop => break,
                Event::Heard(route, Heard::Connection) => {
                    if let Some(line) = self.line(route) {
                        line.handle_connection(now());
                    }
                }
                Event::Look => self.look_for_local().await,
                Event::Resolved(resolved) => {
                    let (arrival, draft) = *resolved;
                    self.handle_resolved(&arrival, draft).await;
                }
                Event::Ended(command, outcome) => {
                    self.handle_outcome(&command, outcome);
                    // There may be room again.
                    if self.has_more_local {
                        self.look_for_local().await;
                    }
                }
                Event::NotRebooted(why) => self.handle_missing_reboot(&why),
                Event::Lost(error) => error!(%error, "a command's task is lost"),
                Event::Reply(reply) => self.handle_reply(*reply),
                Event::Due => self.give_up_late(),
                Event::Sweep => {
                    self.sweep();
                    self.look_for_local().await;
                }
            }
        }
        self.workers.shutdown().await;
    }

    async fn next_event(
        &mut self,
        sweep: &mut tokio::time::Interval,
        cancel: &CancellationToken,
    ) -> Event {
        let due = self.lines().filter_map(|line| line.poll_timeout()).min();
        let due = due.map(Instant::from_std);
        tokio::select! {
            () = cancel.cancelled() => Event::Stop,
            heard = self.gateway.next() => Event::Heard(Route::Gateway, heard),
            heard = next_of(&mut self.delivery) => Event::Heard(Route::Delivery, heard),
            () = self.look.notified() => Event::Look,
            Some(resolved) = self.lookups.join_next() => match resolved {
                Ok(resolved) => Event::Resolved(Box::new(resolved)),
                Err(error) => Event::Lost(error),
            },
            Some(ended) = self.workers.join_next() => match ended {
                Ok((command, outcome)) => Event::Ended(command, outcome),
                Err(error) => Event::Lost(error),
            },
            Some(ended) = self.reboots.join_next() => {
                Event::NotRebooted(ended.unwrap_or_else(|error| error.to_string()))
            }
            // The runner holds a sender as long as this lives.
            Some(reply) = self.outcomes.recv() => Event::Reply(Box::new(reply)),
            () = sleep_until_some(due) => Event::Due,
            _ = sweep.tick() => Event::Sweep,
        }
    }

    fn start_waiting(&mut self) {
        while let Some(at) = self
            .queue
            .iter()
            .position(|(_, state)| self.has_free_worker(Route::of_state(state)))
            && let Some((command, state)) = self.queue.remove(at)
        {
            self.start(command, state);
        }
    }

    /// Commands of this host have a worker of their own, as in the reference.
    fn has_free_worker(&self, route: Route) -> bool {
        let is_local = |route| route == Route::Local;
        let running = self.running.values();
        let running = running.filter(|running| is_local(running.route) == is_local(route));
        let workers = if is_local(route) {
            LOCAL_WORKERS
        } else {
            self.settings.workers
        };
        self.reboots.is_empty() && running.count() < workers
    }

    fn start(&mut self, command: CommandId, state: DocumentState) {
        let cancel = self.note_running(&command, &state);
        let run = self.runner.clone().run(command.clone(), state, cancel);
        self.workers.spawn(async move { (command, run.await) });
    }

    /// Returns what cancels the command.
    fn note_running(&mut self, command: &CommandId, state: &DocumentState) -> CancellationToken {
        let cancel = CancellationToken::new();
        let running = Running {
            cancel: cancel.clone(),
            route: Route::of_state(state),
        };
        self.running.insert(command.clone(), running);
        cancel
    }

    fn handle_outcome(&mut self, command: &CommandId, outcome: Outcome) {
        self.running.remove(command);
        match outcome {
            Outcome::Ended(status) => self.note_end(command, &status),
            Outcome::Reboot(state) => self.reboot_for(command.clone(), *state),
        }
        self.start_waiting();
    }

    fn note_end(&self, command: &CommandId, status: &Status) {
        let status = Text::from(status.as_str());
        self.audit
            .record(&Happened::CommandEnded { command, status });
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

    fn lines(&mut self) -> impl Iterator<Item = &mut Line> {
        std::iter::once(&mut self.gateway).chain(&mut self.delivery)
    }

    fn line(&mut self, route: Route) -> Option<&mut Line> {
        match route {
            Route::Gateway => Some(&mut self.gateway),
            Route::Delivery => self.delivery.as_mut(),
            // What is told of those is on disk already.
            Route::Local => None,
        }
    }

    /// Has a reply sent. One that has no way to go by stays on disk.
    fn handle_reply(&mut self, reply: Reply) {
        if let Some(line) = self.line(reply.route) {
            line.handle_reply(reply, now());
        }
    }

    fn sweep(&mut self) {
        self.claims
            .retain(|command, _| self.resolving.contains_key(command));
        let journal = self.runner.journal.clone();
        tokio::task::spawn_blocking(move || journal.sweep());
    }

    async fn handle_message(&mut self, route: Route, message: &Message) {
        match &message.message_type {
            MessageType::AgentJob => self.handle_job(route, message).await,
            MessageType::AgentJobReplyAck => match JobReplyAck::decode(&message.payload) {
                Ok(ack) => self.handle_reply_ack(route, &ack).await,
                Err(error) => warn!(%error, "an acknowledgement of a reply is not understood"),
            },
            other => debug!(message_type = %other, "not a message for commands"),
        }
    }

    async fn handle_reply_ack(&mut self, route: Route, ack: &JobReplyAck) {
        let id = &ack.acknowledged_message_id;
        let Some(line) = self.line(route) else { return };
        if let Some(reply) = line.handle_acknowledgement(id, now()) {
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
            self.runner.store.in_memory(id, result)
        });
        self.handle_reply(reply);
    }

    /// Answers a job. Over the older way its adapter sends the first reply, before the answer.
    fn answer(&mut self, arrival: &Arrival, answer: JobAnswer) {
        let ack = JobAck::new(&arrival.job_id, arrival.id, arrival.created_ms, answer);
        let Some(line) = self.line(arrival.route) else {
            return;
        };
        let id = MessageId::from(Uuid::new_v4());
        line.send(Message::of_control_channel(
            MessageType::AgentJobAck,
            id,
            unix_ms(),
            ack.encode(),
        ));
        if answer == JobAnswer::Successful && arrival.route == Route::Gateway {
            line.send(replies::taken(&arrival.job_id));
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

async fn next_of(line: &mut Option<Line>) -> Heard {
    match line {
        Some(line) => line.next().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until_some(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
