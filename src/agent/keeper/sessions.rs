//! The agent's sessions: those in keepers, and those that it carries itself.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::select;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::message::{ProgramFile, ToAgent, ToKeeper};
use super::remote::{Briefing, Heard, Remote, lend};
use super::sleep_until_some;
use super::spawn::{Program, Sockets};
use crate::agent::audit::{AuditLog, Event, Text};
use crate::agent::control::{Instruction, Outbox, Status};
use crate::agent::session::{self, Stop, Supervisor};
use crate::agent::status::Sight;
use crate::agent::transcript::Uploads;
use crate::aws::Client;
use crate::protocol::wire::SessionId;
use crate::protocol::wire::control::StartSession;
use crate::protocol::wire::task::{TaskComplete, TaskStatus};
use crate::runtime::systemd;

/// What may wait to be heard of keepers.
const HEARD: usize = 64;
/// How long a keeper may take to accept a session; the agent carries it itself then.
const ACCEPT_LIMIT: Duration = Duration::from_secs(5);
/// How long sessions get to say good-bye.
const SHUTDOWN: Duration = Duration::from_secs(5);
/// Time after a keeper broke in which no other is started.
const PAUSE: Duration = Duration::from_mins(1);

/// What keepers take.
pub struct Settings {
    /// The runtime folder.
    pub runtime: PathBuf,
    /// What is started.
    pub program: Program,
    /// The node.
    pub node_id: String,
    /// Its region.
    pub region: String,
    /// Whether it is an instance of EC2, with metadata.
    pub is_instance: bool,
    /// Soft limit on open files for sessions.
    pub open_files: Option<u64>,
    /// The digest of what sessions are configured by.
    pub digest: String,
    /// Whose credentials are lent.
    pub client: Client,
    /// How the control channel stands.
    pub status: watch::Receiver<Status>,
    /// Where it is seen what their sessions are, by keeper.
    pub sights: watch::Sender<BTreeMap<u64, Sight>>,
}

/// The agent's sessions.
pub struct Sessions {
    node_id: String,
    own: Supervisor,
    outbox: Outbox,
    uploads: Arc<Uploads>,
    audit: AuditLog,
    keepers: Option<Keepers>,
}

struct Keepers {
    sockets: Sockets,
    program: Program,
    file: ProgramFile,
    digest: String,
    briefing: Briefing,
    remotes: BTreeMap<u64, Remote>,
    sights: watch::Sender<BTreeMap<u64, Sight>>,
    next: u64,
    hear: mpsc::Sender<(u64, Heard)>,
    heard: mpsc::Receiver<(u64, Heard)>,
    /// None is started before.
    paused_until: Option<Instant>,
}

impl Sessions {
    /// The sessions of `node_id`, all carried by `own`.
    pub fn new(
        node_id: String,
        own: Supervisor,
        outbox: Outbox,
        uploads: Arc<Uploads>,
        audit: AuditLog,
    ) -> Self {
        Self {
            node_id,
            own,
            outbox,
            uploads,
            audit,
            keepers: None,
        }
    }

    /// Leaves them to keepers, and takes over those that run. What lends credentials goes to `tasks`.
    ///
    /// # Errors
    /// If this process cannot find its own program.
    pub async fn use_keepers(
        &mut self,
        settings: Settings,
        tasks: &TaskTracker,
        cancel: &CancellationToken,
    ) -> std::io::Result<()> {
        let (lease, leased) = watch::channel(None);
        tasks.spawn(lend(settings.client, lease, cancel.clone()));
        let (hear, heard) = mpsc::channel(HEARD);
        let mut keepers = Keepers {
            sockets: Sockets::new(&settings.runtime),
            program: settings.program,
            file: ProgramFile::of_this_process()?,
            digest: settings.digest,
            briefing: Briefing {
                node_id: settings.node_id,
                region: settings.region,
                is_instance: settings.is_instance,
                open_files: settings.open_files,
                lease: leased,
                status: settings.status,
            },
            remotes: BTreeMap::new(),
            sights: settings.sights,
            next: 0,
            hear,
            heard,
            paused_until: None,
        };
        for stream in keepers.sockets.connect().await {
            keepers.add(stream);
        }
        self.keepers = Some(keepers);
        Ok(())
    }

