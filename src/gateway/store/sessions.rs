//! Sessions: one record each, from the start message to the agent's result and for the time that
//! the history is kept.
//!
//! A record ends once: the first of the agent's result and the broker's verdict stays. `confirmed`
//! says that the agent itself reported the end; until then it has to be told when it comes back.

mod limits;
mod list;

use std::time::{Duration, SystemTime};

use rusqlite::{OptionalExtension, Row, params};

pub use limits::{Activity, DEFAULT_IDLE_TIMEOUT, SessionLimits};
pub use list::{Cursor, Selection, SessionFilter};

use super::recordings::{self, NodeFile};
use super::timestamp::{from_millis, to_millis};
use super::{Store, StoreError};
use crate::protocol::wire::SessionId;

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS sessions (
    session_id    TEXT PRIMARY KEY,
    node_id       TEXT NOT NULL,
    owner         TEXT NOT NULL,
    document_name TEXT NOT NULL,
    reason        TEXT NOT NULL,
    status        TEXT NOT NULL,
    start_ms      INTEGER NOT NULL,
    end_ms        INTEGER,
    details       TEXT NOT NULL DEFAULT '',
    exit_code     INTEGER,
    s3_output     TEXT NOT NULL DEFAULT '',
    log_output    TEXT NOT NULL DEFAULT '',
    confirmed     INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS sessions_by_start ON sessions (start_ms, session_id);
CREATE INDEX IF NOT EXISTS sessions_of_node ON sessions (node_id, confirmed);
";
pub(super) const LIMITS_SCHEMA: &str = limits::SCHEMA;

/// How long the record of a session that ended is kept; AWS's time.
pub const HISTORY: Duration = Duration::from_secs(30 * 24 * 3600);

/// How a session stands, in AWS's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionStatus {
    /// One end has not been there yet.
    Connecting,
    /// Both ends are connected.
    Connected,
    /// An end that was connected is away.
    Disconnected,
    /// It was told to end.
    Terminating,
    /// It ended.
    Terminated,
    /// It could not start, or broke.
    Failed,
}

impl SessionStatus {
    /// AWS's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "Connecting",
            Self::Connected => "Connected",
            Self::Disconnected => "Disconnected",
            Self::Terminating => "Terminating",
            Self::Terminated => "Terminated",
            Self::Failed => "Failed",
        }
    }

    /// Reads AWS's word.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "Connecting" => Self::Connecting,
            "Connected" => Self::Connected,
            "Disconnected" => Self::Disconnected,
            "Terminating" => Self::Terminating,
            "Terminated" => Self::Terminated,
            "Failed" => Self::Failed,
            _ => return None,
        })
    }
}

/// What is known about one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its id.
    pub session_id: SessionId,
    /// The node it is on.
    pub node_id: String,
    /// Who asked for it.
    pub owner: String,
    /// Name of its document.
    pub document_name: String,
    /// Reason the owner gave; may be empty.
    pub reason: String,
    /// After what time it is ended.
    pub limits: SessionLimits,
    /// How it stands.
    pub status: SessionStatus,
    /// When it was asked for.
    pub start: SystemTime,
    /// When it ended.
    pub end: Option<SystemTime>,
    /// Why it ended, where that needs a word.
    pub details: String,
    /// Exit status of its shell or command, where the agent reported one.
    pub exit_code: Option<i32>,
    /// Where the agent put the transcript in S3; may be empty.
    pub s3_output: String,
    /// Where the agent put the transcript in CloudWatch Logs; may be empty.
    pub log_output: String,
}

impl SessionRecord {
    /// A session that is about to start now.
    pub fn new(session_id: SessionId, node_id: &str, owner: &str) -> Self {
        Self {
            session_id,
            node_id: node_id.to_owned(),
            owner: owner.to_owned(),
            document_name: String::new(),
            reason: String::new(),
            limits: SessionLimits::default(),
            status: SessionStatus::Connecting,
            start: SystemTime::now(),
            end: None,
            details: String::new(),
            exit_code: None,
            s3_output: String::new(),
            log_output: String::new(),
        }
    }
}

