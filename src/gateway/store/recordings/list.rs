//! Listing sessions with what is stored of their recordings, newest first.

use std::time::SystemTime;

use rusqlite::{Row, params};

use super::super::sessions::{Cursor, SessionStatus, read_id};
use super::super::timestamp::from_millis;
use super::super::{Page, Store, StoreError};
use super::{Recording, read};
use crate::protocol::wire::SessionId;

/// What to list. Conditions that are none leave everything in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingFilter {
    /// On this node.
    pub node_id: Option<String>,
    /// Asked for by this owner.
    pub owner: Option<String>,
    /// Sessions without a recording too.
    pub all_sessions: bool,
    /// Where the page begins.
    pub from: Option<Cursor>,
    /// Most sessions on a page.
    pub limit: u32,
}

/// A session in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The session.
    pub session_id: SessionId,
    /// The node it is on.
    pub node_id: String,
    /// Who asked for it.
    pub owner: String,
    /// When it was asked for.
    pub start: SystemTime,
    /// How it stands; none if the history does not reach back to it.
    pub status: Option<SessionStatus>,
    /// Its recording, if any of it was uploaded.
    pub recording: Option<Recording>,
}

/// Sessions and recordings, each of which may be without the other.
const QUERY: &str = "
SELECT coalesce(s.session_id, r.session_id) AS id,
       coalesce(s.node_id, r.node_id)       AS node,
       coalesce(s.owner, r.owner)           AS asked_by,
       coalesce(s.start_ms, r.started_ms)   AS start,
       s.status, r.*
FROM sessions AS s FULL JOIN recordings AS r ON r.session_id = s.session_id
WHERE (?1 IS NULL OR node = ?1) AND (?2 IS NULL OR asked_by = ?2) AND (?3 OR r.bytes > 0)
  AND (?4 IS NULL OR (start, id) < (?4, ?5))
ORDER BY start DESC, id DESC LIMIT ?6";

impl Store {
    /// One page of the sessions that `filter` lets through, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_recordings(
        &self,
        filter: RecordingFilter,
    ) -> Result<Page<Listed>, StoreError> {
        let limit = filter.limit.max(1);
        let (start_ms, after) = filter.from.map(Cursor::into_parts).unzip();
        let mut items: Vec<Listed> = self
            .call(move |connection| {
                // One more than asked for tells whether there is another page.
                let rows = params![
                    filter.node_id,
                    filter.owner,
                    filter.all_sessions,
                    start_ms,
                    after.map(String::from),
                    i64::from(limit) + 1,
                ];
                connection
                    .prepare_cached(QUERY)?
                    .query_map(rows, read_listed)?
                    .collect()
            })
            .await?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let last = items.last().filter(|_| more);
        let next = last.map(|last| Cursor::at(last.start, last.session_id.clone()).to_text());
        Ok(Page { items, next })
    }
}

fn read_listed(row: &Row<'_>) -> rusqlite::Result<Listed> {
    let status: Option<String> = row.get("status")?;
    let bytes: Option<i64> = row.get("bytes")?;
    let recording = match bytes {
        Some(1..) => Some(read(row)?),
        _ => None,
    };
    Ok(Listed {
        session_id: read_id(row, 0)?,
        node_id: row.get("node")?,
        owner: row.get("asked_by")?,
        start: from_millis(row.get("start")?),
        status: status.as_deref().and_then(SessionStatus::parse),
        recording,
    })
}
