//! Recording for all sessions of an agent.

use std::future::Future;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, error, info_span};

use super::entry::{About, Settings};
use super::file_sink::FileSink;
use super::recorder::Recorder;
use super::remote::Target;
use super::shelf::Shelf;
use super::sink::Sink;
use super::spool::Spool;
use super::uploads::{self, Uploads};
use super::writer;

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

    /// Looks whether the services would take the record of a session that is about to start.
    ///
    /// # Errors
    /// Text for the person, if the session must not start.
    pub async fn check(&self, about: About, targets: &[Target]) -> Result<(), String> {
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
    ) -> (Recorder, impl Future<Output = ()> + Send + 'static) {
        let span = info_span!("transcript", session = %about.session_id);
        let about = Arc::new(about);
        let mut sinks = self.sinks(&about);
        let uploads = self.uploads.as_ref();
        if uploads.is_none() {
            span.in_scope(|| targets.iter().for_each(uploads::warn_of_unserved));
        }
        let journal = uploads.and_then(|uploads| span.in_scope(|| uploads.follow(&about, targets)));
        let journal = journal.map(|(journal, sink)| {
            sinks.push(Box::new(sink));
            journal
        });
        let (record_input, spool) = (self.recording.as_ref())
            .map_or((false, DEFAULT_SPOOL), |recording| {
                (recording.settings.record_input, recording.settings.spool)
            });
        let (recorder, write) = record(sinks, spool, record_input, span.clone());
        let recorder = recorder.with_journal(journal);
        let transcript = self.clone();
        let task = async move {
            write.await;
            transcript.sweep_if_due().await;
        };
        (recorder, task.instrument(span))
    }

    /// Deletes recordings that are too old or above the quota, never one that is being written.
    /// To be called when the agent starts; a session's end calls it when it is due.
    pub async fn sweep(&self) {
        if let Some(recording) = &self.recording {
            let shelf = Arc::clone(&recording.shelf);
            run_blocking(move || shelf.sweep()).await;
        }
    }

    async fn sweep_if_due(&self) {
        if let Some(recording) = &self.recording
            && recording.shelf.is_sweep_due()
        {
            self.sweep().await;
        }
    }

    fn sinks(&self, about: &Arc<About>) -> Vec<Box<dyn Sink>> {
        let recording = self.recording.iter();
        recording
            .flat_map(|recording| {
                recording.settings.formats.iter().map(|&format| {
                    let shelf = Arc::clone(&recording.shelf);
                    let sink = FileSink::new(format, shelf, Arc::clone(about));
                    Box::new(sink) as Box<dyn Sink>
                })
            })
            .collect()
    }
}

/// A recorder and the writer of its sinks, each behind a spool of its own, so that one that fails
/// does not harm the others.
pub(super) fn record(
    sinks: Vec<Box<dyn Sink>>,
    spool: usize,
    record_input: bool,
    span: Span,
) -> (Recorder, impl Future<Output = ()> + Send + 'static) {
    let abandon = CancellationToken::new();
    let (spools, writers): (Vec<_>, Vec<_>) = sinks
        .into_iter()
        .map(|sink| {
            let spool = Arc::new(Spool::new(spool));
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
