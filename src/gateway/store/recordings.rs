//! What is known of recordings that agents upload; the casts themselves are files beside the database.
//!
//! A row has the session's owner, node and start of its own: a recording may be kept longer than the
//! history of sessions. It begins with the first part of the cast, or with the agent's result, which
//! says what the node's own file holds; the list shows what both together mean.

mod list;

use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, Row, params};

pub use list::{Listed, RecordingFilter};

use super::sessions::read_id;
use super::timestamp::{from_millis, to_millis};
use super::{Store, StoreError};
use crate::protocol::wire::SessionId;
use crate::protocol::wire::recording::Progress;

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS recordings (
    session_id  TEXT PRIMARY KEY,
    node_id     TEXT NOT NULL,
    owner       TEXT NOT NULL,
    started_ms  INTEGER NOT NULL,
    updated_ms  INTEGER NOT NULL,
    bytes       INTEGER NOT NULL DEFAULT 0,
    entries     INTEGER NOT NULL DEFAULT 0,
    complete    INTEGER NOT NULL DEFAULT 0,
    sha256      TEXT,
    node_bytes  INTEGER,
    node_sha256 TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS recordings_by_update ON recordings (updated_ms, session_id);
";

/// Recordings that one sweep looks at; there is another sweep soon.
const SWEEP_BATCH: u32 = 1000;

/// What a node says of the cast that it made of a session itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFile {
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
}

/// What is known of one recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// The session.
    pub session_id: SessionId,
    /// The node it was on.
    pub node_id: String,
    /// Who asked for it.
    pub owner: String,
    /// When the session was asked for.
    pub started: SystemTime,
    /// When something was added last.
    pub updated: SystemTime,
    /// How much is stored.
    pub progress: Progress,
    /// SHA-256 of the whole cast as it is stored, in hexadecimal, once it is complete.
    pub sha256: Option<String>,
    /// What the node says of its own file.
    pub node_file: Option<NodeFile>,
}

/// What the digest of the node's own file says about a recording that was uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agreement {
    /// Nothing: there is none, the upload is not complete, or one of the two has gaps that the other
    /// does not have.
    Unknown,
    /// The files are the same.
    Same,
    /// The files have the same length and are not the same: one was changed.
    Differs,
}

impl Recording {
    /// Whether the node's own file is what was uploaded.
    pub fn agreement(&self) -> Agreement {
        match (&self.sha256, &self.node_file) {
            (Some(ours), Some(theirs)) if theirs.bytes == self.progress.bytes => {
                if *ours == theirs.sha256.to_ascii_lowercase() {
                    Agreement::Same
                } else {
                    Agreement::Differs
                }
            }
            _ => Agreement::Unknown,
        }
    }
}

const COLUMNS: &str = "session_id, node_id, owner, started_ms, updated_ms, bytes, entries, \
                       complete, sha256, node_bytes, node_sha256";

