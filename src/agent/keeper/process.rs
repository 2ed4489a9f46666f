//! The keeper: a process that carries sessions, for one agent after the other.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::select;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::lent::Lent;
use super::link::{self, Receiver, Sender};
use super::message::{ProgramFile, ToAgent, ToKeeper};
use super::{settings_digest, sleep_until_some};
use crate::agent::carrier::{Carrier, Node, Places, task_complete};
use crate::agent::config::Settings;
use crate::agent::control::Status;
use crate::agent::session::{Outcome, Roster, Stop};
use crate::agent::setup;
use crate::agent::status::Sight;
use crate::aws::Client;
use crate::aws::metadata::{Metadata, Patience};
use crate::protocol::wire::PeerFeatures;
use crate::protocol::wire::task::TaskComplete;
use crate::runtime::lifecycle;

/// What the process is called in lists of processes: whoever ends all agents by their name does not
/// mean sessions. At most 15 bytes, by the kernel's rule.
const NAME: &str = "ssm-sessions";
/// How long an agent that started a keeper may take to say whose sessions they are.
const FIRST_WORD: Duration = Duration::from_secs(10);
/// How long an agent that does not read its messages is waited for.
const AGENT_PATIENCE: Duration = Duration::from_secs(5);
/// A keeper that had no session for so long ends. The next session starts another, which takes it a
/// few milliseconds longer.
const IDLE_LIMIT: Duration = Duration::from_mins(5);
/// How long results wait for an agent that takes them, once there is no session left.
const RESULT_LIMIT: Duration = Duration::from_hours(1);
/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// What changes is shown so much later, together with what changes until then.
const SHOW_DELAY: Duration = Duration::from_millis(100);
/// How long sessions get to say good-bye when the host shuts down.
const SESSION_SHUTDOWN: Duration = Duration::from_secs(5);
/// How long uploads of their records get then; what is left is uploaded by the agent.
const UPLOAD_SHUTDOWN: Duration = Duration::from_secs(2);
/// How long everything else gets after that.
const TASK_SHUTDOWN: Duration = Duration::from_secs(2);

/// What a keeper needs to run.
#[derive(Debug, Clone)]
pub struct Start {
    /// The checked configuration.
    pub settings: Settings,
    /// Where things are kept.
    pub places: Places,
}

/// Runs a keeper whose socket is the standard input, until it has been idle for a while or `cancel`
/// ends its sessions.
///
/// # Errors
/// If it cannot start.
pub async fn run(start: Start, cancel: CancellationToken) -> anyhow::Result<()> {
    // Only people read it.
    let _ = std::fs::write("/proc/self/comm", NAME);
    let listener = Listener::of_standard_input().context("the standard input is no socket")?;
    let first = timeout(FIRST_WORD, listener.first()).await;
    let (link, node) = first.context("no agent came")??;
    let tls = setup::tls(&start.settings).context("cannot set up TLS")?;
    let endpoints = setup::overrides(&start.settings)
        .resolve(&node.region)
        .context("the endpoints cannot be used")?;
    let identity = setup::identity(&start.settings, &start.places.state);
    let metadata = node.is_instance.then(|| {
        let places = &identity.ec2.places;
        Metadata::new(places, Arc::clone(&tls), Patience::CERTAIN)
    });
    let lent = Arc::new(Lent::new(identity, Arc::clone(&tls)));
    let client = Client::new(endpoints, tls, Arc::<Lent>::clone(&lent));
    let (status, status_seen) = watch::channel(Status::Connecting);
    let tasks = TaskTracker::new();
    let sessions_cancel = CancellationToken::new();
    let carried = Node {
        id: node.id.clone(),
        client,
        status: status_seen,
        open_files: node.open_files,
        roster: Roster::default(),
        metadata,
    };
    let opened = Carrier::open(
        &start.settings,
        &start.places,
        carried,
        &tasks,
        &sessions_cancel,
    );
    let carrier = opened.context("cannot start a thread")?;
    let settings = settings_digest::of(&start.settings);
    let program = ProgramFile::of_this_process().context("cannot find this program's own file")?;
    info!(node = node.id, "keeper of sessions starts");
    let mut keeper = Keeper {
        node_id: node.id,
        program,
        settings,
        carrier,
        lent,
        status,
        link: None,
        results: BTreeMap::new(),
        shown: None,
        idle_since: None,
        is_retiring: false,
        is_ending: false,
    };
    keeper.greet(link).await;
    keeper.serve(&listener, &cancel).await;
    // From now on nobody finds it.
    drop(listener);
    keeper.end().await;
    sessions_cancel.cancel();
    lifecycle::drain("keeper", &tasks, TASK_SHUTDOWN).await;
    info!("keeper of sessions ended");
    Ok(())
}

