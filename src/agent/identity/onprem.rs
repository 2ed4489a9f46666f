//! A registered host: its credentials, asked for with its key, renewed at half of their lifetime.
//!
//! One task, the [`Refresher`], asks; everyone else watches what it has. So there is one request at
//! a time however many calls wait for it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::fingerprint;
use super::registration::key_age;
use super::rotation::{Node, RotationError};
use super::runtime_config::RuntimeConfig;
use super::share;
use super::vault::{Registration, Vault, VaultError};
use crate::aws::{
    CallError, Client, CredentialError, CredentialFuture, CredentialSource, Credentials, KeyError,
    NodeKey, RoleToken,
};
use crate::runtime::backoff::Backoff;

/// First wait after a failed request.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait after failed requests. The reference waits up to 30 minutes: a host that was denied
/// by mistake would stay away that long after the mistake is corrected.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Shortest time between two renewals, whatever lifetime the service gives.
const SHORTEST_RENEWAL: Duration = Duration::from_secs(5);
const SOURCE_NAME: &str = "Systems Manager";

/// What the refresher is told.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// The state folder.
    pub(super) state: PathBuf,
    /// Where credentials are shared, if they are.
    pub(super) share: Option<share::Settings>,
    /// The age at which the key is changed, if it is.
    pub(super) rotate_after: Option<SignedDuration>,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
enum TokenError {
    #[error("the fingerprint of this host is not known")]
    Fingerprint(#[from] VaultError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(
        "this host is not the one that was registered as {node_id}: it is a copy of that one, or its hardware has \
         changed. Register it anew (`ssm-agent register --yes …`, with an activation); the other one keeps its id"
    )]
    OtherHost {
        node_id: String,
        #[source]
        refusal: CallError,
    },
    #[error("the credentials that the service gave have already expired")]
    Expired,
}

/// What the service calls a key that comes with another fingerprint than it was registered with.
const OTHER_FINGERPRINT: &str = "MachineFingerprintDoesNotMatch";

/// What the refresher has.
#[derive(Debug, Clone, Default)]
struct State {
    /// How many requests have come to an end.
    requests: u64,
    token: Option<Token>,
    /// Why the last request failed, if it did.
    failure: Option<CredentialError>,
}

#[derive(Debug, Clone)]
struct Token {
    credentials: Credentials,
    expires: SystemTime,
    /// The request that it came from.
    request: u64,
}

/// The credentials of the node.
#[derive(Debug)]
pub(super) struct RoleCredentials {
    state: watch::Receiver<State>,
    renew: mpsc::Sender<()>,
    /// Tokens of requests up to this one were refused.
    refused: AtomicU64,
    /// Knows the services' time.
    client: Client,
}

/// Keeps the credentials of the node fresh.
#[derive(Debug)]
pub(super) struct Refresher {
    settings: Settings,
    client: Client,
    vault: Vault,
    node: Node,
    state: watch::Sender<State>,
    renew: mpsc::Receiver<()>,
    backoff: Backoff,
}

/// The credentials of the node that `registration` describes, and what keeps them fresh. `client`
/// needs no credentials of its own.
///
/// # Errors
/// [`KeyError`] if the private key cannot be used.
pub(super) fn open(
    settings: Settings,
    client: Client,
    vault: Vault,
    registration: Registration,
) -> Result<(RoleCredentials, Refresher), KeyError> {
    let key = NodeKey::parse(&registration.private_key)?;
    let (state, watched) = watch::channel(State::default());
    let (renew, renewals) = mpsc::channel(1);
    let credentials = RoleCredentials {
        state: watched,
        renew,
        refused: AtomicU64::new(0),
        client: client.clone(),
    };
    let refresher = Refresher {
        settings,
        client,
        vault,
        node: Node::new(registration, key),
        state,
        renew: renewals,
        backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
    };
    Ok((credentials, refresher))
}

impl RoleCredentials {
    async fn wait(&self) -> Result<Credentials, CredentialError> {
        let mut state = self.state.clone();
        loop {
            if let Some(answer) = self.judge(&state.borrow_and_update()) {
                return answer;
            }
            // A request that is already waiting is as good as this one.
            if let Err(mpsc::error::TrySendError::Closed(())) = self.renew.try_send(()) {
                return Err(CredentialError::Stopped);
            }
            state
                .changed()
                .await
                .map_err(|_| CredentialError::Stopped)?;
        }
    }

    /// The credentials, or why there are none; `None` if a request has to bring them.
    fn judge(&self, state: &State) -> Option<Result<Credentials, CredentialError>> {
        let refused = self.refused.load(Ordering::Relaxed);
        let valid = |token: &&Token| self.client.now() < token.expires && token.request > refused;
        match state.token.as_ref().filter(valid) {
            Some(token) => Some(Ok(token.credentials.clone())),
            // The refresher tries again by itself: those who wait learn why they would have to.
            None => state.failure.clone().map(Err),
        }
    }
}

