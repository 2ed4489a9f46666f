//! Activations: the codes with which hosts outside EC2 register, and their limits.

use std::time::SystemTime;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::nodes::NewNode;
use super::secret::{self, BASE64};
use super::timestamp::{from_millis, to_millis};
use super::{Page, Secret, Store, StoreError, nodes};

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS activations (
    number                INTEGER PRIMARY KEY AUTOINCREMENT,
    activation_id         TEXT NOT NULL UNIQUE,
    code_hash             BLOB NOT NULL,
    description           TEXT,
    default_instance_name TEXT,
    iam_role              TEXT NOT NULL,
    registration_limit    INTEGER NOT NULL,
    registrations_count   INTEGER NOT NULL DEFAULT 0,
    expires_ms            INTEGER NOT NULL,
    created_ms            INTEGER NOT NULL,
    tags                  TEXT NOT NULL
) STRICT;
";

/// Characters of a code; the reference asks for at least 20. 120 bits cannot be guessed.
const CODE_LENGTH: usize = 20;

/// A tag that nodes of an activation get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Tag {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// What an activation is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewActivation {
    /// For people.
    pub description: Option<String>,
    /// Name of the nodes that register with it.
    pub default_instance_name: Option<String>,
    /// Role the nodes get; kept and shown, the gateway has no roles of its own.
    pub iam_role: String,
    /// How many nodes may register with it.
    pub registration_limit: u32,
    /// When the code stops working.
    pub expires: SystemTime,
    /// Tags of the nodes.
    pub tags: Vec<Tag>,
}

/// An activation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activation {
    /// Its id, a UUID.
    pub activation_id: String,
    /// What it was made of.
    pub details: NewActivation,
    /// How many nodes have registered with it.
    pub registrations_count: u32,
    /// When it was made.
    pub created: SystemTime,
}

/// An activation as its creator sees it: the only moment its code is known.
#[derive(Debug, Clone)]
pub struct IssuedActivation {
    /// Its id.
    pub activation_id: String,
    /// Its code.
    pub code: Secret,
}

/// Why a registration is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationRefused {
    /// No such activation, or another code: the two are not told apart.
    #[error("the activation id or its code is wrong")]
    Unknown,
    /// It is past its date.
    #[error("the activation has expired")]
    Expired,
    /// As many nodes as it allows have registered.
    #[error("the activation's registration limit is reached")]
    UsedUp,
    /// Another node has this key.
    #[error("the public key is registered already")]
    KeyInUse,
}

impl Store {
    /// Makes an activation.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn create_activation(
        &self,
        new: NewActivation,
        now: SystemTime,
    ) -> Result<IssuedActivation, StoreError> {
        let issued = IssuedActivation {
            activation_id: Uuid::new_v4().to_string(),
            code: Secret::random(BASE64, CODE_LENGTH),
        };
        let (id, code_hash) = (issued.activation_id.clone(), issued.code.hash());
        self.call(move |connection| insert(connection, &id, &code_hash, &new, now))
            .await?;
        Ok(issued)
    }

    /// A page of at most `limit` activations that `keep` wants, newest first, from `after` on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn activations(
        &self,
        after: Option<String>,
        limit: usize,
        keep: impl Fn(&Activation) -> bool + Send + 'static,
    ) -> Result<Page<Activation>, StoreError> {
        self.call(move |connection| {
            let before = after.and_then(|text| text.parse().ok()).unwrap_or(i64::MAX);
            let mut statement = connection
                .prepare("SELECT * FROM activations WHERE number < ?1 ORDER BY number DESC")?;
            let mut rows = statement.query([before])?;
            let mut page = Page {
                items: Vec::new(),
                next: None,
            };
            let mut last: i64 = 0;
            while let Some(row) = rows.next()? {
                let activation = read(row)?;
                if !keep(&activation) {
                    continue;
                }
                if page.items.len() == limit {
                    page.next = Some(last.to_string());
                    break;
                }
                last = row.get("number")?;
                page.items.push(activation);
            }
            Ok(page)
        })
        .await
    }

    /// Deletes an activation; nodes that registered with it stay. False if there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_activation(&self, activation_id: &str) -> Result<bool, StoreError> {
        let id = activation_id.to_owned();
        self.call(move |connection| {
            let deleted =
                connection.execute("DELETE FROM activations WHERE activation_id = ?1", [id])?;
            Ok(deleted == 1)
        })
        .await
    }

    /// Registers a node with an activation and returns its id. Check, count and node are one
    /// transaction, so a limit holds however many hosts register at once.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn register_node(
        &self,
        activation_id: &str,
        code: Secret,
        new: NewNode,
        now: SystemTime,
    ) -> Result<Result<String, RegistrationRefused>, StoreError> {
        let activation_id = activation_id.to_owned();
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let activation = match usable(&transaction, &activation_id, &code, now)? {
                Ok(activation) => activation,
                Err(refused) => return Ok(Err(refused)),
            };
            if nodes::key_in_use(&transaction, &new.public_key)? {
                return Ok(Err(RegistrationRefused::KeyInUse));
            }
            transaction.execute(
                "UPDATE activations SET registrations_count = registrations_count + 1
                 WHERE activation_id = ?1",
                [&activation_id],
            )?;
            let node_id = nodes::insert(&transaction, &activation, &new, now)?;
            transaction.commit()?;
            Ok(Ok(node_id))
        })
        .await
    }
}