/// The result of a session as its agent reported it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionResult {
    /// The session.
    pub session_id: SessionId,
    /// The node that reports; only a session's own node can.
    pub node_id: String,
    /// `Terminated` or `Failed`.
    pub status: SessionStatus,
    /// Text for people.
    pub details: String,
    /// Exit status of the shell or command.
    pub exit_code: Option<i32>,
    /// Where the transcript went in S3.
    pub s3_output: String,
    /// Where the transcript went in CloudWatch Logs.
    pub log_output: String,
    /// The cast that the node made of the session, where it said so.
    pub cast: Option<NodeFile>,
}

const COLUMNS: &str = "session_id, node_id, owner, document_name, reason, status, start_ms, \
                       end_ms, details, exit_code, s3_output, log_output, idle_ms, max_ms, activity";

impl Store {
    /// Adds a session.
    ///
    /// # Errors
    /// [`StoreError`], also if there is one with its id.
    pub async fn insert_session(&self, record: SessionRecord) -> Result<(), StoreError> {
        self.call(move |connection| {
            let (idle_ms, max_ms, activity) = record.limits.columns();
            connection
                .prepare_cached(&format!(
                    "INSERT INTO sessions ({COLUMNS}) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15)"
                ))?
                .execute(params![
                    record.session_id.as_str(),
                    record.node_id,
                    record.owner,
                    record.document_name,
                    record.reason,
                    record.status.as_str(),
                    to_millis(record.start),
                    record.end.map(to_millis),
                    record.details,
                    record.exit_code,
                    record.s3_output,
                    record.log_output,
                    idle_ms,
                    max_ms,
                    activity,
                ])
                .map(drop)
        })
        .await
    }