impl CredentialSource for RoleCredentials {
    fn credentials(&self) -> CredentialFuture<'_> {
        Box::pin(self.wait())
    }

    fn refused(&self) {
        let requests = self.state.borrow().requests;
        self.refused.fetch_max(requests, Ordering::Relaxed);
    }
}

impl Refresher {
    /// Runs until `cancel`.
    pub(super) async fn run(mut self, cancel: CancellationToken) {
        loop {
            // Whoever has asked up to now is served by this request.
            while self.renew.try_recv().is_ok() {}
            let Some(answer) = cancel.run_until_cancelled(self.request()).await else {
                return;
            };
            // Not cancelled: half a key change would cost the node its registration.
            let failed = answer.is_err();
            let wait = self.take(answer).await;
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                // After a failure nobody can hurry the next request.
                Some(()) = self.renew.recv(), if !failed => {}
            }
        }
    }

    /// Takes the outcome of a request; returns the wait until the next.
    async fn take(&mut self, answer: Result<(RoleToken, SystemTime), TokenError>) -> Duration {
        match answer {
            Ok((token, retrieved)) => {
                self.backoff.reset();
                self.publish(&token);
                self.record(&token, retrieved).await;
                if self.wants_rotation(&token) {
                    self.rotate().await;
                }
                half_of_lifetime(retrieved, token.expires)
            }
            Err(error) => {
                let wait = self.backoff.next_wait();
                warn!(
                    error = &error as &dyn std::error::Error,
                    ?wait,
                    "no credentials for this node; trying again"
                );
                self.state.send_modify(|state| {
                    state.requests += 1;
                    state.failure = Some(CredentialError::unavailable(SOURCE_NAME, error));
                });
                wait
            }
        }
    }

    async fn request(&self) -> Result<(RoleToken, SystemTime), TokenError> {
        let fingerprint = fingerprint::current(&self.vault).await?;
        let answer = self
            .client
            .request_role_token(self.node.signer(), &fingerprint)
            .await;
        let token = match answer {
            Err(refusal) if refusal.code() == Some(OTHER_FINGERPRINT) => {
                return Err(TokenError::OtherHost {
                    node_id: self.node.id().to_owned(),
                    refusal,
                });
            }
            answer => answer?,
        };
        let retrieved = self.client.now();
        if token.expires <= retrieved {
            return Err(TokenError::Expired);
        }
        Ok((token, retrieved))
    }

    fn publish(&self, token: &RoleToken) {
        debug!(expires = ?Timestamp::try_from(token.expires).ok(), "the node has new credentials");
        self.state.send_modify(|state| {
            state.requests += 1;
            state.failure = None;
            state.token = Some(Token {
                credentials: token.credentials.clone(),
                expires: token.expires,
                request: state.requests,
            });
        });
    }

    /// Writes the files that others read. A full disk does not keep the agent from its work.
    async fn record(&self, token: &RoleToken, retrieved: SystemTime) {
        let settings = self.settings.clone();
        let node_id = self.node.id().to_owned();
        let token = token.clone();
        let written = tokio::task::spawn_blocking(move || {
            record_files(&settings, &node_id, &token, retrieved);
        });
        if written.await.is_err() {
            warn!("the credentials were not written to files");
        }
    }

    fn wants_rotation(&self, token: &RoleToken) -> bool {
        let age = || key_age(self.node.registration(), Timestamp::now());
        let too_old = |limit| age() >= limit;
        token.update_key_pair || self.settings.rotate_after.is_some_and(too_old)
    }

    async fn rotate(&mut self) {
        match self.node.rotate(&self.client, &self.vault).await {
            Ok(()) => info!("the node has a new key pair"),
            Err(error @ RotationError::Lost { .. }) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "the node's key is lost; register this host again"
            ),
            Err(error) => warn!(
                error = &error as &dyn std::error::Error,
                "the node keeps its key pair"
            ),
        }
    }
}

fn record_files(settings: &Settings, node_id: &str, token: &RoleToken, retrieved: SystemTime) {
    if let Some(share) = &settings.share
        && let Err(error) = share.store(&token.credentials)
    {
        warn!(
            error = &error as &dyn std::error::Error,
            "the node's credentials are not shared"
        );
    }
    let share = settings
        .share
        .as_ref()
        .map(|share| (share.file.as_path(), share.profile.as_str()));
    let written = RuntimeConfig::new(node_id, "OnPrem")
        .with_credentials(retrieved, token.expires, share)
        .write(&settings.state);
    if let Err(error) = written {
        warn!(%error, "the runtime configuration is not updated");
    }
}

fn half_of_lifetime(retrieved: SystemTime, expires: SystemTime) -> Duration {
    let lifetime = expires.duration_since(retrieved).unwrap_or_default();
    (lifetime / 2).max(SHORTEST_RENEWAL)
}

#[cfg(test)]
mod tests;