fn usable(
    connection: &Connection,
    activation_id: &str,
    code: &Secret,
    now: SystemTime,
) -> rusqlite::Result<Result<Activation, RegistrationRefused>> {
    let found = connection
        .query_row(
            "SELECT * FROM activations WHERE activation_id = ?1",
            [activation_id],
            |row| Ok((read(row)?, row.get::<_, Vec<u8>>("code_hash")?)),
        )
        .optional()?;
    let (activation, code_hash) = found.map_or((None, Vec::new()), |(a, h)| (Some(a), h));
    let right_code = secret::matches(code.expose(), &code_hash);
    Ok(match activation {
        Some(activation) if right_code => {
            if activation.is_expired(now) {
                Err(RegistrationRefused::Expired)
            } else if activation.registrations_count >= activation.details.registration_limit {
                Err(RegistrationRefused::UsedUp)
            } else {
                Ok(activation)
            }
        }
        Some(_) | None => Err(RegistrationRefused::Unknown),
    })
}

impl Activation {
    /// Whether the code has stopped working at `now`.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        now >= self.details.expires
    }
}

fn insert(
    connection: &Connection,
    id: &str,
    code_hash: &[u8],
    new: &NewActivation,
    now: SystemTime,
) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO activations (activation_id, code_hash, description, default_instance_name,
             iam_role, registration_limit, expires_ms, created_ms, tags)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            id,
            code_hash,
            new.description,
            new.default_instance_name,
            new.iam_role,
            new.registration_limit,
            to_millis(new.expires),
            to_millis(now),
            write_tags(&new.tags)
        ],
    )?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<Activation> {
    Ok(Activation {
        activation_id: row.get("activation_id")?,
        details: NewActivation {
            description: row.get("description")?,
            default_instance_name: row.get("default_instance_name")?,
            iam_role: row.get("iam_role")?,
            registration_limit: row.get("registration_limit")?,
            expires: from_millis(row.get("expires_ms")?),
            tags: read_tags(row)?,
        },
        registrations_count: row.get("registrations_count")?,
        created: from_millis(row.get("created_ms")?),
    })
}

pub(super) fn write_tags(tags: &[Tag]) -> String {
    serde_json::to_string(tags).expect("tags are plain text")
}

/// The column `tags`.
pub(super) fn read_tags(row: &Row<'_>) -> rusqlite::Result<Vec<Tag>> {
    let column = row.as_ref().column_index("tags")?;
    serde_json::from_str(row.get_ref(column)?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
    })
}

#[cfg(test)]
mod tests;
