//! The running agent: identity, control channel, sessions and health, joined.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::select;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use super::audit::{AuditLog, Event, Text};
use super::config::Settings;
use super::control::{self, DataChannelConnector, DataChannels, Instruction, Outbox, Status};
use super::keys::Kms;
use super::services::RecordServices;
use super::session::{self, DataChannelSource, Outcome, Supervisor};
use super::status::{Problems, View};
use super::transcript::{Destination, RecordedFile, RemoteCopy, Transcript, Uploads};
use super::{health, identity, local_api, run_command, setup, status};
use crate::protocol::wire::SessionId;
use crate::protocol::wire::task::{Recording, TaskComplete};
use crate::runtime::background::Background;
use crate::runtime::exit::Hint;
use crate::runtime::{lifecycle, systemd};

/// Outcomes that may wait to be put into the outbox.
const OUTCOME_QUEUE: usize = 64;
/// How long open sessions get to say good-bye when the agent stops.
const SESSION_SHUTDOWN: Duration = Duration::from_secs(5);
/// How long uploads of their records get then; what is left is uploaded after the next start.
const UPLOAD_SHUTDOWN: Duration = Duration::from_secs(2);
/// How long everything else gets after that.
const TASK_SHUTDOWN: Duration = Duration::from_secs(2);
/// How often old recordings are looked for, as often as the reference at most.
const SWEEP_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// What an agent needs to run.
#[derive(Debug, Clone)]
pub struct Start {
    /// The checked configuration.
    pub settings: Settings,
    /// State folder.
    pub state: PathBuf,
    /// Log folder.
    pub logs: PathBuf,
    /// The socket that `ssm-cli` asks through.
    pub socket: PathBuf,
    /// A program of ours that takes the login step.
    pub program: PathBuf,
}

impl DataChannelSource for DataChannels {
    type Connector = DataChannelConnector;

    fn connector(&self, session: &SessionId) -> DataChannelConnector {
        Self::connector(self, session)
    }
}

/// Runs the agent until `cancel`.
///
/// # Errors
/// If it cannot start: no identity, or a certificate file that cannot be used. Whatever fails later
/// is tried again.
pub async fn run(start: Start, cancel: CancellationToken) -> anyhow::Result<()> {
    let Start {
        settings,
        state,
        logs,
        socket,
        program,
    } = start;
    let tls = setup::tls(&settings).context("cannot set up TLS")?;
    let tasks = TaskTracker::new();
    let started = status::now();
    // Sessions report on the control channel to the very end, so it stops after them.
    let channel_cancel = CancellationToken::new();
    let opened = identity::open(
        &setup::identity(&settings, &state),
        &tls,
        channel_cancel.clone(),
    );
    let (identity, upkeep) = opened.map_err(|error| {
        let hint = error.hint();
        Hint::with(error, hint)
    })?;
    info!(
        node = identity.node_id(),
        kind = identity.kind().name(),
        region = identity.region(),
        "agent starts"
    );
    tasks.spawn(upkeep);

    let client = identity.client().clone();
    let node_id = identity.node_id().to_owned();
    let control_settings = control::Settings::new(&node_id);
    let (handle, channel) = control::open(control_settings, client.clone(), channel_cancel.clone());
    tasks.spawn(channel);
    let (connected, connected_seen) = watch::channel(false);
    tasks.spawn(follow_status(
        handle.status.clone(),
        connected,
        channel_cancel.clone(),
    ));
    tasks.spawn(health::run(
        node_id.clone(),
        settings.health_interval,
        client.clone(),
        connected_seen,
        cancel.clone(),
    ));
    let services = Arc::new(RecordServices {
        client: client.clone(),
        status: handle.status.clone(),
    });
    let background = Background::start("uploads").context("cannot start a thread")?;
    let uploads = Arc::new(Uploads::new(
        setup::journal(&settings, &state),
        services,
        background.handle().clone(),
    ));
    tasks.spawn(recover(
        Arc::clone(&uploads),
        handle.status.clone(),
        cancel.clone(),
    ));
    let recording = setup::transcript(&settings, &logs);
    let recordings = recording.as_ref().map(|own| own.directory.clone());
    let transcript = Transcript::new(recording);
    let transcript = transcript.with_uploads(Arc::clone(&uploads));
    tasks.spawn(sweep(transcript.clone(), cancel.clone()));
    tasks.spawn(systemd::feed_watchdog(cancel.clone()));

    let audit = match setup::audit(&settings, &logs) {
        Some(settings) => {
            let (audit, write) = AuditLog::open(settings);
            tasks.spawn(write);
            audit
        }
        None => AuditLog::off(),
    };
    audit.record(&Event::AgentStarted {
        node: Text::from(&node_id),
        version: env!("CARGO_PKG_VERSION"),
    });

    let (outcomes, results) = mpsc::channel(OUTCOME_QUEUE);
    let problems = Problems::default();
    let reporting = tasks.spawn(report(
        results,
        handle.outbox.clone(),
        node_id.clone(),
        problems.clone(),
    ));
    let sessions = session::Settings {
        parameters: Some(Arc::new(client.clone())),
        audit: audit.clone(),
        ..setup::session(
            &settings,
            &node_id,
            program,
            Arc::new(Kms::new(client.clone())),
        )
    };
    let commands = setup::commands(&settings, &state, &identity, sessions.open_files);
    let (since, since_seen) = watch::channel(started);
    tasks.spawn(status::follow(
        handle.status.clone(),
        since,
        problems.clone(),
    ));
    let view = View {
        identity,
        started,
        channel: handle.status.clone(),
        since: since_seen,
        roster: sessions.roster.clone(),
        load: commands.load.subscribe(),
        uploads: Arc::clone(&uploads),
        recordings,
        problems,
    };
    tasks.spawn(local_api::run(
        socket,
        Arc::new(move |request| view.answer(&request)),
        channel_cancel.clone(),
    ));
    let channels = run_command::Channels {
        jobs: handle.jobs,
        answers: handle.answers,
        connections: handle.connections,
    };
    tasks.spawn(run_command::run(
        commands,
        channels,
        run_command::Services {
            parameters: Some(Arc::new(client.clone())),
            client: Some(client.clone()),
            audit: audit.clone(),
        },
        cancel.clone(),
    ));
    let supervisor = Supervisor::new(
        sessions,
        DataChannels::new(client, node_id),
        transcript,
        outcomes,
        cancel.clone(),
    );
    dispatch(handle.instructions, supervisor, &cancel).await;
    uploads.shutdown(UPLOAD_SHUTDOWN).await;

    audit.record(&Event::AgentStopped);
    audit.close();
    // Every session has reported by now; what they reported still has to go out.
    let _ = tokio::time::timeout(TASK_SHUTDOWN, reporting).await;
    channel_cancel.cancel();
    lifecycle::drain("agent", &tasks, TASK_SHUTDOWN).await;
    info!("agent stopped");
    Ok(())
}

