//! Node credentials: the short-lived keys that a node gets for a proof with its RSA key.

use std::time::{Duration, SystemTime};

use rusqlite::{OptionalExtension, params};

use super::secret::{self, BASE32, BASE64, random_text};
use super::timestamp::{from_millis, to_millis};
use super::{Secret, Store, StoreError};

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS node_credentials (
    access_key_id TEXT PRIMARY KEY,
    node_id       TEXT NOT NULL REFERENCES nodes (node_id) ON DELETE CASCADE,
    secret        TEXT NOT NULL,
    token_hash    BLOB NOT NULL,
    expires_ms    INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS node_credentials_by_node ON node_credentials (node_id, expires_ms);
";

/// How long credentials live, as those of AWS; agents ask for new ones after half of it.
pub const LIFETIME: Duration = Duration::from_secs(3600);
/// Credentials that one node can have at a time. Several processes of one agent each ask; the
/// oldest make room, so that a node that asks in a loop fills no disk.
const PER_NODE: i64 = 16;
/// How long expired credentials are remembered, so that their use is answered with "expired".
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

const ID_LENGTH: usize = 16;
const SECRET_LENGTH: usize = 40;
const TOKEN_LENGTH: usize = 64;

/// Credentials as the node gets them.
#[derive(Debug, Clone)]
pub struct IssuedCredentials {
    /// `ASIA…`.
    pub access_key_id: String,
    /// Signs.
    pub secret: Secret,
    /// Goes with every request.
    pub session_token: Secret,
    /// When they stop working.
    pub expires: SystemTime,
}

/// Credentials as they are checked.
#[derive(Debug, Clone)]
pub struct NodeCredentials {
    /// The node they speak for.
    pub node_id: String,
    /// Signs.
    pub secret: Secret,
    /// When they stop working.
    pub expires: SystemTime,
    token_hash: Vec<u8>,
}

impl NodeCredentials {
    /// Whether `token` is the session token, in time that does not depend on the answer.
    pub fn has_token(&self, token: &str) -> bool {
        secret::matches(token, &self.token_hash)
    }
}

impl Store {
    /// Makes credentials for a node. None if there is no such node.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn issue_credentials(
        &self,
        node_id: &str,
        now: SystemTime,
    ) -> Result<Option<IssuedCredentials>, StoreError> {
        let issued = IssuedCredentials {
            access_key_id: format!("ASIA{}", random_text(BASE32, ID_LENGTH)),
            secret: Secret::random(BASE64, SECRET_LENGTH),
            session_token: Secret::random(BASE64, TOKEN_LENGTH),
            expires: now + LIFETIME,
        };
        let (stored, id) = (issued.clone(), node_id.to_owned());
        let inserted = self
            .call(move |connection| {
                let transaction = connection.transaction()?;
                transaction.execute(
                    "DELETE FROM node_credentials WHERE expires_ms < ?1",
                    [to_millis(now - REMEMBERED)],
                )?;
                let inserted = transaction.execute(
                    "INSERT INTO node_credentials (access_key_id, node_id, secret, token_hash, expires_ms)
                     SELECT ?1, node_id, ?3, ?4, ?5 FROM nodes WHERE node_id = ?2",
                    params![
                        stored.access_key_id,
                        id,
                        stored.secret.expose(),
                        stored.session_token.hash(),
                        to_millis(stored.expires)
                    ],
                )?;
                transaction.execute(
                    "DELETE FROM node_credentials WHERE node_id = ?1 AND rowid NOT IN (
                         SELECT rowid FROM node_credentials WHERE node_id = ?1
                         ORDER BY expires_ms DESC, rowid DESC LIMIT ?2)",
                    params![id, PER_NODE],
                )?;
                transaction.commit()?;
                Ok(inserted == 1)
            })
            .await?;
        Ok(inserted.then_some(issued))
    }

    /// The node credentials `access_key_id`, expired or not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn node_credentials(
        &self,
        access_key_id: &str,
    ) -> Result<Option<NodeCredentials>, StoreError> {
        let id = access_key_id.to_owned();
        self.call(move |connection| {
            connection
                .prepare_cached("SELECT * FROM node_credentials WHERE access_key_id = ?1")?
                .query_row([id], |row| {
                    Ok(NodeCredentials {
                        node_id: row.get("node_id")?,
                        secret: Secret::new(row.get::<_, String>("secret")?),
                        token_hash: row.get("token_hash")?,
                        expires: from_millis(row.get("expires_ms")?),
                    })
                })
                .optional()
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "i-0123456789abcdef0";

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    async fn store_with_node() -> Store {
        let store = Store::open_in_memory().unwrap();
        store
            .create_node_access_key("lab", NODE, now())
            .await
            .unwrap();
        store
    }

    #[tokio::test]
    async fn issued_credentials_are_bound_to_the_node_and_know_their_token() {
        let store = store_with_node().await;

        let issued = store.issue_credentials(NODE, now()).await.unwrap().unwrap();
        let found = store
            .node_credentials(&issued.access_key_id)
            .await
            .unwrap()
            .unwrap();

        assert!(issued.access_key_id.starts_with("ASIA"));
        assert_eq!(found.node_id, NODE);
        assert_eq!(found.expires, now() + LIFETIME);
        assert!(found.has_token(issued.session_token.expose()));
        assert!(!found.has_token(issued.secret.expose()));
    }

    #[tokio::test]
    async fn unknown_node_gets_no_credentials() {
        let store = store_with_node().await;

        assert!(
            store
                .issue_credentials("i-00000009", now())
                .await
                .unwrap()
                .is_none()
        );
    }

    #[tokio::test]
    async fn oldest_credentials_make_room_for_new_ones() {
        let store = store_with_node().await;
        let first = store.issue_credentials(NODE, now()).await.unwrap().unwrap();

        let mut last = first.clone();
        for second in 1..=16 {
            let time = now() + Duration::from_secs(second);
            last = store.issue_credentials(NODE, time).await.unwrap().unwrap();
        }

        assert!(
            store
                .node_credentials(&first.access_key_id)
                .await
                .unwrap()
                .is_none()
        );
        assert!(
            store
                .node_credentials(&last.access_key_id)
                .await
                .unwrap()
                .is_some()
        );
    }

    #[tokio::test]
    async fn credentials_end_with_their_node() {
        let store = store_with_node().await;
        let issued = store.issue_credentials(NODE, now()).await.unwrap().unwrap();

        store.deregister_node(NODE).await.unwrap();

        assert!(
            store
                .node_credentials(&issued.access_key_id)
                .await
                .unwrap()
                .is_none()
        );
    }
}
