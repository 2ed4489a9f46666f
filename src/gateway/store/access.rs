//! Access keys: the long-lived key pairs of people, and of nodes that were given one.

use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::secret::{BASE32, BASE64, random_text};
use super::timestamp::{from_millis, to_millis};
use super::{Secret, Store, StoreError, nodes};

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS access_keys (
    access_key_id TEXT PRIMARY KEY,
    secret        TEXT NOT NULL,
    name          TEXT NOT NULL,
    node_id       TEXT REFERENCES nodes (node_id) ON DELETE CASCADE,
    created_ms    INTEGER NOT NULL,
    disabled_ms   INTEGER
) STRICT;
";
pub(super) const RUN_AS_SCHEMA: &str = "
ALTER TABLE access_keys ADD COLUMN run_as TEXT;
";
pub(super) const AUDITOR_SCHEMA: &str = "
ALTER TABLE access_keys ADD COLUMN auditor INTEGER NOT NULL DEFAULT 0;
";

/// Longest name; AWS's limit for user names. The name becomes part of session ids.
const NAME_LIMIT: usize = 64;
/// Lengths as in AWS: `AKIA` and 16 characters, 40 characters of secret.
const ID_LENGTH: usize = 16;
const SECRET_LENGTH: usize = 40;

/// An access key.
#[derive(Debug, Clone)]
pub struct AccessKey {
    /// `AKIA…`.
    pub access_key_id: String,
    /// The other half of the pair.
    pub secret: Secret,
    /// Whose key it is.
    pub name: String,
    /// The node that speaks with it, or none for a person's key.
    pub node_id: Option<String>,
    /// User on the hosts that the person's sessions run as, where preferences enable it: what AWS
    /// reads from the tag `SSMSessionRunAs`.
    pub run_as: Option<String>,
    /// Whether the person may read the recordings of other people's sessions.
    pub auditor: bool,
    /// When it was made.
    pub created: SystemTime,
    /// When it was revoked.
    pub disabled: Option<SystemTime>,
}

/// A person who gets an access key.
#[derive(Debug, Clone, Copy)]
pub struct Person<'a> {
    /// The name.
    pub name: &'a str,
    /// User on the hosts that the person's sessions run as, where preferences enable it.
    pub run_as: Option<&'a str>,
    /// Whether the person may read the recordings of other people's sessions.
    pub auditor: bool,
}

