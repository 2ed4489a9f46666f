//! Changing a node's key pair so that service and vault never end up with different ones.
//!
//! 1. Make a new pair and tell the service its public key, signed with the old one.
//! 2. No answer or a refusal says nothing certain: a token request with the old key shows whether
//!    that still counts, one with the new key whether the change was made after all.
//! 3. Store the new pair; if that fails, give the service the old public key back.

use jiff::Timestamp;

use super::fingerprint;
use super::registration::key_date;
use super::vault::{Registration, Vault, VaultError};
use crate::aws::{CallError, Client, KeyError, NodeKey, NodeSigner};

/// A registered node with its key at hand.
#[derive(Debug)]
pub(super) struct Node {
    registration: Registration,
    key: NodeKey,
}

/// Why the key was not changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum RotationError {
    /// No new pair.
    #[error("no new key pair")]
    Key(#[from] KeyError),
    /// The fingerprint, which a probe needs.
    #[error("the fingerprint of this host is not known")]
    Fingerprint(#[source] VaultError),
    /// The service refused; the old key still counts, or no key could be proved to.
    #[error("the service has not taken the new key")]
    Refused(#[from] CallError),
    /// The new pair could not be stored; the old one counts again.
    #[error("the new key could not be saved, so the old one is used again")]
    NotSaved(#[source] VaultError),
    /// The new pair could not be stored, nor the old one restored.
    #[error("the new key could not be saved ({not_saved}), nor the old one restored")]
    Lost {
        /// Why the new pair was not stored.
        not_saved: VaultError,
        /// Why the old one was not restored.
        #[source]
        cause: CallError,
    },
}

impl Node {
    /// The node that `registration` describes, with its key.
    pub(super) fn new(registration: Registration, key: NodeKey) -> Self {
        Self { registration, key }
    }

    /// Its id.
    pub(super) fn id(&self) -> &str {
        &self.registration.node_id
    }

    /// Its registration.
    pub(super) fn registration(&self) -> &Registration {
        &self.registration
    }

    /// What signs its requests.
    pub(super) fn signer(&self) -> NodeSigner<'_> {
        self.signer_with(&self.key)
    }

    /// Changes the key pair.
    ///
    /// # Errors
    /// [`RotationError`]; the old key is then used as before.
    pub(super) async fn rotate(
        &mut self,
        client: &Client,
        vault: &Vault,
    ) -> Result<(), RotationError> {
        let new = generate().await?;
        let updated = client
            .update_managed_instance_public_key(self.signer(), &new.public_text()?)
            .await;
        if let Err(refusal) = updated {
            self.prove_new_key(client, vault, &new, refusal).await?;
        }
        let registration = Registration {
            private_key: new.private_text()?,
            private_key_created: key_date(Timestamp::now()),
            ..self.registration.clone()
        };
        if let Err(not_saved) = vault.store_registration(&registration) {
            return Err(self.restore_old_key(client, &new, not_saved).await?);
        }
        self.registration = registration;
        self.key = new;
        Ok(())
    }

    /// After the update failed with `refusal`: the service has the new key all the same, or it is
    /// the error.
    async fn prove_new_key(
        &self,
        client: &Client,
        vault: &Vault,
        new: &NodeKey,
        refusal: CallError,
    ) -> Result<(), RotationError> {
        let fingerprint = fingerprint::current(vault)
            .await
            .map_err(RotationError::Fingerprint)?;
        let counts = async |key| {
            let signer = self.signer_with(key);
            let token = client.request_role_token(signer, &fingerprint).await;
            token.is_ok()
        };
        if !counts(&self.key).await && counts(new).await {
            return Ok(());
        }
        Err(RotationError::Refused(refusal))
    }

    async fn restore_old_key(
        &self,
        client: &Client,
        new: &NodeKey,
        not_saved: VaultError,
    ) -> Result<RotationError, KeyError> {
        let old = self.key.public_text()?;
        let restored = client
            .update_managed_instance_public_key(self.signer_with(new), &old)
            .await;
        Ok(match restored {
            Ok(()) => RotationError::NotSaved(not_saved),
            Err(cause) => RotationError::Lost { not_saved, cause },
        })
    }

    fn signer_with<'a>(&'a self, key: &'a NodeKey) -> NodeSigner<'a> {
        NodeSigner {
            node_id: &self.registration.node_id,
            key,
        }
    }
}

async fn generate() -> Result<NodeKey, KeyError> {
    let made = tokio::task::spawn_blocking(NodeKey::generate).await;
    made.unwrap_or(Err(KeyError::Crypto("generate a key")))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::aws::NoCredentials;
    use crate::aws::tests::server::{Reply, Seen, TestServer};

    const TOKEN: &str = r#"{"AccessKeyId":"ASIA1","SecretAccessKey":"s","SessionToken":"t","TokenExpirationDate":1795345523,"UpdateKeyPair":false}"#;

    struct World {
        state: tempfile::TempDir,
        vault: Vault,
        node: Node,
    }

    fn world() -> World {
        let state = tempfile::tempdir().unwrap();
        let vault = Vault::new(state.path());
        let key = NodeKey::generate().unwrap();
        let registration = Registration {
            node_id: "mi-1".into(),
            region: "test-1".into(),
            private_key: key.private_text().unwrap(),
            ..Registration::default()
        };
        vault.store_registration(&registration).unwrap();
        World {
            state,
            vault,
            node: Node::new(registration, key),
        }
    }

    fn is_update(seen: &Seen) -> bool {
        seen.operation() == "UpdateManagedInstancePublicKey"
    }

    #[tokio::test]
    async fn new_key_is_told_to_the_service_and_stored() {
        let World {
            state: _state,
            vault,
            mut node,
        } = world();
        let old = node.registration().private_key.clone();
        let server = TestServer::start(|_, _| Reply::json("{}")).await;

        node.rotate(&server.client_with(NoCredentials), &vault)
            .await
            .unwrap();

        let stored = vault.registration().unwrap().unwrap();
        assert_ne!(stored.private_key, old);
        assert_eq!(&stored, node.registration());
        let seen = &server.seen()[0];
        assert!(seen.header("authorization").contains("Credential=mi-1/"));
        let told = seen.json()["NewPublicKey"].clone();
        assert_eq!(told, node.key.public_text().unwrap());
    }

    #[tokio::test]
    async fn refused_update_leaves_the_old_key_that_still_counts() {
        let World {
            state: _state,
            vault,
            mut node,
        } = world();
        let old = node.registration().clone();
        let server = TestServer::start(|_, seen| {
            if is_update(seen) {
                Reply::refusal("ValidationException")
            } else {
                Reply::json(TOKEN)
            }
        })
        .await;

        let error = node
            .rotate(&server.client_with(NoCredentials), &vault)
            .await;

        assert!(matches!(error, Err(RotationError::Refused(_))));
        assert_eq!(vault.registration().unwrap(), Some(old));
    }

    #[tokio::test]
    async fn update_whose_answer_was_lost_is_completed() {
        let World {
            state: _state,
            vault,
            mut node,
        } = world();
        let old = node.registration().private_key.clone();
        // The update seems refused, the old key no longer counts, the new one does.
        let server = TestServer::start(|count, _| match count {
            0 => Reply::refusal("ValidationException"),
            1 => Reply::refusal("AccessDeniedException"),
            _ => Reply::json(TOKEN),
        })
        .await;

        node.rotate(&server.client_with(NoCredentials), &vault)
            .await
            .unwrap();

        assert_ne!(vault.registration().unwrap().unwrap().private_key, old);
    }

    #[tokio::test]
    async fn key_that_cannot_be_saved_is_taken_back() {
        let World {
            state,
            vault,
            mut node,
        } = world();
        let server = TestServer::start(|_, _| Reply::json("{}")).await;
        let old = node.key.public_text().unwrap();
        // A file where the folder was: nobody can write below it, not even root.
        fs::remove_dir_all(vault.folder()).unwrap();
        fs::write(state.path().join("Vault"), "").unwrap();

        let error = node
            .rotate(&server.client_with(NoCredentials), &vault)
            .await;

        assert!(
            matches!(error, Err(RotationError::NotSaved(_))),
            "{error:?}"
        );
        let seen = server.seen();
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[1].json()["NewPublicKey"], old);
        assert_eq!(node.key.public_text().unwrap(), old);
    }
}
