//! The task that keeps the control channel open and serves it.

use std::future::Future;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, info_span, warn};

use super::channel::ControlChannel;
use super::dispatch::{Dispatch, Instruction, dispatch};
use super::handle::{Handle, Settings, Status};
use super::link::{Link, LinkError, Liveness};
use super::opening::OpenError;
use super::outbox::Outbox;
use super::results::Results;
use crate::aws::Client;
use crate::protocol::wire::task::{TaskComplete, TaskStatus};
use crate::protocol::wire::{Message, PeerFeatures};
use crate::runtime::backoff::Backoff;
use crate::runtime::cause::in_one_line;
use crate::runtime::network::NetworkChanges;
use crate::transport::{ConnectError, Connected, Connector};

/// A connection that lasted this long was a success, so that the next back-off starts anew. One that
/// a gateway accepts and drops at once is a failure like any other.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// How long a stopping agent waits for the gateway to take the last results.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);
/// Instructions that may wait for the sessions' supervisor, which only notes them down.
const INSTRUCTIONS: usize = 256;
/// Messages about commands that may wait on either side. One that finds no room is like one that got
/// lost on the way: the gateway sends a job again, the agent a reply.
const JOBS: usize = 256;

/// Makes the control channel of a node: the handle, and the task that the caller spawns.
///
/// Cancel it after the sessions have ended: the task then waits up to 2 s until the gateway has
/// taken their results.
pub fn open(
    settings: Settings,
    client: Client,
    network: NetworkChanges,
    cancel: CancellationToken,
) -> (Handle, impl Future<Output = ()> + Send + 'static) {
    let connector = ControlChannel::new(client, settings.node_id.clone());
    open_with(settings, connector, network, cancel)
}

/// [`open`] with any way to connect.
pub(super) fn open_with<C: Connector>(
    settings: Settings,
    connector: C,
    network: NetworkChanges,
    cancel: CancellationToken,
) -> (Handle, impl Future<Output = ()> + Send + 'static) {
    let (instruct, instructions) = mpsc::channel(INSTRUCTIONS);
    let (outbox, results) = Outbox::new();
    let (set_status, status) = watch::channel(Status::Connecting);
    let (pass_jobs, jobs) = mpsc::channel(JOBS);
    let (answers, answered) = mpsc::channel(JOBS);
    let (set_connected, connections) = watch::channel(false);
    let span = info_span!("control_channel", node = %settings.node_id);
    let task = Task {
        liveness: Liveness {
            ping_interval: settings.ping_interval,
            silence_limit: settings.ping_interval + settings.pong_timeout,
        },
        node_id: settings.node_id,
        backoff: settings.backoff,
        instruct,
        results: Results::new(results),
        status: set_status,
        jobs: pass_jobs,
        answers: answered,
        connections: set_connected,
        network,
        cancel,
    };
    let handle = Handle {
        instructions,
        outbox,
        status,
        jobs,
        answers,
        connections,
    };
    (handle, task.run(connector).instrument(span))
}

struct Task {
    node_id: String,
    backoff: Backoff,
    liveness: Liveness,
    instruct: mpsc::Sender<Instruction>,
    results: Results,
    status: watch::Sender<Status>,
    jobs: mpsc::Sender<Message>,
    answers: mpsc::Receiver<Message>,
    connections: watch::Sender<bool>,
    network: NetworkChanges,
    cancel: CancellationToken,
}

/// One connection and what goes with it.
struct Connection {
    link: Link,
    features: PeerFeatures,
    /// Until when the last results may take, once the agent stops.
    drain_until: Option<Instant>,
}

enum Event {
    Received(Result<bytes::Bytes, LinkError>),
    Result(Box<TaskComplete>),
    Answer(Box<Message>),
    NetworkChanged,
    ResendDue,
    Stop,
    DrainOver,
}

/// What follows after an event.
enum Next {
    Serve,
    Close,
}

impl Task {
    async fn run<C: Connector>(mut self, mut connector: C) {
        let mut attempt = 0;
        while !self.cancel.is_cancelled() {
            self.status.send_replace(Status::Connecting);
            let connecting = connector.connect(attempt);
            attempt += 1;
            let Some(connected) = self.results.collect_until(&self.cancel, connecting).await else {
                break;
            };
            let (problem, is_denied) = match connected {
                Ok(connected) => match self.serve(connected).await {
                    Ok(()) => break,
                    Err(error) => (in_one_line(&error), false),
                },
                Err(ConnectError::Retry(error)) => {
                    let opening = error.downcast_ref::<OpenError>();
                    let is_denied = opening.is_some_and(OpenError::is_denied);
                    (in_one_line(error.as_ref()), is_denied)
                }
                Err(error @ ConnectError::Ended(_)) => (in_one_line(&error), false),
            };
            self.wait(problem, is_denied).await;
        }
        self.stop();
    }

    /// Waits before the next attempt.
    async fn wait(&mut self, problem: String, is_denied: bool) {
        let retry_in = self.backoff.next_wait();
        warn!(problem, ?retry_in, "control channel is not open");
        let status = Status::Waiting {
            problem,
            is_denied,
            retry_in,
        };
        self.status.send_replace(status);
        let network = &mut self.network;
        let pause = async {
            tokio::select! {
                () = tokio::time::sleep(retry_in) => false,
                () = network.next() => true,
            }
        };
        let changed = self.results.collect_until(&self.cancel, pause).await;
        if changed == Some(true) {
            debug!("the network changed, trying again");
            self.backoff.reset();
        }
    }

