//! The uploads of all sessions of an agent: those that run, those that ended, and those that an
//! earlier run of the agent has left.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error, info_span, warn};

use super::entry::About;
use super::journal::{self, Follower, Journal, JournalSink, Left, Manifest, Position, Store};
use super::remote::{Destination, Policy, Progress, Services, Target};
use super::uploader::{CheckError, UploadError, Uploader};
use crate::protocol::wire::SessionId;
use crate::runtime::cause::in_one_line;
use crate::runtime::lifecycle;

/// Batches of one service that are in memory at once: a part of 8 MiB each makes 64 MiB.
const AT_ONCE: usize = 8;
/// Longest time that a check of a service holds up the start of a session.
const CHECK_LIMIT: Duration = Duration::from_secs(10);
/// Longest time that an upload takes to write down how far it has got.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// The uploads of all sessions of an agent.
pub struct Uploads {
    store: Arc<Store>,
    services: Arc<dyn Services>,
    permits: Mutex<HashMap<&'static str, Arc<Semaphore>>>,
    /// Where they run.
    runtime: Handle,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Uploads {
    /// Uploads by way of journals as `settings` say, on `runtime`; `services` makes the uploaders.
    pub fn new(settings: journal::Settings, services: Arc<dyn Services>, runtime: Handle) -> Self {
        Self {
            runtime,
            store: Arc::new(Store::new(settings)),
            services,
            permits: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Looks whether the services would take the record of a session that is about to start.
    ///
    /// # Errors
    /// Text for the person, if the session must not start.
    pub async fn check(&self, about: &Arc<About>, targets: &[Target]) -> Result<(), String> {
        for target in targets {
            let Some(mut uploader) = self.services.uploader(about, &target.destination, None)
            else {
                unserved(target)?;
                continue;
            };
            let checked = timeout(CHECK_LIMIT, uploader.check()).await;
            let checked = checked.unwrap_or_else(|late| {
                Err(CheckError::Upload(UploadError::Transient(late.into())))
            });
            match (checked, target.policy) {
                (Ok(()), _) => {}
                (Err(CheckError::Unmet(text)), _) => return Err(text),
                (Err(CheckError::Upload(error)), Policy::FailClosed) => {
                    let service = uploader.name();
                    let error = in_one_line(&error);
                    return Err(format!(
                        "the session has to be recorded by {service}, which does not take it: {error}"
                    ));
                }
                (Err(CheckError::Upload(error)), Policy::FailOpen) => {
                    let error = in_one_line(&error);
                    warn!(
                        service = uploader.name(),
                        error, "the record may not be taken"
                    );
                }
            }
        }
        Ok(())
    }

    /// Starts to upload the record of a session; what to write it to, if there is any service for it.
    pub(super) fn follow(
        &self,
        about: &Arc<About>,
        targets: &[Target],
    ) -> Option<(Arc<Journal>, JournalSink)> {
        let (targets, uploaders): (Vec<Target>, Vec<_>) = targets
            .iter()
            .filter_map(|target| {
                let uploader = self.services.uploader(about, &target.destination, None);
                if uploader.is_none() {
                    warn_of_unserved(target);
                }
                Some((target.clone(), uploader?))
            })
            .unzip();
        if targets.is_empty() {
            return None;
        }
        let positions = vec![Position::default(); targets.len()];
        let copies = journal::copies(&targets, &uploaders, &positions);
        let journal = Arc::new(Journal::new(Arc::clone(&self.store), copies));
        self.store.enter(&about.session_id, &journal);
        self.spawn(&journal, uploaders, &positions);
        let manifest = Manifest {
            about: About::clone(about),
            targets,
        };
        Some((Arc::clone(&journal), JournalSink::new(journal, manifest)))
    }

    /// Goes on with what an earlier run of the agent has left. To be called when the agent starts.
    pub async fn recover(&self) {
        let store = Arc::clone(&self.store);
        let found = tokio::task::spawn_blocking(move || journal::recover(&store));
        match found.await {
            Ok(found) => found.into_iter().for_each(|left| self.go_on(left)),
            Err(failure) => error!(error = %failure, "cannot look for records to upload"),
        }
    }

    fn go_on(&self, left: Left) {
        let span = info_span!("transcript", session = %left.manifest.about.session_id);
        let _entered = span.enter();
        let about = Arc::new(left.manifest.about.clone());
        let targets = &left.manifest.targets;
        let uploaders = targets
            .iter()
            .zip(&left.positions)
            .map(|(target, position)| {
                let state = Some(&position.state).filter(|state| !state.is_null());
                self.services.uploader(&about, &target.destination, state)
            });
        let Some(uploaders) = uploaders.collect::<Option<Vec<_>>>() else {
            warn!("a record waits for a service that this agent does not have");
            return;
        };
        let copies = journal::copies(targets, &uploaders, &left.positions);
        let positions = left.positions.clone();
        let journal = Arc::new(Journal::recovered(Arc::clone(&self.store), copies, left));
        self.store.enter(&about.session_id, &journal);
        self.spawn(&journal, uploaders, &positions);
    }

    /// How far the records are that are under way, by session.
    pub fn progress(&self) -> Vec<(SessionId, Progress)> {
        let journals = self.store.journals().into_iter();
        journals
            .filter(|(_, journal)| !journal.is_settled())
            .flat_map(|(id, journal)| {
                let copies = journal.progress().into_iter();
                copies.map(move |progress| (id.clone(), progress))
            })
            .collect()
    }

    /// Gives up the records that have waited for too long.
    pub async fn sweep(&self) {
        let store = Arc::clone(&self.store);
        if let Err(failure) = tokio::task::spawn_blocking(move || store.sweep()).await {
            error!(error = %failure, "clean-up of records to upload failed");
        }
    }

    /// Whether nothing is being uploaded.
    pub fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Waits until every upload has ended, at most `deadline`; what is left then is for the next start
    /// of the agent.
    pub async fn shutdown(&self, deadline: Duration) {
        lifecycle::drain("uploads of records", &self.tasks, deadline).await;
        self.stop.cancel();
        lifecycle::drain("uploads of records", &self.tasks, STOP_LIMIT).await;
    }

    fn spawn(
        &self,
        journal: &Arc<Journal>,
        uploaders: Vec<Box<dyn Uploader>>,
        positions: &[Position],
    ) {
        for (number, (uploader, position)) in uploaders.into_iter().zip(positions).enumerate() {
            if !position.is_followed() {
                continue;
            }
            let permits = self.permits(uploader.name());
            let journal = Arc::clone(journal);
            let follower = Follower::new(journal, number, uploader, permits, position.entry);
            let run = follower.run(self.stop.child_token());
            self.tasks.spawn_on(run.in_current_span(), &self.runtime);
        }
    }

    fn permits(&self, service: &'static str) -> Arc<Semaphore> {
        // Nothing that can panic runs while the lock is held.
        let mut permits = self.permits.lock().unwrap_or_else(PoisonError::into_inner);
        let permits = permits.entry(service);
        Arc::clone(permits.or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))))
    }
}

/// What a session whose record no service takes means to its start.
///
/// # Errors
/// Text for the person, if it must not start.
pub(super) fn unserved(target: &Target) -> Result<(), String> {
    match target.policy {
        Policy::FailOpen => Ok(()),
        Policy::FailClosed => Err(format!(
            "the session has to be recorded by {}, which is not available",
            target.destination
        )),
    }
}

/// Tells the operator of the host that a record stays on it. Not every gateway takes records.
pub(super) fn warn_of_unserved(target: &Target) {
    match &target.destination {
        Destination::S3 { .. } | Destination::CloudWatch { .. } => warn!(
            destination = ?target.destination,
            "this agent does not have the service that the record is for"
        ),
        Destination::Gateway => {}
    }
}
