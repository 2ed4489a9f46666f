//! What it takes to carry sessions: the supervisor, their records and the audit log, joined. The agent
//! has one, and so has each keeper.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::select;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::audit::AuditLog;
use super::config::Settings;
use super::control::{DataChannelConnector, DataChannels, Status};
use super::keys::Kms;
use super::networks;
use super::services::RecordServices;
use super::session::{self, DataChannelSource, Networks, Outcome, Roster, Supervisor};
use super::setup;
use super::status::{Problems, Showing};
use super::transcript::{Destination, RecordedFile, RemoteCopy, Transcript, Uploads};
use crate::aws::Client;
use crate::aws::metadata::Metadata;
use crate::protocol::wire::SessionId;
use crate::protocol::wire::task::{Recording, TaskComplete};
use crate::runtime::background::Background;

/// Outcomes that may wait to be taken.
const OUTCOME_QUEUE: usize = 64;
/// How often old recordings are looked for, as often as the reference at most.
const SWEEP_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// Where an agent keeps things.
#[derive(Debug, Clone)]
pub struct Places {
    /// State folder.
    pub state: PathBuf,
    /// Log folder.
    pub logs: PathBuf,
    /// A program of ours that takes the login step.
    pub program: PathBuf,
}

/// Whose sessions they are.
pub struct Node {
    /// Its id.
    pub id: String,
    /// Signs as the node.
    pub client: Client,
    /// How the control channel stands.
    pub status: watch::Receiver<Status>,
    /// Soft limit on open files for sessions, if this process does not know it: it has raised its own.
    pub open_files: Option<u64>,
    /// Where the sessions are shown.
    pub roster: Roster,
    /// Metadata, if it is an instance.
    pub metadata: Option<Metadata>,
}

/// What carries sessions.
pub struct Carrier {
    /// Runs them.
    pub supervisor: Supervisor,
    /// Their results.
    pub outcomes: mpsc::Receiver<Outcome>,
    /// Where their records go.
    pub uploads: Arc<Uploads>,
    /// What is told of them.
    pub audit: AuditLog,
    /// What is shown of them.
    pub showing: Showing,
    /// Soft limit on open files for what is started.
    pub open_files: Option<u64>,
    /// The thread of the uploads; they end when it is dropped.
    pub background: Background,
}

impl DataChannelSource for DataChannels {
    type Connector = DataChannelConnector;

    fn connector(&self, session: &SessionId) -> DataChannelConnector {
        Self::connector(self, session)
    }
}

impl Carrier {
    /// Without sessions. Its tasks go to `tasks` and end with `cancel`; the supervisor is ended by
    /// whoever runs it.
    ///
    /// # Errors
    /// If there can be no more threads.
    pub fn open(
        settings: &Settings,
        places: &Places,
        node: Node,
        tasks: &TaskTracker,
        cancel: &CancellationToken,
    ) -> io::Result<Self> {
        let services = Arc::new(RecordServices {
            client: node.client.clone(),
            status: node.status,
        });
        let background = Background::start("uploads")?;
        let uploads = Arc::new(Uploads::new(
            setup::journal(settings, &places.state),
            services,
            background.handle().clone(),
        ));
        let transcript = Transcript::new(setup::transcript(settings, &places.logs));
        let transcript = transcript.with_uploads(Arc::clone(&uploads));
        tasks.spawn(sweep(transcript.clone(), cancel.clone()));
        let audit = match setup::audit(settings, &places.logs) {
            Some(settings) => {
                let (audit, write) = AuditLog::open(settings);
                tasks.spawn(write);
                audit
            }
            None => AuditLog::off(),
        };
        let keys = Arc::new(Kms::new(node.client.clone()));
        let sessions = setup::session(settings, &node.id, places.program.clone(), keys);
        let networks = node.metadata.map_or_else(Networks::default, |metadata| {
            let (networks, asking) = networks::follow(&metadata, cancel.clone());
            tasks.spawn(asking);
            networks
        });
        let sessions = session::Settings {
            networks,
            parameters: Some(Arc::new(node.client.clone())),
            audit: audit.clone(),
            open_files: node.open_files.or(sessions.open_files),
            roster: node.roster,
            ..sessions
        };
        let open_files = sessions.open_files;
        let showing = Showing {
            roster: sessions.roster.clone(),
            uploads: Arc::clone(&uploads),
            problems: Problems::default(),
        };
        let (outcome, outcomes) = mpsc::channel(OUTCOME_QUEUE);
        let supervisor = Supervisor::new(
            sessions,
            DataChannels::new(node.client, node.id),
            transcript,
            outcome,
            CancellationToken::new(),
        );
        Ok(Self {
            supervisor,
            outcomes,
            uploads,
            audit,
            showing,
            open_files,
            background,
        })
    }
}

