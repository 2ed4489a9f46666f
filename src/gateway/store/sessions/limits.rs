//! How long a session may last: kept with its record, so that a restart forgets no limit.

use std::time::Duration;

use rusqlite::Row;

pub(in crate::gateway::store) const SCHEMA: &str = "
ALTER TABLE sessions ADD COLUMN idle_ms INTEGER NOT NULL DEFAULT 1200000;
ALTER TABLE sessions ADD COLUMN max_ms INTEGER;
ALTER TABLE sessions ADD COLUMN activity TEXT NOT NULL DEFAULT 'input';
CREATE INDEX sessions_by_end ON sessions (end_ms);
";

/// AWS's default, which sessions from before the limits were kept have too.
pub const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(20 * 60);

/// What keeps a session from being idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// What the person types.
    Input,
    /// Data in either direction.
    InputOrOutput,
}

impl Activity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::InputOrOutput => "data",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "input" => Some(Self::Input),
            "data" => Some(Self::InputOrOutput),
            _ => None,
        }
    }
}

/// After what time the gateway ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// Longest time without activity.
    pub idle_timeout: Duration,
    /// What counts as activity.
    pub activity: Activity,
    /// Longest time from its start on.
    pub max_duration: Option<Duration>,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            idle_timeout: DEFAULT_IDLE_TIMEOUT,
            activity: Activity::Input,
            max_duration: None,
        }
    }
}

impl SessionLimits {
    /// The columns `idle_ms`, `max_ms` and `activity`.
    pub(super) fn columns(&self) -> (i64, Option<i64>, &'static str) {
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        (
            millis(self.idle_timeout),
            self.max_duration.map(millis),
            self.activity.as_str(),
        )
    }

    /// Reads the columns.
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let time = |millis: i64| Duration::from_millis(u64::try_from(millis).unwrap_or(0));
        let column = row.as_ref().column_index("activity")?;
        let activity: String = row.get(column)?;
        Ok(Self {
            idle_timeout: time(row.get("idle_ms")?),
            activity: Activity::parse(&activity)
                .ok_or_else(|| super::invalid(column, format!("{activity:?} is no activity")))?,
            max_duration: row.get::<_, Option<i64>>("max_ms")?.map(time),
        })
    }
}
