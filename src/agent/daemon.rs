//! The running agent: identity, control channel, sessions and health, joined.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::select;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use super::audit::{Event, Text};
use super::carrier::{Carrier, Node, Places, task_complete};
use super::config::Settings;
use super::control::{self, Outbox, Status};
use super::keeper::{self, Program, Sessions};
use super::run_command::Refresh;
use super::session::{Outcome, Roster};
use super::status::{Showing, View};
use super::transcript::Uploads;
use super::{connection, health, identity, local_api, run_command, setup, status};
use crate::runtime::exit::Hint;
use crate::runtime::network::NetworkChanges;
use crate::runtime::{lifecycle, systemd};

/// How long uploads of their records get once the sessions are over; what is left is uploaded after
/// the next start.
const UPLOAD_SHUTDOWN: Duration = Duration::from_secs(2);
/// How long everything else gets after that.
const TASK_SHUTDOWN: Duration = Duration::from_secs(2);

/// What an agent needs to run.
#[derive(Debug, Clone)]
pub struct Start {
    /// The checked configuration.
    pub settings: Settings,
    /// Where things are kept.
    pub places: Places,
    /// The socket that `ssm-cli` asks through.
    pub socket: PathBuf,
    /// Where sessions outlive the agent, if they do.
    pub keepers: Option<Keeping>,
    /// Where the sessions are shown that the agent carries itself.
    pub own: Roster,
}

/// What it takes for sessions to outlive the agent.
#[derive(Debug, Clone)]
pub struct Keeping {
    /// The runtime folder, which outlives the agent too.
    pub runtime: PathBuf,
    /// What carries them.
    pub program: Program,
}