impl Store {
    /// The recording of session `id`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn recording(&self, id: &SessionId) -> Result<Option<Recording>, StoreError> {
        let id = id.clone();
        self.call(move |connection| find(connection, &id)).await
    }

    /// The recording of session `id`, begun if there is none; `None` if there is no such session.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin_recording(
        &self,
        id: &SessionId,
        now: SystemTime,
    ) -> Result<Option<Recording>, StoreError> {
        let id = id.clone();
        self.call(move |connection| {
            begin(connection, &id, to_millis(now))?;
            find(connection, &id)
        })
        .await
    }

    /// Notes how much of a recording is stored, and its digest if that is all of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn advance_recording(
        &self,
        id: &SessionId,
        progress: Progress,
        sha256: Option<String>,
        now: SystemTime,
    ) -> Result<(), StoreError> {
        let id = id.clone();
        self.call(move |connection| {
            connection
                .prepare_cached(
                    "UPDATE recordings
                     SET bytes = ?2, entries = ?3, complete = ?4, sha256 = ?5, updated_ms = ?6
                     WHERE session_id = ?1",
                )?
                .execute(params![
                    id.as_str(),
                    to_column(progress.bytes),
                    to_column(progress.entries),
                    progress.complete,
                    sha256,
                    to_millis(now),
                ])
                .map(drop)
        })
        .await
    }

    /// Bytes of all recordings together.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn recorded_bytes(&self) -> Result<u64, StoreError> {
        self.call(|connection| {
            connection.query_row(
                "SELECT coalesce(sum(bytes), 0) FROM recordings",
                [],
                |row| row.get(0).map(from_column),
            )
        })
        .await
    }

    /// Recordings that nobody adds to any more, those that were added to least recently first:
    /// complete ones, and ones of sessions that are over to which nothing was added since
    /// `abandoned_before`. At most some hundred at a time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn finished_recordings(
        &self,
        abandoned_before: SystemTime,
    ) -> Result<Vec<Recording>, StoreError> {
        let before = to_millis(abandoned_before);
        self.call(move |connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM recordings AS r
                     WHERE complete OR (updated_ms < ?1 AND NOT EXISTS (
                         SELECT 1 FROM sessions AS s
                         WHERE s.session_id = r.session_id AND s.end_ms IS NULL))
                     ORDER BY updated_ms, session_id LIMIT {SWEEP_BATCH}"
                ))?
                .query_map([before], read)?
                .collect()
        })
        .await
    }

    /// Forgets a recording.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_recording(&self, id: &SessionId) -> Result<(), StoreError> {
        let id = id.clone();
        self.call(move |connection| {
            connection
                .prepare_cached("DELETE FROM recordings WHERE session_id = ?1")?
                .execute([id.as_str()])
                .map(drop)
        })
        .await
    }
}

/// Notes what a node says of its own file of a session. What it said first stays.
pub(super) fn note_node_file(
    connection: &Connection,
    id: &SessionId,
    file: &NodeFile,
    now_ms: i64,
) -> rusqlite::Result<()> {
    begin(connection, id, now_ms)?;
    connection
        .prepare_cached(
            "UPDATE recordings SET node_bytes = ?2, node_sha256 = ?3
             WHERE session_id = ?1 AND node_sha256 IS NULL",
        )?
        .execute(params![id.as_str(), to_column(file.bytes), file.sha256])
        .map(drop)
}

fn begin(connection: &Connection, id: &SessionId, now_ms: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO recordings (session_id, node_id, owner, started_ms, updated_ms)
             SELECT session_id, node_id, owner, start_ms, ?2 FROM sessions WHERE session_id = ?1",
        )?
        .execute(params![id.as_str(), now_ms])
        .map(drop)
}

fn find(connection: &Connection, id: &SessionId) -> rusqlite::Result<Option<Recording>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM recordings WHERE session_id = ?1"
        ))?
        .query_row([id.as_str()], read)
        .optional()
}

/// Reads a row that has the columns of [`COLUMNS`] by their names.
fn read(row: &Row<'_>) -> rusqlite::Result<Recording> {
    let node_bytes: Option<i64> = row.get("node_bytes")?;
    let node_sha256: Option<String> = row.get("node_sha256")?;
    let node_file = node_bytes.zip(node_sha256).map(|(bytes, sha256)| NodeFile {
        bytes: from_column(bytes),
        sha256,
    });
    Ok(Recording {
        session_id: read_id(row, 0)?,
        node_id: row.get("node_id")?,
        owner: row.get("owner")?,
        started: from_millis(row.get("started_ms")?),
        updated: from_millis(row.get("updated_ms")?),
        progress: Progress {
            bytes: from_column(row.get("bytes")?),
            entries: from_column(row.get("entries")?),
            complete: row.get("complete")?,
        },
        sha256: row.get("sha256")?,
        node_file,
    })
}

/// SQLite's integers have a sign; no file is longer than they count.
fn to_column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn from_column(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests;