/// Why an access key cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The name cannot be used.
    #[error(
        "name {name:?} must have 1 to {NAME_LIMIT} letters, digits and characters of ._-@=+, and not start with a dot"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The user on the hosts cannot be one.
    #[error(
        "user {user:?} must have 1 to {NAME_LIMIT} letters, digits and characters of ._-@, and not start with a dash"
    )]
    RunAs {
        /// The user.
        user: String,
    },
    /// The node id cannot be used.
    #[error("node id {node_id:?} must be i- or mi- and letters and digits, 8 or 17 of them")]
    NodeId {
        /// The id.
        node_id: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Makes a key pair for the person `name`, whose sessions run as `run_as` on the hosts where
    /// preferences enable it.
    ///
    /// # Errors
    /// [`AccessError`].
    pub async fn create_access_key(
        &self,
        name: &str,
        run_as: Option<&str>,
        now: SystemTime,
    ) -> Result<AccessKey, AccessError> {
        let person = Person {
            name,
            run_as,
            auditor: false,
        };
        self.create_person_key(person, now).await
    }

    /// Makes a key pair for `person`.
    ///
    /// # Errors
    /// [`AccessError`].
    pub async fn create_person_key(
        &self,
        person: Person<'_>,
        now: SystemTime,
    ) -> Result<AccessKey, AccessError> {
        if let Some(user) = person.run_as.filter(|user| !is_user(user)) {
            return Err(AccessError::RunAs {
                user: user.to_owned(),
            });
        }
        let key = AccessKey {
            run_as: person.run_as.map(Into::into),
            auditor: person.auditor,
            ..new_key(person.name, None, now)?
        };
        let stored = key.clone();
        self.call(move |connection| insert(connection, &stored))
            .await?;
        Ok(key)
    }

    /// Makes a key pair with which the agent of `node_id` speaks: for agents with a custom identity,
    /// which take their credentials from the environment instead of an activation. The node is
    /// made known if it is not yet.
    ///
    /// # Errors
    /// [`AccessError`].
    pub async fn create_node_access_key(
        &self,
        name: &str,
        node_id: &str,
        now: SystemTime,
    ) -> Result<AccessKey, AccessError> {
        if !nodes::is_node_id(node_id) {
            return Err(AccessError::NodeId {
                node_id: node_id.to_owned(),
            });
        }
        let key = new_key(name, Some(node_id.to_owned()), now)?;
        let (stored, node_id) = (key.clone(), node_id.to_owned());
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            nodes::insert_custom(&transaction, &node_id, &stored.name, now)?;
            insert(&transaction, &stored)?;
            transaction.commit()
        })
        .await?;
        Ok(key)
    }

    /// The access key `access_key_id`, revoked or not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn access_key(&self, access_key_id: &str) -> Result<Option<AccessKey>, StoreError> {
        let id = access_key_id.to_owned();
        self.call(move |connection| {
            connection
                .prepare_cached("SELECT * FROM access_keys WHERE access_key_id = ?1")?
                .query_row([id], read)
                .optional()
        })
        .await
    }

    /// All access keys, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn access_keys(&self) -> Result<Vec<AccessKey>, StoreError> {
        self.call(|connection| {
            connection
                .prepare("SELECT * FROM access_keys ORDER BY created_ms, access_key_id")?
                .query_map([], read)?
                .collect()
        })
        .await
    }

    /// Revokes a key. False if there is no such key; one that was revoked before keeps its date.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revoke_access_key(
        &self,
        access_key_id: &str,
        now: SystemTime,
    ) -> Result<bool, StoreError> {
        let id = access_key_id.to_owned();
        self.call(move |connection| {
            let changed = connection.execute(
                "UPDATE access_keys SET disabled_ms = coalesce(disabled_ms, ?2)
                 WHERE access_key_id = ?1",
                params![id, to_millis(now)],
            )?;
            Ok(changed == 1)
        })
        .await
    }
}

fn new_key(name: &str, node_id: Option<String>, now: SystemTime) -> Result<AccessKey, AccessError> {
    if !is_name(name) {
        return Err(AccessError::Name {
            name: name.to_owned(),
        });
    }
    Ok(AccessKey {
        access_key_id: format!("AKIA{}", random_text(BASE32, ID_LENGTH)),
        secret: Secret::random(BASE64, SECRET_LENGTH),
        name: name.to_owned(),
        node_id,
        run_as: None,
        auditor: false,
        created: now,
        disabled: None,
    })
}

fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-@=+,".contains(c);
    (1..=NAME_LIMIT).contains(&name.len()) && !name.starts_with('.') && name.chars().all(allowed)
}

fn is_user(user: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
    (1..=NAME_LIMIT).contains(&user.len()) && !user.starts_with('-') && user.chars().all(allowed)
}

