//! Nodes: the hosts the gateway knows, who they are and what they last said about themselves.

use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::activations::{self, Activation, Tag};
use super::secret::{HEX, random_text};
use super::timestamp::{from_millis, to_millis};
use super::{Page, Store, StoreError};

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS nodes (
    node_id            TEXT PRIMARY KEY,
    name               TEXT NOT NULL,
    public_key         TEXT UNIQUE,
    fingerprint        TEXT NOT NULL,
    activation_id      TEXT,
    iam_role           TEXT NOT NULL,
    registered_ms      INTEGER NOT NULL,
    tags               TEXT NOT NULL DEFAULT '[]',
    last_ping_ms       INTEGER,
    agent_name         TEXT NOT NULL DEFAULT '',
    agent_status       TEXT NOT NULL DEFAULT '',
    agent_version      TEXT NOT NULL DEFAULT '',
    platform_type      TEXT NOT NULL DEFAULT '',
    platform_name      TEXT NOT NULL DEFAULT '',
    platform_version   TEXT NOT NULL DEFAULT '',
    ip_address         TEXT NOT NULL DEFAULT '',
    computer_name      TEXT NOT NULL DEFAULT '',
    connection_channel TEXT NOT NULL DEFAULT ''
) STRICT;
";

/// Hexadecimal digits after `mi-`.
const ID_LENGTH: usize = 17;

/// What a host shows at registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNode {
    /// Its RSA key, base64 of the DER SubjectPublicKeyInfo.
    pub public_key: String,
    /// Its hardware fingerprint, a UUID.
    pub fingerprint: String,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `mi-` and 17 hexadecimal digits, or the id of a node with a custom identity.
    pub node_id: String,
    /// Name it got from its activation; may be empty.
    pub name: String,
    /// Its RSA key, base64 of the DER SubjectPublicKeyInfo; none for a node with an access key.
    pub public_key: Option<String>,
    /// Its hardware fingerprint.
    pub fingerprint: String,
    /// Activation it registered with.
    pub activation_id: Option<String>,
    /// Role that the activation named.
    pub iam_role: String,
    /// When it registered.
    pub registered: SystemTime,
    /// When it last reported.
    pub last_ping: Option<SystemTime>,
    /// Tags it got from its activation.
    pub tags: Vec<Tag>,
    /// What it last reported.
    pub report: Report,
}

/// Why the key of an instance is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InstanceRefused {
    /// It has one already, or it is not known any more.
    #[error("the instance has a key already")]
    Registered,
    /// Another node has this one.
    #[error("another node has this key")]
    KeyInUse,
}

/// What an agent says about itself and its host. Members it left out are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// `amazon-ssm-agent`.
    pub agent_name: String,
    /// `Active`.
    pub agent_status: String,
    /// Version of the agent.
    pub agent_version: String,
    /// `Linux`.
    pub platform_type: String,
    /// Name of the distribution.
    pub platform_name: String,
    /// Version of the distribution.
    pub platform_version: String,
    /// Best address of the host.
    pub ip_address: String,
    /// Host name.
    pub computer_name: String,
    /// `ssmmessages`, `ec2messages`, or empty before the first attempt.
    pub connection_channel: String,
}

impl Store {
    /// The node `node_id`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn node(&self, node_id: &str) -> Result<Option<Node>, StoreError> {
        let id = node_id.to_owned();
        self.call(move |connection| {
            connection
                .prepare_cached("SELECT * FROM nodes WHERE node_id = ?1")?
                .query_row([id], read)
                .optional()
        })
        .await
    }

    /// A page of at most `limit` nodes that `keep` wants, by id, from `after` on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn nodes(
        &self,
        after: Option<String>,
        limit: usize,
        keep: impl Fn(&Node) -> bool + Send + 'static,
    ) -> Result<Page<Node>, StoreError> {
        self.call(move |connection| {
            let mut statement =
                connection.prepare("SELECT * FROM nodes WHERE node_id > ?1 ORDER BY node_id")?;
            let mut rows = statement.query([after.unwrap_or_default()])?;
            let mut items: Vec<Node> = Vec::new();
            while let Some(row) = rows.next()? {
                let node = read(row)?;
                if !keep(&node) {
                    continue;
                }
                if items.len() == limit {
                    let next = items.last().map(|last| last.node_id.clone());
                    return Ok(Page { items, next });
                }
                items.push(node);
            }
            Ok(Page { items, next: None })
        })
        .await
    }

    /// Keeps what a node reported. The short report of a starting agent does not erase what a full
    /// one said. False if there is no such node.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn record_report(
        &self,
        node_id: &str,
        report: Report,
        now: SystemTime,
    ) -> Result<bool, StoreError> {
        let id = node_id.to_owned();
        self.call(move |connection| update_report(connection, &id, &report, now))
            .await
    }

    /// Gives a node without a key its first one; its id is then its fingerprint, as that of an instance
    /// of EC2 is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn register_instance_key(
        &self,
        node_id: &str,
        public_key: String,
    ) -> Result<Result<(), InstanceRefused>, StoreError> {
        let id = node_id.to_owned();
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            if key_in_use(&transaction, &public_key)? {
                return Ok(Err(InstanceRefused::KeyInUse));
            }
            let changed = transaction.execute(
                "UPDATE nodes SET public_key = ?2, fingerprint = ?1
                 WHERE node_id = ?1 AND public_key IS NULL",
                params![id, public_key],
            )?;
            transaction.commit()?;
            Ok(if changed == 1 {
                Ok(())
            } else {
                Err(InstanceRefused::Registered)
            })
        })
        .await
    }

    /// Puts another key in the place of a node's. False if another node has it, or there is no such node.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn replace_public_key(
        &self,
        node_id: &str,
        public_key: String,
    ) -> Result<bool, StoreError> {
        let id = node_id.to_owned();
        self.call(move |connection| {
            let changed = connection.execute(
                "UPDATE OR IGNORE nodes SET public_key = ?2 WHERE node_id = ?1",
                params![id, public_key],
            )?;
            Ok(changed == 1)
        })
        .await
    }

    /// Forgets a node with its credentials and access keys. False if there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn deregister_node(&self, node_id: &str) -> Result<bool, StoreError> {
        let id = node_id.to_owned();
        self.call(move |connection| {
            let deleted = connection.execute("DELETE FROM nodes WHERE node_id = ?1", [id])?;
            Ok(deleted == 1)
        })
        .await
    }
}