    /// Follows instructions until `cancel`. Sessions of keepers go on then, unless the host shuts
    /// down; the others are ended.
    pub async fn run(
        mut self,
        mut instructions: mpsc::Receiver<Instruction>,
        cancel: &CancellationToken,
    ) {
        loop {
            let overdue = self.keepers.as_ref().and_then(Keepers::overdue_at);
            select! {
                () = cancel.cancelled() => break,
                instruction = instructions.recv() => match instruction {
                    Some(Instruction::Start(Ok(start))) => self.start(start).await,
                    Some(Instruction::Start(Err(refused))) => self.own.start(Err(refused)),
                    Some(Instruction::Terminate(session)) => self.terminate(&session),
                    None => break,
                },
                Some((number, heard)) = hear(self.keepers.as_mut()) => {
                    self.handle(number, heard).await;
                }
                () = sleep_until_some(overdue) => self.take_back_overdue(),
            }
        }
        self.stop().await;
    }

    async fn start(&mut self, start: Box<StartSession>) {
        let id = &start.session_id;
        let is_kept = self.keepers.as_ref().is_some_and(|keepers| keepers.has(id));
        if is_kept || self.own.runs(id) {
            debug!(session = %id, "the session runs already");
            return;
        }
        let given = match &mut self.keepers {
            Some(keepers) => keepers.give(start).await,
            None => Err(start),
        };
        if let Err(start) = given {
            self.own.start(Ok(start));
        }
    }

    fn terminate(&mut self, session: &SessionId) {
        let remotes = self
            .keepers
            .iter()
            .flat_map(|keepers| keepers.remotes.values());
        let mut is_kept = false;
        for remote in remotes.filter(|remote| remote.has(session)) {
            is_kept = true;
            let session_id = session.clone();
            if !remote.order(ToKeeper::Terminate { session_id }) {
                warn!(%session, "the session's keeper takes no orders");
            }
        }
        if !is_kept {
            self.own.terminate(session);
        }
    }

    async fn handle(&mut self, number: u64, heard: Heard) {
        let Some(keepers) = &mut self.keepers else {
            return;
        };
        let Some(remote) = keepers.remotes.get_mut(&number) else {
            return;
        };
        match heard {
            Heard::Said(ToAgent::Greeting {
                program,
                settings,
                sessions,
            }) => {
                remote.has_greeted = true;
                remote.sessions.extend(sessions);
                info!(sessions = remote.sessions.len(), "a keeper is there");
                let is_ours = program == keepers.file && settings == keepers.digest;
                if is_ours && keepers.remotes.values().all(|other| !other.is_current) {
                    if let Some(remote) = keepers.remotes.get_mut(&number) {
                        remote.is_current = true;
                    }
                } else if let Some(remote) = keepers.remotes.get(&number)
                    && !remote.is_current
                {
                    remote.order(ToKeeper::Retire);
                }
            }
            Heard::Said(ToAgent::Accepted { session_id }) => {
                remote.offered.remove(&session_id);
                remote.sessions.insert(session_id);
            }
            Heard::Said(ToAgent::Ended { result }) => {
                let session_id = result.task_id.clone();
                if let Ok(id) = SessionId::new(session_id.clone()) {
                    remote.sessions.remove(&id);
                    remote.offered.remove(&id);
                }
                self.outbox.complete(*result).await;
                if let Some(keepers) = &self.keepers
                    && let Some(remote) = keepers.remotes.get(&number)
                {
                    remote.order(ToKeeper::Taken { session_id });
                }
            }
            Heard::Said(ToAgent::Shows { sight }) => keepers.sights.send_modify(|sights| {
                sights.insert(number, sight);
            }),
            Heard::Said(ToAgent::Retiring) => remote.is_current = false,
            Heard::Said(ToAgent::Unknown) => {}
            Heard::Gone => self.handle_gone(number).await,
        }
    }

    /// A keeper is gone: what it had not accepted is started elsewhere, what it had is lost.
    async fn handle_gone(&mut self, number: u64) {
        let Some(keepers) = &mut self.keepers else {
            return;
        };
        let Some(remote) = keepers.remotes.remove(&number) else {
            return;
        };
        keepers.sights.send_modify(|sights| {
            sights.remove(&number);
        });
        if !remote.has_greeted || !remote.sessions.is_empty() {
            warn!(
                sessions = remote.sessions.len(),
                "a keeper of sessions broke"
            );
            keepers.paused_until = Some(Instant::now() + PAUSE);
        }
        for session in remote.sessions {
            let text = "the process that carried the session has ended";
            self.audit.record(&Event::SessionLost {
                session: &session,
                reason: Text::from(text),
            });
            let failed = TaskStatus::Failed;
            let result = TaskComplete::new(session.as_str(), &self.node_id, failed, text);
            self.outbox.complete(result).await;
            tokio::task::spawn_blocking(move || session::end_left(&session));
        }
        for (start, _) in remote.offered.into_values() {
            self.start(start).await;
        }
        // Its records are nobody's now.
        let uploads = Arc::clone(&self.uploads);
        tokio::spawn(async move { uploads.recover().await });
    }

