//! Listing sessions, newest first, a page at a time.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rusqlite::types::Value;

use super::super::timestamp::to_millis;
use super::super::{Page, Store, StoreError};
use super::{COLUMNS, SessionRecord, SessionStatus, read_record};
use crate::protocol::wire::SessionId;

/// Which half of all sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// Those that have not ended.
    Active,
    /// Those that have.
    History,
}

/// What to list. Conditions that are none leave everything in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionFilter {
    /// Active or past ones.
    pub selection: Selection,
    /// On this node.
    pub node_id: Option<String>,
    /// Asked for by this owner.
    pub owner: Option<String>,
    /// With this id.
    pub session_id: Option<String>,
    /// That stand so.
    pub status: Option<SessionStatus>,
    /// Asked for at this time or later.
    pub invoked_after: Option<SystemTime>,
    /// Asked for before this time.
    pub invoked_before: Option<SystemTime>,
    /// Where the page begins.
    pub from: Option<Cursor>,
    /// Most records on a page.
    pub limit: u32,
}

impl SessionFilter {
    /// Everything of `selection`, from the newest on.
    pub fn new(selection: Selection, limit: u32) -> Self {
        Self {
            selection,
            node_id: None,
            owner: None,
            session_id: None,
            status: None,
            invoked_after: None,
            invoked_before: None,
            from: None,
            limit,
        }
    }
}

/// A place in the list: just after one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    start_ms: i64,
    session_id: SessionId,
}

impl Cursor {
    /// Reads the text that a page gave as its next one; `None` if it is no such text.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (start_ms, id) = std::str::from_utf8(&bytes).ok()?.split_once(' ')?;
        Some(Self {
            start_ms: start_ms.parse().ok()?,
            session_id: SessionId::new(id).ok()?,
        })
    }

    /// Just after the session `session_id` that was asked for at `start`.
    pub(in super::super) fn at(start: SystemTime, session_id: SessionId) -> Self {
        Self {
            start_ms: to_millis(start),
            session_id,
        }
    }

    /// The text that [`Self::parse`] reads.
    pub(in super::super) fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{} {}", self.start_ms, self.session_id))
    }

    /// Milliseconds and session, as the store compares them.
    pub(in super::super) fn into_parts(self) -> (i64, SessionId) {
        (self.start_ms, self.session_id)
    }

    fn after(record: &SessionRecord) -> String {
        Self::at(record.start, record.session_id.clone()).to_text()
    }
}

impl Store {
    /// One page of the sessions that `filter` lets through, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_sessions(
        &self,
        filter: SessionFilter,
    ) -> Result<Page<SessionRecord>, StoreError> {
        let limit = usize::try_from(filter.limit.max(1)).unwrap_or(usize::MAX);
        let (condition, values) = condition(filter);
        // One more than asked for tells whether there is another page.
        let query = format!(
            "SELECT {COLUMNS} FROM sessions WHERE {condition}
             ORDER BY start_ms DESC, session_id DESC LIMIT {}",
            limit.saturating_add(1)
        );
        let mut items: Vec<SessionRecord> = self
            .call(move |connection| {
                connection
                    .prepare_cached(&query)?
                    .query_map(rusqlite::params_from_iter(values), read_record)?
                    .collect()
            })
            .await?;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(Cursor::after);
        Ok(Page { items, next })
    }
}

fn condition(filter: SessionFilter) -> (String, Vec<Value>) {
    let mut condition = String::from(match filter.selection {
        Selection::Active => "end_ms IS NULL",
        Selection::History => "end_ms IS NOT NULL",
    });
    let mut values = Vec::new();
    let mut also = |text: &str, value: Option<Value>| {
        if let Some(value) = value {
            condition.push_str(" AND ");
            condition.push_str(text);
            values.push(value);
        }
    };
    let time = |time: SystemTime| Value::from(to_millis(time));
    also("node_id = ?", filter.node_id.map(Value::from));
    also("owner = ?", filter.owner.map(Value::from));
    also("session_id = ?", filter.session_id.map(Value::from));
    let status = filter.status.map(|status| status.as_str().to_owned());
    also("status = ?", status.map(Value::from));
    also("start_ms >= ?", filter.invoked_after.map(time));
    also("start_ms < ?", filter.invoked_before.map(time));
    if let Some(cursor) = filter.from {
        condition.push_str(" AND (start_ms, session_id) < (?, ?)");
        values.push(Value::from(cursor.start_ms));
        values.push(Value::from(String::from(cursor.session_id)));
    }
    (condition, values)
}