/// Whether `text` has the form of a node id: `i-` or `mi-` as in the service model.
pub(in crate::gateway) fn is_node_id(text: &str) -> bool {
    let (digits, lengths): (_, &[usize]) = match text.split_once('-') {
        Some(("i", digits)) => (digits, &[8, 17]),
        Some(("mi", digits)) => (digits, &[17]),
        Some(_) | None => return false,
    };
    lengths.contains(&digits.len())
        && digits
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

pub(super) fn key_in_use(connection: &Connection, public_key: &str) -> rusqlite::Result<bool> {
    connection
        .prepare("SELECT 1 FROM nodes WHERE public_key = ?1")?
        .exists([public_key])
}

pub(super) fn insert(
    connection: &Connection,
    activation: &Activation,
    new: &NewNode,
    now: SystemTime,
) -> rusqlite::Result<String> {
    let node_id = format!("mi-{}", random_text(HEX, ID_LENGTH));
    connection.execute(
        "INSERT INTO nodes (node_id, name, public_key, fingerprint, activation_id, iam_role, registered_ms, tags)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            node_id,
            activation.details.default_instance_name.as_deref().unwrap_or_default(),
            new.public_key,
            new.fingerprint,
            activation.activation_id,
            activation.details.iam_role,
            to_millis(now),
            activations::write_tags(&activation.details.tags)
        ],
    )?;
    Ok(node_id)
}

/// Makes a node with a custom identity known; one that is known already stays as it is.
pub(super) fn insert_custom(
    connection: &Connection,
    node_id: &str,
    name: &str,
    now: SystemTime,
) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT OR IGNORE INTO nodes (node_id, name, fingerprint, iam_role, registered_ms)
         VALUES (?1, ?2, '', '', ?3)",
        params![node_id, name, to_millis(now)],
    )?;
    Ok(())
}

fn update_report(
    connection: &Connection,
    node_id: &str,
    report: &Report,
    now: SystemTime,
) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached(
        "UPDATE nodes SET last_ping_ms = ?2,
             agent_name         = coalesce(nullif(?3, ''), agent_name),
             agent_status       = coalesce(nullif(?4, ''), agent_status),
             agent_version      = coalesce(nullif(?5, ''), agent_version),
             platform_type      = coalesce(nullif(?6, ''), platform_type),
             platform_name      = coalesce(nullif(?7, ''), platform_name),
             platform_version   = coalesce(nullif(?8, ''), platform_version),
             ip_address         = coalesce(nullif(?9, ''), ip_address),
             computer_name      = coalesce(nullif(?10, ''), computer_name),
             connection_channel = coalesce(nullif(?11, ''), connection_channel)
         WHERE node_id = ?1",
    )?;
    let changed = statement.execute(params![
        node_id,
        to_millis(now),
        report.agent_name,
        report.agent_status,
        report.agent_version,
        report.platform_type,
        report.platform_name,
        report.platform_version,
        report.ip_address,
        report.computer_name,
        report.connection_channel
    ])?;
    Ok(changed == 1)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Node> {
    Ok(Node {
        node_id: row.get("node_id")?,
        name: row.get("name")?,
        public_key: row.get("public_key")?,
        fingerprint: row.get("fingerprint")?,
        activation_id: row.get("activation_id")?,
        iam_role: row.get("iam_role")?,
        registered: from_millis(row.get("registered_ms")?),
        last_ping: row.get::<_, Option<i64>>("last_ping_ms")?.map(from_millis),
        tags: activations::read_tags(row)?,
        report: Report {
            agent_name: row.get("agent_name")?,
            agent_status: row.get("agent_status")?,
            agent_version: row.get("agent_version")?,
            platform_type: row.get("platform_type")?,
            platform_name: row.get("platform_name")?,
            platform_version: row.get("platform_version")?,
            ip_address: row.get("ip_address")?,
            computer_name: row.get("computer_name")?,
            connection_channel: row.get("connection_channel")?,
        },
    })
}

#[cfg(test)]
mod tests;