/// The result of a session as the gateway gets it.
pub fn task_complete(outcome: Outcome, node_id: &str) -> TaskComplete {
    let id = outcome.session_id.as_str();
    let mut result = TaskComplete::new(id, node_id, outcome.status, &outcome.output);
    result.exit_code = outcome.exit_code;
    for copy in &outcome.recording.copies {
        name_place(&mut result, copy);
    }
    result.recordings = outcome.recording.files.iter().map(recording).collect();
    result
}

/// Names where a service keeps the record, as the reference does: whether or not all of it is there.
fn name_place(result: &mut TaskComplete, copy: &RemoteCopy) {
    let within = |outer: String| {
        copy.place
            .strip_prefix(&outer)
            .unwrap_or_default()
            .to_owned()
    };
    match &copy.destination {
        Destination::S3 {
            bucket,
            cast: false,
            ..
        } => {
            result.s3_url_suffix = within(format!("s3://{bucket}/"));
            result.s3_bucket.clone_from(bucket);
        }
        Destination::CloudWatch { group, .. } => {
            result.cwl_stream = within(format!("{group}:"));
            result.cwl_group.clone_from(group);
        }
        // The result has room for one object, which is the text.
        Destination::S3 { cast: true, .. } | Destination::Gateway => {}
    }
}

/// What leaves the host of a recording: which file it is, without the way to it, and its digest.
fn recording(file: &RecordedFile) -> Recording {
    let name = file.path.file_name().unwrap_or_default();
    Recording {
        file: name.to_string_lossy().into_owned(),
        bytes: file.bytes,
        sha256: file.sha256.to_string(),
    }
}

/// Deletes old recordings now and then.
async fn sweep(transcript: Transcript, cancel: CancellationToken) {
    let mut ticks = interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        select! {
            () = cancel.cancelled() => return,
            _ = ticks.tick() => transcript.sweep().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::transcript::Standing;
    use super::*;
    use crate::protocol::wire::task::TaskStatus;

    #[test]
    fn result_names_the_places_of_the_record() {
        let mut result = TaskComplete::new("alice-1", "mi-1", TaskStatus::Success, "");
        let copy = |destination, place: &str| RemoteCopy {
            service: "a service",
            destination,
            place: place.into(),
            lost_bytes: 0,
            standing: Standing::Continuing,
        };
        let (bucket, group) = ("bkt".to_owned(), "/grp".to_owned());
        let s3 = |cast| Destination::S3 {
            bucket: bucket.clone(),
            key_prefix: "a".into(),
            encrypted: false,
            cast,
        };
        let cloud_watch = Destination::CloudWatch {
            group,
            encrypted: false,
            streaming: true,
        };

        name_place(&mut result, &copy(s3(false), "s3://bkt/a/alice-1.log"));
        name_place(&mut result, &copy(s3(true), "s3://bkt/a/alice-1.cast"));
        name_place(&mut result, &copy(cloud_watch, "/grp:alice-1"));

        assert_eq!(
            (result.s3_bucket, result.s3_url_suffix),
            ("bkt".into(), "a/alice-1.log".into())
        );
        assert_eq!(
            (result.cwl_group, result.cwl_stream),
            ("/grp".into(), "alice-1".into())
        );
    }
}
