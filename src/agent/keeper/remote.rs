//! The agent's end of its connections to keepers.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::select;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::link;
use super::message::{Lease, ToAgent, ToKeeper};
use crate::agent::control::Status;
use crate::aws::Client;
use crate::protocol::wire::SessionId;
use crate::protocol::wire::control::StartSession;

/// Messages that may wait for a keeper; it reads them at once.
const ORDERS: usize = 256;
/// How often it is looked whether there are newer credentials.
const LEND_INTERVAL: Duration = Duration::from_secs(20);
/// The same while there are none.
const FIRST_LEND_INTERVAL: Duration = Duration::from_secs(1);

/// What every keeper is told.
#[derive(Clone)]
pub(super) struct Briefing {
    /// Whose sessions they are.
    pub(super) node_id: String,
    /// The node's region.
    pub(super) region: String,
    /// Whether it is an instance of EC2.
    pub(super) is_instance: bool,
    /// Soft limit on open files for sessions.
    pub(super) open_files: Option<u64>,
    /// What they sign with.
    pub(super) lease: watch::Receiver<Option<Lease>>,
    /// How the control channel stands.
    pub(super) status: watch::Receiver<Status>,
}

/// A keeper, as the agent sees it.
pub(super) struct Remote {
    orders: mpsc::Sender<ToKeeper>,
    /// The next sessions go to it.
    pub(super) is_current: bool,
    /// It has said who it is.
    pub(super) has_greeted: bool,
    /// Its sessions.
    pub(super) sessions: HashSet<SessionId>,
    /// Sessions that it was given and has not accepted, and since when.
    pub(super) offered: HashMap<SessionId, (Box<StartSession>, Instant)>,
}

/// What is heard of a keeper.
#[derive(Debug)]
pub(super) enum Heard {
    /// It said this.
    Said(ToAgent),
    /// It is gone.
    Gone,
}

impl Remote {
    /// The keeper at the other end of `stream`; what is heard of it goes to `heard` with `number`.
    /// The connection is closed when the result is dropped.
    pub(super) fn open(
        stream: UnixStream,
        briefing: Briefing,
        number: u64,
        heard: mpsc::Sender<(u64, Heard)>,
    ) -> Self {
        let (orders, ordered) = mpsc::channel(ORDERS);
        tokio::spawn(async move {
            if let Err(error) = serve(stream, briefing, ordered, number, &heard).await {
                debug!(%error, "the connection to a keeper broke");
            }
            let _ = heard.send((number, Heard::Gone)).await;
        });
        Self {
            orders,
            is_current: false,
            has_greeted: false,
            sessions: HashSet::new(),
            offered: HashMap::new(),
        }
    }

    /// Tells it something; whether there was room for it.
    pub(super) fn order(&self, message: ToKeeper) -> bool {
        self.orders.try_send(message).is_ok()
    }

    /// Gives it a session; what it cannot be given comes back.
    pub(super) fn offer(&mut self, start: Box<StartSession>) -> Result<(), Box<StartSession>> {
        let order = ToKeeper::Start {
            start: start.clone(),
        };
        if !self.order(order) {
            return Err(start);
        }
        let id = start.session_id.clone();
        self.offered.insert(id, (start, Instant::now()));
        Ok(())
    }

    /// Whether it has this session.
    pub(super) fn has(&self, id: &SessionId) -> bool {
        self.sessions.contains(id) || self.offered.contains_key(id)
    }
}

async fn serve(
    stream: UnixStream,
    mut briefing: Briefing,
    mut orders: mpsc::Receiver<ToKeeper>,
    number: u64,
    heard: &mpsc::Sender<(u64, Heard)>,
) -> std::io::Result<()> {
    let (mut sender, mut receiver) = link::open(stream)?;
    let node = ToKeeper::Node {
        node_id: briefing.node_id,
        region: briefing.region,
        is_instance: briefing.is_instance,
        open_files: briefing.open_files,
    };
    sender.send(&node).await?;
    // What is there already is told before any session.
    briefing.lease.mark_changed();
    briefing.status.mark_changed();
    loop {
        select! {
            biased;
            Ok(()) = briefing.lease.changed() => {
                let lease = briefing.lease.borrow_and_update().clone();
                if let Some(lease) = lease {
                    sender.send(&ToKeeper::Credentials(lease)).await?;
                }
            }
            Ok(()) = briefing.status.changed() => {
                let features = match &*briefing.status.borrow_and_update() {
                    Status::Connected { features, .. } => Some(features.to_string()),
                    Status::Connecting | Status::Waiting { .. } | Status::Stopped => None,
                };
                if let Some(features) = features {
                    sender.send(&ToKeeper::Features { features }).await?;
                }
            }
            order = orders.recv() => match order {
                Some(order) => sender.send(&order).await?,
                None => return Ok(()),
            },
            message = receiver.receive() => match message? {
                Some(message) => {
                    if heard.send((number, Heard::Said(message))).await.is_err() {
                        return Ok(());
                    }
                }
                None => return Ok(()),
            },
        }
    }
}

/// Follows the credentials of `client` until `cancel`.
pub(super) async fn lend(
    client: Client,
    lease: watch::Sender<Option<Lease>>,
    cancel: CancellationToken,
) {
    let follow = async {
        loop {
            let wait = match client.credentials().await {
                Ok(credentials) => {
                    let fresh = Some(Lease::of(&credentials));
                    lease.send_if_modified(|old| {
                        let is_new = *old != fresh;
                        if is_new {
                            old.clone_from(&fresh);
                        }
                        is_new
                    });
                    LEND_INTERVAL
                }
                Err(error) => {
                    if lease.borrow().is_none() {
                        debug!(%error, "there are no credentials to lend yet");
                    } else {
                        warn!(%error, "there are no new credentials to lend");
                    }
                    FIRST_LEND_INTERVAL
                }
            };
            sleep(wait).await;
        }
    };
    cancel.run_until_cancelled(follow).await;
}
