//! A registered host: its credentials, asked for with its key, and the key's rotation.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use tracing::{info, warn};

use super::fingerprint;
use super::refresh::{self, Fetched, Provider, Refreshed, Refresher};
use super::registration::key_age;
use super::rotation::{Node, RotationError};
use super::runtime_config::{RuntimeConfig, Source};
use super::share;
use super::vault::{Registration, Vault, VaultError};
use crate::aws::{CallError, Client, KeyError, NodeKey};

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
pub(super) enum TokenError {
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

/// Asks with the key of the node.
#[derive(Debug)]
pub(super) struct Registered {
    settings: Settings,
    client: Client,
    vault: Vault,
    node: Node,
    /// The service wants the node to change its key.
    must_rotate: bool,
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
) -> Result<(Refreshed, Refresher<Registered>), KeyError> {
    let key = NodeKey::parse(&registration.private_key)?;
    let provider = Registered {
        settings,
        client: client.clone(),
        vault,
        node: Node::new(registration, key),
        must_rotate: false,
    };
    Ok(refresh::open(client, provider))
}

impl Provider for Registered {
    const SOURCE: &'static str = "Systems Manager";
    type Error = TokenError;

    async fn fetch(&mut self) -> Result<Fetched, TokenError> {
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
        self.must_rotate = token.update_key_pair;
        Ok(Fetched::new(token.credentials, retrieved, token.expires))
    }

    async fn settle(&mut self, fetched: &Fetched) {
        self.record(fetched).await;
        if self.wants_rotation() {
            self.rotate().await;
        }
    }
}

impl Registered {
    /// Writes the files that others read. A full disk does not keep the agent from its work.
    async fn record(&self, fetched: &Fetched) {
        let settings = self.settings.clone();
        let node_id = self.node.id().to_owned();
        let fetched = fetched.clone();
        let written = tokio::task::spawn_blocking(move || {
            let share = settings.share.as_ref();
            record_files(&settings, &node_id, &fetched, share);
        });
        if written.await.is_err() {
            warn!("the credentials were not written to files");
        }
    }

    fn wants_rotation(&self) -> bool {
        let age = || key_age(self.node.registration(), Timestamp::now());
        let too_old = |limit| age() >= limit;
        self.must_rotate || self.settings.rotate_after.is_some_and(too_old)
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

fn record_files(
    settings: &Settings,
    node_id: &str,
    fetched: &Fetched,
    share: Option<&share::Settings>,
) {
    if let Some(share) = share
        && let Err(error) = share.store(&fetched.credentials)
    {
        warn!(
            error = &error as &dyn std::error::Error,
            "the node's credentials are not shared"
        );
    }
    let share = share.map(|share| (share.file.as_path(), share.profile.as_str()));
    let written = RuntimeConfig::new(node_id, "OnPrem")
        .with_credentials(Source::Service, fetched.retrieved, fetched.expires, share)
        .write(&settings.state);
    if let Err(error) = written {
        warn!(%error, "the runtime configuration is not updated");
    }
}

#[cfg(test)]
mod tests;