/// The socket; its name goes with it.
struct Listener {
    socket: UnixListener,
    path: Option<PathBuf>,
}

/// What the first message says.
struct Whose {
    id: String,
    region: String,
    is_instance: bool,
    open_files: Option<u64>,
}

type Link = (Sender, Receiver);

impl Listener {
    fn of_standard_input() -> io::Result<Self> {
        let descriptor = io::stdin().as_fd().try_clone_to_owned()?;
        let socket = std::os::unix::net::UnixListener::from(descriptor);
        let address = socket.local_addr()?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: UnixListener::from_std(socket)?,
            path: address.as_pathname().map(Path::to_owned),
        })
    }

    async fn accept(&self) -> io::Result<Link> {
        let (stream, _): (UnixStream, _) = self.socket.accept().await?;
        link::open(stream)
    }

    async fn first(&self) -> anyhow::Result<(Link, Whose)> {
        let (sender, mut receiver) = self.accept().await.context("cannot accept the agent")?;
        match receiver.receive().await? {
            Some(ToKeeper::Node {
                node_id,
                region,
                is_instance,
                open_files,
            }) => Ok((
                (sender, receiver),
                Whose {
                    id: node_id,
                    region,
                    is_instance,
                    open_files,
                },
            )),
            other => anyhow::bail!("the agent did not say whose sessions they are: {other:?}"),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

struct Keeper {
    node_id: String,
    program: ProgramFile,
    /// The digest of its settings.
    settings: String,
    carrier: Carrier,
    lent: Arc<Lent>,
    status: watch::Sender<Status>,
    /// To the agent that runs now.
    link: Option<Link>,
    /// What no agent has taken yet, by session.
    results: BTreeMap<String, TaskComplete>,
    /// What the agent was shown last.
    shown: Option<Sight>,
    idle_since: Option<Instant>,
    /// There is another keeper for the next sessions.
    is_retiring: bool,
    /// The host shuts down.
    is_ending: bool,
}

impl Keeper {
    async fn serve(&mut self, listener: &Listener, cancel: &CancellationToken) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changes = self.carrier.showing.roster.subscribe();
        let mut show_at = None;
        loop {
            select! {
                () = cancel.cancelled() => return,
                accepted = listener.accept() => match accepted {
                    Ok(link) => self.greet(link).await,
                    Err(error) => warn!(%error, "an agent cannot be accepted"),
                },
                message = receive(self.link.as_mut()) => match message {
                    Ok(Some(message)) => self.handle(message).await,
                    Ok(None) => self.lose("it has closed the connection"),
                    Err(error) => self.lose(&error.to_string()),
                },
                Some(outcome) = self.carrier.outcomes.recv() => self.handle_outcome(outcome).await,
                () = changes.next(), if show_at.is_none() => {
                    show_at = Some(Instant::now() + SHOW_DELAY);
                }
                () = sleep_until_some(show_at) => {
                    show_at = None;
                    self.show().await;
                }
                _ = looks.tick() => self.show().await,
            }
            if self.is_ending || self.is_idle_for_long() {
                return;
            }
        }
    }

    /// There is an agent. It is told everything that an earlier one may have missed.
    async fn greet(&mut self, link: Link) {
        self.link = Some(link);
        self.shown = None;
        let sessions = self.carrier.supervisor.sessions();
        let greeting = ToAgent::Greeting {
            program: self.program,
            settings: self.settings.clone(),
            sessions,
        };
        self.tell(&greeting).await;
        for result in self.results.clone().into_values() {
            let result = Box::new(result);
            self.tell(&ToAgent::Ended { result }).await;
        }
        self.show().await;
    }

    /// Tells the agent what there is to see, if that is news.
    async fn show(&mut self) {
        if self.link.is_none() {
            return;
        }
        let sight = self.carrier.showing.look();
        if self.shown.as_ref() != Some(&sight) {
            self.shown = Some(sight.clone());
            self.tell(&ToAgent::Shows { sight }).await;
        }
    }

    async fn handle(&mut self, message: ToKeeper) {
        match message {
            ToKeeper::Credentials(lease) => self.lent.lend(lease.credentials()),
            ToKeeper::Features { features } => match PeerFeatures::parse(&features) {
                Ok(features) => {
                    let since = SystemTime::now();
                    self.status
                        .send_replace(Status::Connected { since, features });
                }
                Err(error) => warn!(%error, "the features of the gateway are not understood"),
            },
            ToKeeper::Start { start } => {
                let session_id = start.session_id.clone();
                self.carrier.supervisor.start(Ok(start));
                self.tell(&ToAgent::Accepted { session_id }).await;
            }
            ToKeeper::Terminate { session_id } => self.carrier.supervisor.terminate(&session_id),
            ToKeeper::Taken { session_id } => {
                self.results.remove(&session_id);
            }
            ToKeeper::Retire => self.is_retiring = true,
            ToKeeper::End => self.is_ending = true,
            // Whose sessions they are cannot change.
            ToKeeper::Node { .. } | ToKeeper::Unknown => {}
        }
    }

    async fn handle_outcome(&mut self, outcome: Outcome) {
        self.carrier.showing.note_outcome(&outcome);
        let result = task_complete(outcome, &self.node_id);
        self.results.insert(result.task_id.clone(), result.clone());
        let result = Box::new(result);
        self.tell(&ToAgent::Ended { result }).await;
    }

    async fn tell(&mut self, message: &ToAgent) {
        let Some((sender, _)) = &mut self.link else {
            return;
        };
        match timeout(AGENT_PATIENCE, sender.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.lose(&error.to_string()),
            Err(_) => self.lose("it does not read"),
        }
    }

    fn lose(&mut self, why: &str) {
        debug!(why, "the agent is away, sessions go on");
        self.link = None;
    }

    fn is_idle_for_long(&mut self) -> bool {
        if self.carrier.supervisor.active() > 0 || !self.carrier.uploads.is_idle() {
            self.idle_since = None;
            return false;
        }
        let idle = self.idle_since.get_or_insert_with(Instant::now).elapsed();
        if !self.results.is_empty() {
            return idle >= RESULT_LIMIT;
        }
        self.is_retiring || idle >= IDLE_LIMIT
    }

    /// Ends the sessions that are left, and tells the agent of it.
    async fn end(mut self) {
        self.tell(&ToAgent::Retiring).await;
        let sessions = self.carrier.supervisor.active();
        if sessions > 0 {
            info!(sessions, "ending sessions");
        }
        let Carrier {
            supervisor,
            mut outcomes,
            uploads,
            audit,
            background,
            ..
        } = self.carrier;
        let mut link = self.link;
        let mut results: Vec<TaskComplete> = Vec::new();
        let collect = async {
            while let Some(outcome) = outcomes.recv().await {
                results.push(task_complete(outcome, &self.node_id));
            }
        };
        let stop = if self.is_ending {
            Stop::Host
        } else {
            Stop::Agent
        };
        tokio::join!(supervisor.shutdown(stop, SESSION_SHUTDOWN), collect);
        if let Some((sender, _)) = &mut link {
            for result in results {
                let result = Box::new(result);
                let message = ToAgent::Ended { result };
                let told = timeout(AGENT_PATIENCE, sender.send(&message)).await;
                if !matches!(told, Ok(Ok(()))) {
                    warn!("the agent does not take the results of sessions");
                    break;
                }
            }
        }
        uploads.shutdown(UPLOAD_SHUTDOWN).await;
        audit.close();
        drop(background);
    }
}

async fn receive(link: Option<&mut Link>) -> io::Result<Option<ToKeeper>> {
    match link {
        Some((_, receiver)) => receiver.receive().await,
        None => std::future::pending().await,
    }
}