    /// Carries what keepers do not accept.
    fn take_back_overdue(&mut self) {
        let Some(keepers) = &mut self.keepers else {
            return;
        };
        for start in keepers.take_overdue() {
            warn!(session = %start.session_id, "the keeper of sessions does not answer");
            self.own.start(Ok(Box::new(start)));
        }
    }

    async fn stop(mut self) {
        let kept = self.keepers.as_ref().map_or(0, Keepers::count);
        let own = self.own.active();
        let stop = if kept + own > 0 && systemd::is_shutting_down().await {
            Stop::Host
        } else {
            Stop::Agent
        };
        if kept > 0 && stop == Stop::Host {
            info!(sessions = kept, "the host shuts down, ending sessions");
            let _ = timeout(SHUTDOWN, self.end_kept()).await;
        } else if kept > 0 {
            info!(sessions = kept, "sessions go on without the agent");
        }
        info!(sessions = own, "ending sessions");
        self.own.shutdown(stop, SHUTDOWN).await;
    }

    /// Has keepers end their sessions, and takes the results.
    async fn end_kept(&mut self) {
        for remote in self
            .keepers
            .iter()
            .flat_map(|keepers| keepers.remotes.values())
        {
            remote.order(ToKeeper::End);
        }
        while self.keepers.as_ref().map_or(0, Keepers::count) > 0 {
            let Some((number, heard)) = hear(self.keepers.as_mut()).await else {
                return;
            };
            self.handle(number, heard).await;
        }
    }
}

impl Keepers {
    fn add(&mut self, stream: tokio::net::UnixStream) -> u64 {
        let number = self.next;
        self.next += 1;
        let remote = Remote::open(stream, self.briefing.clone(), number, self.hear.clone());
        self.remotes.insert(number, remote);
        number
    }

    fn has(&self, id: &SessionId) -> bool {
        self.remotes.values().any(|remote| remote.has(id))
    }

    /// How many sessions they have.
    fn count(&self) -> usize {
        self.remotes
            .values()
            .map(|remote| remote.sessions.len() + remote.offered.len())
            .sum()
    }

    /// Gives a session to the current keeper, or to a new one; it comes back if there can be none.
    async fn give(&mut self, start: Box<StartSession>) -> Result<(), Box<StartSession>> {
        let current = self.remotes.values_mut().find(|remote| remote.is_current);
        if let Some(remote) = current {
            return remote.offer(start);
        }
        if self
            .paused_until
            .is_some_and(|until| Instant::now() < until)
        {
            return Err(start);
        }
        let (mut child, stream) = match self.sockets.spawn(&self.program).await {
            Ok(spawned) => spawned,
            Err(error) => {
                warn!(%error, "a keeper cannot be started, the agent carries the session");
                self.paused_until = Some(Instant::now() + PAUSE);
                return Err(start);
            }
        };
        tokio::spawn(async move {
            match child.wait().await {
                Ok(status) => debug!(%status, "a keeper has ended"),
                Err(error) => debug!(%error, "the end of a keeper is not known"),
            }
        });
        let number = self.add(stream);
        match self.remotes.get_mut(&number) {
            Some(remote) => {
                remote.is_current = true;
                remote.offer(start)
            }
            None => Err(start),
        }
    }

    /// When the first session will have waited too long to be accepted.
    fn overdue_at(&self) -> Option<Instant> {
        let offered = self
            .remotes
            .values()
            .flat_map(|remote| remote.offered.values());
        offered.map(|(_, since)| *since + ACCEPT_LIMIT).min()
    }

    /// The sessions that have. Their keepers get no others; should one come to them after all, it is
    /// told to end them.
    fn take_overdue(&mut self) -> Vec<StartSession> {
        let now = Instant::now();
        let mut overdue = Vec::new();
        for remote in self.remotes.values_mut() {
            let late: HashSet<SessionId> = remote
                .offered
                .iter()
                .filter(|(_, (_, since))| *since + ACCEPT_LIMIT <= now)
                .map(|(id, _)| id.clone())
                .collect();
            for session_id in late {
                remote.is_current = false;
                if let Some((start, _)) = remote.offered.remove(&session_id) {
                    overdue.push(*start);
                }
                remote.order(ToKeeper::Terminate { session_id });
            }
        }
        overdue
    }
}

async fn hear(keepers: Option<&mut Keepers>) -> Option<(u64, Heard)> {
    match keepers {
        Some(keepers) => keepers.heard.recv().await,
        None => std::future::pending().await,
    }
}