    /// Notes how a session stands that has not ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_session_status(
        &self,
        id: SessionId,
        status: SessionStatus,
    ) -> Result<(), StoreError> {
        self.call(move |connection| {
            connection
                .prepare_cached(
                    "UPDATE sessions SET status = ?2 WHERE session_id = ?1 AND end_ms IS NULL",
                )?
                .execute(params![id.as_str(), status.as_str()])
                .map(drop)
        })
        .await
    }

    /// Notes that a session which has not ended was told to, and why.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn terminate_session(
        &self,
        id: SessionId,
        details: String,
    ) -> Result<(), StoreError> {
        let status = SessionStatus::Terminating.as_str();
        self.call(move |connection| {
            connection
                .prepare_cached(
                    "UPDATE sessions SET status = ?2, details = ?3
                     WHERE session_id = ?1 AND end_ms IS NULL",
                )?
                .execute(params![id.as_str(), status, details])
                .map(drop)
        })
        .await
    }

    /// Ends a session with the broker's verdict, unless it has ended already.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_session(
        &self,
        id: SessionId,
        status: SessionStatus,
        details: String,
    ) -> Result<(), StoreError> {
        let now = to_millis(SystemTime::now());
        self.call(move |connection| {
            connection
                .prepare_cached(
                    "UPDATE sessions SET status = ?2, details = ?3, end_ms = ?4
                     WHERE session_id = ?1 AND end_ms IS NULL",
                )?
                .execute(params![id.as_str(), status.as_str(), details, now])
                .map(drop)
        })
        .await
    }

    /// Notes the agent's result, the first one if it comes more than once. A verdict that stands
    /// already keeps its status, text and time, a reason to end its text. Returns whether this node has such a session.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn complete_session(&self, result: SessionResult) -> Result<bool, StoreError> {
        let now = to_millis(SystemTime::now());
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let known: bool = transaction
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM sessions WHERE session_id = ?1 AND node_id = ?2)",
                )?
                .query_row(params![result.session_id.as_str(), result.node_id], |row| {
                    row.get(0)
                })?;
            transaction
                .prepare_cached(
                    "UPDATE sessions SET
                         confirmed = 1, exit_code = ?3, s3_output = ?4, log_output = ?5,
                         status  = CASE WHEN end_ms IS NULL THEN ?6 ELSE status END,
                         details = CASE WHEN details = '' AND end_ms IS NULL THEN ?7 ELSE details END,
                         end_ms  = coalesce(end_ms, ?8)
                     WHERE session_id = ?1 AND node_id = ?2 AND confirmed = 0",
                )?
                .execute(params![
                    result.session_id.as_str(),
                    result.node_id,
                    result.exit_code,
                    result.s3_output,
                    result.log_output,
                    result.status.as_str(),
                    result.details,
                    now,
                ])?;
            if let Some(cast) = result.cast.filter(|_| known) {
                recordings::note_node_file(&transaction, &result.session_id, &cast, now)?;
            }
            transaction.commit()?;
            Ok(known)
        })
        .await
    }

    /// The session `id`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn session(&self, id: &SessionId) -> Result<Option<SessionRecord>, StoreError> {
        let id = id.clone();
        self.call(move |connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM sessions WHERE session_id = ?1"
                ))?
                .query_row([id.as_str()], read_record)
                .optional()
        })
        .await
    }

    /// The sessions that have not ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_sessions(&self) -> Result<Vec<SessionRecord>, StoreError> {
        self.call(|connection| {
            connection
                .prepare(&format!(
                    "SELECT {COLUMNS} FROM sessions WHERE end_ms IS NULL ORDER BY start_ms"
                ))?
                .query_map([], read_record)?
                .collect()
        })
        .await
    }

    /// Forgets the sessions that ended longer than [`HISTORY`] before `now`. Returns how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_old_sessions(&self, now: SystemTime) -> Result<usize, StoreError> {
        let before = to_millis(now.checked_sub(HISTORY).unwrap_or(SystemTime::UNIX_EPOCH));
        self.call(move |connection| {
            connection.execute("DELETE FROM sessions WHERE end_ms < ?1", [before])
        })
        .await
    }

    /// Sessions of a node that ended since `since` without the agent having said so.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unconfirmed_sessions(
        &self,
        node_id: &str,
        since: SystemTime,
    ) -> Result<Vec<SessionId>, StoreError> {
        let node_id = node_id.to_owned();
        let since = to_millis(since);
        self.call(move |connection| {
            connection
                .prepare_cached(
                    "SELECT session_id FROM sessions
                     WHERE node_id = ?1 AND confirmed = 0 AND end_ms >= ?2",
                )?
                .query_map(params![node_id, since], |row| read_id(row, 0))?
                .collect()
        })
        .await
    }
}

fn read_record(row: &Row<'_>) -> rusqlite::Result<SessionRecord> {
    let status: String = row.get(5)?;
    Ok(SessionRecord {
        session_id: read_id(row, 0)?,
        node_id: row.get(1)?,
        owner: row.get(2)?,
        document_name: row.get(3)?,
        reason: row.get(4)?,
        status: SessionStatus::parse(&status)
            .ok_or_else(|| invalid(5, format!("{status:?} is no session status")))?,
        start: from_millis(row.get(6)?),
        end: row.get::<_, Option<i64>>(7)?.map(from_millis),
        details: row.get(8)?,
        exit_code: row.get(9)?,
        s3_output: row.get(10)?,
        log_output: row.get(11)?,
        limits: SessionLimits::read(row)?,
    })
}

pub(super) fn read_id(row: &Row<'_>, column: usize) -> rusqlite::Result<SessionId> {
    let text: String = row.get(column)?;
    SessionId::new(text).map_err(|error| invalid(column, error.to_string()))
}

fn invalid(column: usize, detail: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, detail.into())
}

#[cfg(test)]
mod tests;