/// Hands instructions to the supervisor until `cancel`, then ends the sessions.
async fn dispatch(
    mut instructions: mpsc::Receiver<Instruction>,
    mut supervisor: Supervisor,
    cancel: &CancellationToken,
) {
    loop {
        let instruction = select! {
            () = cancel.cancelled() => break,
            instruction = instructions.recv() => instruction,
        };
        match instruction {
            Some(Instruction::Start(start)) => supervisor.start(start),
            Some(Instruction::Terminate(session)) => supervisor.terminate(&session),
            None => break,
        }
    }
    systemd::stopping();
    info!(sessions = supervisor.active(), "ending sessions");
    supervisor.shutdown(SESSION_SHUTDOWN).await;
}

/// Reports results of sessions until there can be no more.
async fn report(
    mut outcomes: mpsc::Receiver<Outcome>,
    outbox: Outbox,
    node_id: String,
    problems: Problems,
) {
    while let Some(outcome) = outcomes.recv().await {
        if let Some(problem) = &outcome.recording.problem {
            problems.note("recording", problem);
        }
        let id = outcome.session_id.as_str();
        let mut result = TaskComplete::new(id, &node_id, outcome.status, &outcome.output);
        result.exit_code = outcome.exit_code;
        for copy in &outcome.recording.copies {
            name_place(&mut result, copy);
        }
        result.recordings = outcome.recording.files.iter().map(recording).collect();
        outbox.complete(result).await;
    }
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
        Destination::S3 { bucket, .. } => {
            result.s3_url_suffix = within(format!("s3://{bucket}/"));
            result.s3_bucket.clone_from(bucket);
        }
        Destination::CloudWatch { group, .. } => {
            result.cwl_stream = within(format!("{group}:"));
            result.cwl_group.clone_from(group);
        }
        Destination::Gateway => {}
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

/// Tells systemd and the health report how the control channel stands.
async fn follow_status(
    mut status: watch::Receiver<Status>,
    connected: watch::Sender<bool>,
    cancel: CancellationToken,
) {
    loop {
        let up = match &*status.borrow_and_update() {
            Status::Connected { .. } => {
                systemd::ready();
                systemd::status("connected");
                true
            }
            Status::Waiting { .. } => {
                // An agent whose gateway is away runs all the same, and is ready for its return.
                systemd::ready();
                systemd::status("not connected, trying again");
                false
            }
            Status::Connecting | Status::Stopped => false,
        };
        connected.send_replace(up);
        let changed = select! {
            () = cancel.cancelled() => return,
            changed = status.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Goes on with the uploads of an earlier run, once it is known what the gateway takes.
async fn recover(
    uploads: Arc<Uploads>,
    mut status: watch::Receiver<Status>,
    cancel: CancellationToken,
) {
    let connected = status.wait_for(|status| matches!(status, Status::Connected { .. }));
    let connected = async { connected.await.is_ok() };
    if cancel.run_until_cancelled(connected).await == Some(true) {
        uploads.recover().await;
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
            standing: Standing::Continuing,
        };
        let (bucket, group) = ("bkt".to_owned(), "/grp".to_owned());
        let s3 = Destination::S3 {
            bucket,
            key_prefix: "a".into(),
            encrypted: false,
        };
        let cloud_watch = Destination::CloudWatch {
            group,
            encrypted: false,
            streaming: true,
        };

        name_place(&mut result, &copy(s3, "s3://bkt/a/alice-1.log"));
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