fn insert(connection: &Connection, key: &AccessKey) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO access_keys (access_key_id, secret, name, node_id, run_as, auditor, created_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            key.access_key_id,
            key.secret.expose(),
            key.name,
            key.node_id,
            key.run_as,
            key.auditor,
            to_millis(key.created)
        ],
    )?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<AccessKey> {
    Ok(AccessKey {
        access_key_id: row.get("access_key_id")?,
        secret: Secret::new(row.get::<_, String>("secret")?),
        name: row.get("name")?,
        node_id: row.get("node_id")?,
        run_as: row.get("run_as")?,
        auditor: row.get("auditor")?,
        created: from_millis(row.get("created_ms")?),
        disabled: row.get::<_, Option<i64>>("disabled_ms")?.map(from_millis),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    #[tokio::test]
    async fn created_key_has_the_form_of_an_aws_key_pair_and_is_found_again() {
        let store = Store::open_in_memory().unwrap();

        let key = store.create_access_key("alice", None, now()).await.unwrap();
        let found = store.access_key(&key.access_key_id).await.unwrap().unwrap();

        assert!(key.access_key_id.starts_with("AKIA") && key.access_key_id.len() == 20);
        assert_eq!(found.secret.expose(), key.secret.expose());
        assert_eq!(found.secret.expose().len(), 40);
        assert_eq!((found.name.as_str(), found.created), ("alice", now()));
        assert_eq!((found.disabled, found.node_id), (None, None));
    }

    #[tokio::test]
    async fn name_that_cannot_be_part_of_a_session_id_is_refused() {
        let store = Store::open_in_memory().unwrap();

        let too_long = "x".repeat(NAME_LIMIT + 1);
        for name in ["", ".hidden", "a b", "a/b", "zoë", &too_long] {
            let error = store
                .create_access_key(name, None, now())
                .await
                .unwrap_err();
            assert!(matches!(error, AccessError::Name { .. }), "{name:?}");
        }
    }

    #[tokio::test]
    async fn key_names_the_user_that_its_sessions_run_as() {
        let store = Store::open_in_memory().unwrap();
        let create = |user| store.create_access_key("alice", Some(user), now());

        let key = create("deploy").await.unwrap();

        let found = store.access_key(&key.access_key_id).await.unwrap().unwrap();
        assert_eq!(found.run_as.as_deref(), Some("deploy"));
        for user in ["", "-u", "a b", "a:b", "$(id)"] {
            let error = create(user).await.unwrap_err();
            assert!(matches!(error, AccessError::RunAs { .. }), "{user:?}");
        }
    }

    #[tokio::test]
    async fn revoked_key_stays_listed_with_the_first_date() {
        let store = Store::open_in_memory().unwrap();
        let key = store.create_access_key("alice", None, now()).await.unwrap();
        let later = now() + Duration::from_secs(60);

        assert!(
            store
                .revoke_access_key(&key.access_key_id, now())
                .await
                .unwrap()
        );
        assert!(
            store
                .revoke_access_key(&key.access_key_id, later)
                .await
                .unwrap()
        );

        let keys = store.access_keys().await.unwrap();
        assert_eq!(keys.len(), 1);
        assert_eq!(keys[0].disabled, Some(now()));
    }

    #[tokio::test]
    async fn revoking_an_unknown_key_says_so() {
        let store = Store::open_in_memory().unwrap();

        assert!(
            !store
                .revoke_access_key("AKIANOSUCHKEY", now())
                .await
                .unwrap()
        );
    }

    #[tokio::test]
    async fn key_for_a_node_makes_the_node_known() {
        let store = Store::open_in_memory().unwrap();
        let id = "i-0123456789abcdef0";

        let key = store
            .create_node_access_key("lab", id, now())
            .await
            .unwrap();
        let second = store
            .create_node_access_key("lab-2", id, now())
            .await
            .unwrap();

        assert_eq!(key.node_id.as_deref(), Some(id));
        assert_eq!(second.node_id.as_deref(), Some(id));
        assert_eq!(store.node(id).await.unwrap().unwrap().name, "lab");
    }

    #[tokio::test]
    async fn key_for_something_that_is_no_node_id_is_refused() {
        let store = Store::open_in_memory().unwrap();

        for id in ["", "i-", "web-1", "mi-0123", "i-0123456789abcdef0/.."] {
            let error = store.create_node_access_key("lab", id, now()).await;
            assert!(matches!(error, Err(AccessError::NodeId { .. })), "{id:?}");
        }
    }
}
