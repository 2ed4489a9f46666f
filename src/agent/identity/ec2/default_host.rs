//! Default Host Management: an instance without a useful profile registers a key with the credentials
//! that every instance has of itself, and gets credentials for it.

use std::sync::Arc;

use jiff::Timestamp;
use tracing::{info, warn};

use super::super::refresh::Fetched;
use super::super::registration::key_date;
use super::super::vault::{Registration, Vault, VaultError};
use crate::aws::metadata::{Instance, Metadata, MetadataError};
use crate::aws::{CallError, Client, KEY_TYPE, KeyError, NodeKey, StaticCredentials};

/// The code of the service's answer to a second registration.
const ALREADY_REGISTERED: &str = "InstanceAlreadyRegistered";

/// Why Default Host Management gives no credentials.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum DefaultHostError {
    #[error("the instance has no credentials of its own")]
    Metadata(#[source] MetadataError),
    #[error("the instance has no key")]
    Key(#[from] KeyError),
    #[error("the instance's registration cannot be kept")]
    Vault(#[from] VaultError),
    #[error("the service has not registered the instance")]
    Registration(#[source] CallError),
    #[error("the service gives no credentials")]
    Token(#[source] CallError),
    #[error("the credentials that the service gave have already expired")]
    Expired,
}

/// An instance as Default Host Management sees it.
pub(super) struct DefaultHost {
    vault: Vault,
    client: Client,
    id: String,
    region: String,
    key: Option<NodeKey>,
}

impl DefaultHost {
    /// Of `instance`, whose registration is kept in `vault`.
    pub(super) fn new(vault: Vault, client: Client, instance: &Instance) -> Self {
        Self {
            vault,
            client,
            id: instance.id.clone(),
            region: instance.region.clone(),
            key: None,
        }
    }

    /// Gets credentials; the instance is registered first if it is not yet.
    pub(super) async fn fetch(&mut self, metadata: &Metadata) -> Result<Fetched, DefaultHostError> {
        let own = metadata.identity_credentials().await;
        let own = own.map_err(DefaultHostError::Metadata)?;
        let client = self
            .client
            .with_credentials(Arc::new(StaticCredentials::from(own)));
        let key = match self.key.take() {
            Some(key) => key,
            None => self.registered_key(&client).await?,
        };
        let token = client.request_instance_role_token(&self.id, &key).await;
        self.key = Some(key);
        let token = token.map_err(DefaultHostError::Token)?;
        let retrieved = self.client.now();
        if token.expires <= retrieved {
            return Err(DefaultHostError::Expired);
        }
        if token.update_key_pair {
            warn!("the service wants the instance to change its key, which instances cannot");
        }
        Ok(Fetched::new(token.credentials, retrieved, token.expires))
    }

    /// The key that the service knows, after a registration if need be.
    async fn registered_key(&self, client: &Client) -> Result<NodeKey, DefaultHostError> {
        let stored = match self.vault.instance_registration() {
            Err(error @ VaultError::Damaged { .. }) => {
                warn!(%error, "the instance's registration is made anew");
                None
            }
            stored => stored?,
        };
        let stored = stored.filter(|stored| !stored.private_key.is_empty());
        let (draft, key) = match stored {
            Some(stored) => {
                let key = NodeKey::parse(&stored.private_key)?;
                if stored.node_id == self.id {
                    return Ok(key);
                }
                // Of a registration that did not come to its end, or of the instance that this one
                // is a copy of.
                if stored.node_id.is_empty() {
                    (stored, key)
                } else {
                    self.draft().await?
                }
            }
            None => self.draft().await?,
        };
        // That the vault can be written shows before the service has a key that would be lost.
        self.vault.store_instance_registration(&draft)?;
        match client
            .register_instance(&self.id, &key.public_text()?)
            .await
        {
            Ok(()) => info!(instance = self.id, "the instance is registered"),
            Err(error) if error.code() == Some(ALREADY_REGISTERED) => {
                warn!(
                    instance = self.id,
                    "the instance has been registered before, perhaps with another key"
                );
            }
            Err(error) => return Err(DefaultHostError::Registration(error)),
        }
        let complete = Registration {
            node_id: self.id.clone(),
            region: self.region.clone(),
            ..draft
        };
        self.vault.store_instance_registration(&complete)?;
        Ok(key)
    }

    /// A registration that lacks nothing but the service's assent, and its key.
    async fn draft(&self) -> Result<(Registration, NodeKey), DefaultHostError> {
        let made = tokio::task::spawn_blocking(NodeKey::generate).await;
        let key = made.unwrap_or(Err(KeyError::Crypto("generate a key")))?;
        let draft = Registration {
            private_key: key.private_text()?,
            public_key: key.public_text()?,
            private_key_type: KEY_TYPE.to_owned(),
            private_key_created: key_date(Timestamp::now()),
            ..Registration::default()
        };
        Ok((draft, key))
    }
}