    fn stop(&mut self) {
        let undelivered = self.results.len();
        if undelivered > 0 {
            warn!(undelivered, "results of sessions are lost, the agent stops");
        }
        self.status.send_replace(Status::Stopped);
    }

    /// Serves a connection until the agent stops.
    async fn serve(&mut self, connected: Connected) -> Result<(), LinkError> {
        let opened = Instant::now();
        let features = connected.features;
        info!(%features, "control channel is open");
        let since = SystemTime::now();
        self.status
            .send_replace(Status::Connected { since, features });
        self.results.handle_connected();
        self.connections.send_replace(true);
        let mut connection = Connection {
            link: Link::new(connected.socket, self.liveness),
            features,
            drain_until: None,
        };

        let result = self.serve_connection(&mut connection).await;
        self.connections.send_replace(false);
        if opened.elapsed() >= STABLE_AFTER {
            self.backoff.reset();
        }
        if result.is_ok() {
            connection.link.close().await;
        }
        result
    }

    async fn serve_connection(&mut self, connection: &mut Connection) -> Result<(), LinkError> {
        loop {
            self.send_results(connection).await?;
            let event = self.next_event(connection).await;
            if let Next::Close = self.handle(event, connection).await? {
                return Ok(());
            }
        }
    }

    async fn next_event(&mut self, connection: &mut Connection) -> Event {
        let due = self.results.due();
        let drain_until = connection.drain_until;
        tokio::select! {
            received = connection.link.receive() => Event::Received(received),
            result = self.results.next() => Event::Result(Box::new(result)),
            Some(answer) = self.answers.recv() => Event::Answer(Box::new(answer)),
            () = sleep_until_some(due) => Event::ResendDue,
            () = self.network.next() => Event::NetworkChanged,
            () = self.cancel.cancelled(), if drain_until.is_none() => Event::Stop,
            () = sleep_until_some(drain_until) => Event::DrainOver,
        }
    }

    async fn handle(
        &mut self,
        event: Event,
        connection: &mut Connection,
    ) -> Result<Next, LinkError> {
        match event {
            Event::Received(bytes) => self.handle_bytes(&bytes?, connection),
            Event::Result(result) => self.results.keep(*result),
            Event::Answer(answer) => connection.link.send(&answer).await?,
            Event::NetworkChanged => connection.link.probe().await?,
            Event::ResendDue => self.results.give_up_hopeless(),
            Event::Stop => connection.drain_until = Some(Instant::now() + DRAIN_LIMIT),
            Event::DrainOver => return Ok(Next::Close),
        }
        let is_drained = connection.drain_until.is_some() && self.results.len() == 0;
        Ok(if is_drained { Next::Close } else { Next::Serve })
    }

    async fn send_results(&mut self, connection: &mut Connection) -> Result<(), LinkError> {
        while let Some(message) = self.results.poll_message(connection.features) {
            connection.link.send(&message).await?;
        }
        Ok(())
    }

    fn handle_bytes(&mut self, bytes: &bytes::Bytes, connection: &Connection) {
        let message = match Message::decode(bytes) {
            Ok(message) => message,
            Err(error) => {
                warn!(%error, "message of the control channel dropped");
                return;
            }
        };
        debug!(message_type = %message.message_type, id = %message.id, "message received");
        match dispatch(&message) {
            Ok(Dispatch::Instruct(instruction)) => {
                self.pass_on(instruction, connection.drain_until.is_some());
            }
            Ok(Dispatch::Acknowledged(acknowledge)) => {
                let id = acknowledge.message_id;
                let was_pending = self.results.handle_acknowledgement(&id);
                debug!(
                    session = acknowledge.task_id,
                    was_pending, "result acknowledged"
                );
            }
            Ok(Dispatch::Command) => {
                if let Err(error) = self.jobs.try_send(message) {
                    debug!(%error, "a message about a command is dropped");
                }
            }
            Ok(Dispatch::Ignore) => debug!("message ignored, it is not for an agent"),
            Err(error) => warn!(%error, "message of the control channel dropped"),
        }
    }

    /// Hands an instruction over. A session that cannot be started for it is reported as failed, so
    /// that nobody waits for it.
    fn pass_on(&mut self, instruction: Instruction, is_stopping: bool) {
        let (instruction, why) = if is_stopping {
            (instruction, "the agent is stopping")
        } else {
            match self.instruct.try_send(instruction) {
                Ok(()) => return,
                Err(mpsc::error::TrySendError::Full(instruction)) => {
                    (instruction, "the agent has too many requests waiting")
                }
                Err(mpsc::error::TrySendError::Closed(instruction)) => {
                    (instruction, "the agent is stopping")
                }
            }
        };
        let session = match instruction {
            Instruction::Start(Ok(start)) => Some(start.session_id),
            Instruction::Start(Err(refused)) => refused.session_id,
            Instruction::Terminate(session) => {
                warn!(%session, why, "session is not terminated");
                return;
            }
        };
        if let Some(session) = session {
            warn!(%session, why, "session is not started");
            let failed = TaskStatus::Failed;
            let result = TaskComplete::new(session.as_str(), &self.node_id, failed, why);
            self.results.keep(result);
        }
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