/// Runs the agent until `cancel`.
///
/// # Errors
/// If it cannot start: no identity, or a certificate file that cannot be used. Whatever fails later
/// is tried again.
pub async fn run(start: Start, cancel: CancellationToken) -> anyhow::Result<()> {
    let Start {
        settings,
        places,
        socket,
        keepers,
        own,
    } = start;
    let tls = setup::tls(&settings).context("cannot set up TLS")?;
    let tasks = TaskTracker::new();
    let started = status::now();
    // Sessions report on the control channel to the very end, so it stops after them.
    let channel_cancel = CancellationToken::new();
    let wanted = setup::identity(&settings, &places.state);
    let opened = identity::open(&wanted, &tls, channel_cancel.clone());
    let opened = cancel.run_until_cancelled(opened).await;
    let Some(opened) = opened else {
        return Ok(());
    };
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
    let (handle, channel) = control::open(
        control_settings,
        client.clone(),
        NetworkChanges::watch(),
        channel_cancel.clone(),
    );
    tasks.spawn(channel);
    tasks.spawn(follow_status(handle.status.clone(), channel_cancel.clone()));
    let is_container = settings.in_container;
    let (way, way_seen) = watch::channel(connection::Way::at_start(is_container));
    let (polling, polling_seen) = watch::channel(!is_container);
    if !is_container {
        tasks.spawn(connection::follow(
            handle.status.clone(),
            way,
            polling,
            channel_cancel.clone(),
        ));
    }
    tasks.spawn(health::run(
        node_id.clone(),
        setup::zone(&identity),
        settings.health_interval,
        client.clone(),
        way_seen,
        cancel.clone(),
    ));
    let node = Node {
        id: node_id.clone(),
        client: client.clone(),
        status: handle.status.clone(),
        open_files: None,
        roster: own,
        metadata: identity.metadata().cloned(),
    };
    let carrier = Carrier::open(&settings, &places, node, &tasks, &cancel);
    let Carrier {
        supervisor,
        outcomes,
        uploads,
        audit,
        showing,
        open_files,
        background,
    } = carrier.context("cannot start a thread")?;
    tasks.spawn(recover(
        Arc::clone(&uploads),
        handle.status.clone(),
        cancel.clone(),
    ));
    tasks.spawn(systemd::feed_watchdog(cancel.clone()));
    audit.record(&Event::AgentStarted {
        node: Text::from(&node_id),
        version: env!("CARGO_PKG_VERSION"),
    });
    let reporting = tasks.spawn(report(
        outcomes,
        handle.outbox.clone(),
        node_id.clone(),
        showing.clone(),
    ));
    let commands = setup::commands(&settings, &places.state, &identity, open_files);
    let (since, since_seen) = watch::channel(started);
    tasks.spawn(status::follow(
        handle.status.clone(),
        since,
        showing.problems.clone(),
    ));
    let (sights, kept) = watch::channel(BTreeMap::new());
    let left = Arc::new(Notify::new());
    let view = View {
        left: Arc::clone(&left),
        identity: identity.clone(),
        started,
        channel: handle.status.clone(),
        since: since_seen,
        own: showing,
        kept,
        load: commands.load.subscribe(),
        polling: polling_seen.clone(),
        recordings: setup::transcript(&settings, &places.logs).map(|own| own.directory),
    };
    tasks.spawn(local_api::run(
        socket,
        Arc::new(move |request| view.answer(&request)),
        channel_cancel.clone(),
    ));
    tasks.spawn(follow_refreshes(commands.refresh.clone(), cancel.clone()));
    let gateway = run_command::Channels {
        jobs: handle.jobs,
        answers: handle.answers,
        connections: handle.connections,
    };
    let delivery = setup::delivery(&settings, &identity).map(|own| {
        let watches = run_command::DeliveryWatches {
            polling: polling_seen,
            gateway: gateway.connections.clone(),
        };
        let opened = run_command::open_delivery(own, client.clone(), watches, cancel.clone());
        let (channels, task) = opened;
        tasks.spawn(task);
        channels
    });
    let sources = run_command::Sources {
        gateway,
        delivery,
        local: left,
    };
    tasks.spawn(run_command::run(
        commands,
        sources,
        run_command::Services {
            parameters: Some(Arc::new(client.clone())),
            client: Some(client.clone()),
            audit: audit.clone(),
        },
        cancel.clone(),
    ));
    let mut sessions = Sessions::new(
        node_id.clone(),
        supervisor,
        handle.outbox,
        Arc::clone(&uploads),
        audit.clone(),
    );
    if let Some(Keeping { runtime, program }) = keepers {
        let keepers = keeper::Settings {
            runtime,
            program,
            node_id,
            region: identity.region().to_owned(),
            is_instance: identity.metadata().is_some(),
            open_files,
            digest: keeper::digest(&settings),
            client,
            status: handle.status.clone(),
            sights,
        };
        let used = sessions.use_keepers(keepers, &tasks, &cancel);
        used.await.context("cannot find this program's own file")?;
    }
    sessions.run(handle.instructions, &cancel).await;
    uploads.shutdown(UPLOAD_SHUTDOWN).await;

    audit.record(&Event::AgentStopped);
    audit.close();
    // Every session has reported by now; what they reported still has to go out.
    let _ = tokio::time::timeout(TASK_SHUTDOWN, reporting).await;
    channel_cancel.cancel();
    lifecycle::drain("agent", &tasks, TASK_SHUTDOWN).await;
    drop(background);
    info!("agent stopped");
    Ok(())
}

/// Reports results of sessions until there can be no more.
async fn report(
    mut outcomes: mpsc::Receiver<Outcome>,
    outbox: Outbox,
    node_id: String,
    showing: Showing,
) {
    while let Some(outcome) = outcomes.recv().await {
        showing.note_outcome(&outcome);
        let result = task_complete(outcome, &node_id);
        outbox.complete(result).await;
    }
}

/// Tells systemd how the control channel stands.
async fn follow_status(mut status: watch::Receiver<Status>, cancel: CancellationToken) {
    loop {
        match &*status.borrow_and_update() {
            Status::Connected { .. } => {
                systemd::ready();
                systemd::status("connected");
            }
            Status::Waiting { .. } => {
                // An agent whose gateway is away runs all the same, and is ready for its return.
                systemd::ready();
                systemd::status("not connected, trying again");
            }
            Status::Connecting | Status::Stopped => {}
        }
        let changed = select! {
            () = cancel.cancelled() => return,
            changed = status.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Takes the associations that commands want to be applied. Those who apply them will stand here.
async fn follow_refreshes(wanted: watch::Sender<Refresh>, cancel: CancellationToken) {
    let mut changes = wanted.subscribe();
    while let Some(Ok(())) = cancel.run_until_cancelled(changes.changed()).await {
        let mut taken = Refresh::default();
        // Taking is no news.
        wanted.send_if_modified(|wanted| {
            taken = std::mem::take(wanted);
            false
        });
        if taken != Refresh::default() {
            info!(all = taken.all, some = ?taken.some, "no associations are applied, as this version has none");
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
