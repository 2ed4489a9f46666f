//! Recording for all sessions of an agent.

use std::future::Future;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, error, info_span};

use super::entry::{About, Settings};
use super::file_sink::FileSink;
use super::recorder::Recorder;
use super::remote::{Policy, Target};
use super::shelf::Shelf;
use super::sink::Sink;
use super::spool::Spool;
use super::uploads::{self, Uploads};
use super::writer::{self, WRITE_LIMIT};
use crate::protocol::wire::SessionId;
use crate::runtime::cause::in_one_line;

/// Memory per session and file that may wait for the disk: 2.5 ms of output at 100 MB/s, and some
/// thousand keystrokes while a disk is full.
pub const DEFAULT_SPOOL: usize = 256 << 10;

/// Starts recordings and keeps their folder within age and quota. A clone is the same transcript.
#[derive(Clone)]
pub struct Transcript {
    recording: Option<Arc<Recording>>,
    uploads: Option<Arc<Uploads>>,
}

struct Recording {
    settings: Settings,
    shelf: Arc<Shelf>,
}

impl Transcript {
    /// Recording as `settings` say, or none at all.
    pub fn new(settings: Option<Settings>) -> Self {
        let recording = settings.map(|settings| {
            let shelf = Arc::new(Shelf::new(&settings));
            Arc::new(Recording { settings, shelf })
        });
        Self {
            recording,
            uploads: None,
        }
    }

    /// Brings records to services too.
    #[must_use]
    pub fn with_uploads(self, uploads: Arc<Uploads>) -> Self {
        Self {
            uploads: Some(uploads),
            ..self
        }
    }

    /// Looks whether the host and the services would take the record of a session that is about to
    /// start.
    ///
    /// # Errors
    /// Text for the person, if the session must not start.
    pub async fn check(&self, about: About, targets: &[Target]) -> Result<(), String> {
        if let Some(recording) = &self.recording
            && recording.settings.policy == Policy::FailClosed
        {
            recording.check(&about.session_id).await?;
        }
        match &self.uploads {
            Some(uploads) => uploads.check(&Arc::new(about), targets).await,
            None => targets.iter().try_for_each(uploads::unserved),
        }
    }

    /// Starts the recording of a session: the recorder for the session, and the writer, which the
    /// caller spawns and which ends after [`Recorder::finish`] or with the recorder's drop. What goes
    /// to `targets` goes there whether or not the caller's task lives.
    ///
    /// # Panics
    /// Outside of a tokio runtime, if there are targets.
    pub fn start(
        &self,
        about: About,
        targets: &[Target],
    ) -> (Recorder, impl Future<Output = ()> + Send + use<> + 'static) {
        let span = info_span!("transcript", session = %about.session_id);
        let about = Arc::new(about);
        let uploads = self.uploads.as_ref();
        if uploads.is_none() {
            span.in_scope(|| targets.iter().for_each(uploads::warn_of_unserved));
        }
        let journal = uploads.and_then(|uploads| span.in_scope(|| uploads.follow(&about, targets)));
        let broken = match &journal {
            Some((journal, _)) => journal.broken(),
            None => CancellationToken::new(),
        };
        let mut sinks = self.files(&about, &broken);
        let journal = journal.map(|(journal, sink)| {
            // It knows for itself which services have to have the record.
            sinks.push((Box::new(sink), None));
            journal
        });
        let (record_input, spool) = (self.recording.as_ref())
            .map_or((false, DEFAULT_SPOOL), |recording| {
                (recording.settings.record_input, recording.settings.spool)
            });
        let (recorder, write) = record(sinks, spool, record_input, span.clone());
        let recorder = recorder.with_journal(journal, broken);
        let transcript = self.clone();
        let task = async move {
            write.await;
            transcript.sweep_if_due().await;
        };
        (recorder, task.instrument(span))
    }

    /// Deletes recordings that are too old or above the quota, never one that is being written, and
    /// records that have waited too long for a service.
    /// To be called when the agent starts; a session's end calls it when it is due.
    pub async fn sweep(&self) {
        if let Some(recording) = &self.recording {
            let shelf = Arc::clone(&recording.shelf);
            run_blocking(move || shelf.sweep()).await;
        }
        if let Some(uploads) = &self.uploads {
            uploads.sweep().await;
        }
    }

    async fn sweep_if_due(&self) {
        if let Some(recording) = &self.recording
            && recording.shelf.is_sweep_due()
        {
            self.sweep().await;
        }
    }

    /// The sinks of the files. If a session has to be recorded, `broken` is cancelled when one of them
    /// does not take its record.
    fn files(&self, about: &Arc<About>, broken: &CancellationToken) -> Vec<Spooled> {
        let Some(recording) = &self.recording else {
            return Vec::new();
        };
        let Settings {
            formats, policy, ..
        } = &recording.settings;
        let file = |&format| {
            let shelf = Arc::clone(&recording.shelf);
            let sink = FileSink::new(format, shelf, Arc::clone(about));
            let strict = match policy {
                Policy::FailOpen => None,
                Policy::FailClosed => Some(broken.clone()),
            };
            (Box::new(sink) as Box<dyn Sink>, strict)
        };
        formats.iter().map(file).collect()
    }
}

impl Recording {
    /// Looks whether files can be written.
    async fn check(&self, session: &SessionId) -> Result<(), String> {
        let (shelf, session) = (Arc::clone(&self.shelf), session.clone());
        let probe = tokio::task::spawn_blocking(move || shelf.probe(&session));
        let problem = match timeout(WRITE_LIMIT, probe).await {
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(Err(error))) => in_one_line(&error),
            Ok(Err(failure)) => failure.to_string(),
            Err(_) => format!("it did not answer within {} s", WRITE_LIMIT.as_secs()),
        };
        let directory = self.shelf.directory().display();
        Err(format!(
            "the session has to be recorded in {directory}, which does not take it: {problem}"
        ))
    }
}

/// A sink that gets a spool, and what is cancelled when it does not take everything, if it has to.
pub(super) type Spooled = (Box<dyn Sink>, Option<CancellationToken>);

/// A recorder and the writer of its sinks, each behind a spool of its own, so that one that fails
/// does not harm the others.
pub(super) fn record(
    sinks: Vec<Spooled>,
    spool: usize,
    record_input: bool,
    span: Span,
) -> (Recorder, impl Future<Output = ()> + Send + 'static) {
    let abandon = CancellationToken::new();
    let (spools, writers): (Vec<_>, Vec<_>) = sinks
        .into_iter()
        .map(|(sink, strict)| {
            let spool = Spool::new(spool);
            let spool = Arc::new(match strict {
                Some(broken) => spool.strict(broken),
                None => spool,
            });
            (Arc::clone(&spool), writer::run(spool, sink))
        })
        .unzip();
    let recorder = Recorder::new(spools, record_input, abandon.clone(), span);
    let write = async move {
        abandon.run_until_cancelled(join_all(writers)).await;
    };
    (recorder, write)
}

async fn run_blocking(work: impl FnOnce() + Send + 'static) {
    if let Err(failure) = tokio::task::spawn_blocking(work).await {
        error!(error = %failure, "clean-up of recordings failed");
    }
}
