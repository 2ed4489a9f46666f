//! Reading commands and their invocations.

use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::timestamp::{from_millis, to_millis};
use super::super::{Page, Store, StoreError};
use super::{
    CommandRecord, CommandSummary, Invocation, InvocationStatus, InvocationStep, OpenInvocation,
};
use crate::protocol::wire::job::CommandId;

const COMMAND: &str = "c.command_id, c.owner, c.document_name, c.document_version, c.comment,
    c.parameters, c.node_ids, c.targets, c.max_concurrency, c.max_errors, c.s3_bucket, c.s3_prefix,
    c.s3_region, c.log_group, c.log_enabled, c.requested_ms, c.expires_ms, c.timeout_seconds,
    c.execution_ms, c.content, c.cancelled";
const INVOCATION: &str = "i.command_id, i.node_id, i.node_name, i.details, i.trace, i.requested_ms,
    i.delivered_ms, i.end_ms";

/// Where a page begins: before this one, in the order of the newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Before {
    /// When it was requested, in milliseconds since 1970.
    pub requested_ms: i64,
    /// Its id; for invocations the command's and the node's.
    pub id: String,
}

impl Before {
    /// Reads what [`std::fmt::Display`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (requested_ms, id) = text.split_once(' ')?;
        Some(Self {
            requested_ms: requested_ms.parse().ok()?,
            id: id.to_owned(),
        })
    }
}

impl std::fmt::Display for Before {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.requested_ms, self.id)
    }
}

/// Which commands are listed.
#[derive(Debug, Clone, Default)]
pub struct CommandFilter {
    /// This one alone.
    pub command_id: Option<String>,
    /// Those that went to this node.
    pub node_id: Option<String>,
    /// Those sent after this.
    pub after: Option<SystemTime>,
    /// Those sent before this.
    pub before: Option<SystemTime>,
    /// Those with this document.
    pub document_name: Option<String>,
}

/// Which invocations are listed.
#[derive(Debug, Clone, Default)]
pub struct InvocationFilter {
    /// Those of these commands.
    pub commands: CommandFilter,
    /// Those with this `Status` or `StatusDetails`.
    pub status: Option<String>,
}

impl Store {
    /// A command.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn command(&self, id: &CommandId) -> Result<Option<CommandRecord>, StoreError> {
        let id = id.clone();
        self.call(move |connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT {COMMAND} FROM commands c WHERE command_id = ?1"
                ))?
                .query_row([id.as_str()], read_command)
                .optional()
        })
        .await
    }

    /// Commands, the newest first; `keep` decides on each.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn commands(
        &self,
        filter: CommandFilter,
        from: Option<Before>,
        limit: usize,
        keep: impl Fn(&CommandSummary) -> bool + Send + 'static,
    ) -> Result<Page<CommandSummary>, StoreError> {
        self.call(move |connection| {
            let from = from.unwrap_or_else(newest);
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {COMMAND} FROM commands c
                 WHERE (c.requested_ms, c.command_id) < (?1, ?2) AND {CONDITIONS}
                 ORDER BY c.requested_ms DESC, c.command_id DESC"
            ))?;
            let rows = statement.query_map(
                params![
                    from.requested_ms,
                    from.id,
                    filter.command_id,
                    filter.node_id,
                    filter.after.map(to_millis),
                    filter.before.map(to_millis),
                    filter.document_name,
                ],
                read_command,
            )?;
            let mut items = Vec::new();
            for command in rows {
                let command = command?;
                let counts = counts(connection, &command.command_id)?;
                let summary = CommandSummary { command, counts };
                if keep(&summary) {
                    items.push(summary);
                }
                if items.len() > limit {
                    break;
                }
            }
            let place = |summary: &CommandSummary| Before {
                requested_ms: to_millis(summary.command.requested),
                id: summary.command.command_id.to_string(),
            };
            Ok(page(items, limit, place))
        })
        .await
    }

    /// Invocations, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn invocations(
        &self,
        filter: InvocationFilter,
        from: Option<Before>,
        limit: usize,
    ) -> Result<Page<(Invocation, CommandRecord)>, StoreError> {
        self.call(move |connection| {
            let from = from.unwrap_or_else(newest);
            let commands = filter.commands;
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {INVOCATION}, {COMMAND} FROM invocations i JOIN commands c USING (command_id)
                 WHERE (i.requested_ms, i.command_id || ' ' || i.node_id) < (?1, ?2) AND {CONDITIONS}
                     AND (?4 IS NULL OR i.node_id = ?4)
                     AND (?8 IS NULL OR i.status = ?8 OR i.details = ?8)
                 ORDER BY i.requested_ms DESC, i.command_id || ' ' || i.node_id DESC
                 LIMIT ?9"
            ))?;
            let more = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
            let rows = statement.query_map(
                params![
                    from.requested_ms,
                    from.id,
                    commands.command_id,
                    commands.node_id,
                    commands.after.map(to_millis),
                    commands.before.map(to_millis),
                    commands.document_name,
                    filter.status,
                    more,
                ],
                |row| Ok((read_invocation(row)?, read_command_at(row, 8)?)),
            )?;
            let items = rows.collect::<Result<Vec<_>, _>>()?;
            let place = |(invocation, _): &(Invocation, CommandRecord)| Before {
                requested_ms: to_millis(invocation.requested),
                id: format!("{} {}", invocation.command_id, invocation.node_id),
            };
            Ok(page(items, limit, place))
        })
        .await
    }

    /// What became of a command on a node, with its steps in the order they began.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn invocation(
        &self,
        command_id: &CommandId,
        node_id: &str,
    ) -> Result<Option<(Invocation, Vec<InvocationStep>)>, StoreError> {
        let (command_id, node_id) = (command_id.clone(), node_id.to_owned());
        self.call(move |connection| {
            let found = connection
                .prepare_cached(&format!(
                    "SELECT {INVOCATION} FROM invocations i WHERE command_id = ?1 AND node_id = ?2"
                ))?
                .query_row(params![command_id.as_str(), node_id], read_invocation)
                .optional()?;
            let Some(invocation) = found else {
                return Ok(None);
            };
            let steps = connection
                .prepare_cached(
                    "SELECT step, plugin, status, code, output, stdout, stderr, started, ended,
                         s3_bucket, s3_prefix, stream_name
                     FROM invocation_steps WHERE command_id = ?1 AND node_id = ?2
                     ORDER BY started, rowid",
                )?
                .query_map(params![command_id.as_str(), node_id], read_step)?
                .collect::<Result<_, _>>()?;
            Ok(Some((invocation, steps)))
        })
        .await
    }

    /// The commands that are not over, with their invocations that are not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_commands(
        &self,
    ) -> Result<Vec<(CommandSummary, Vec<OpenInvocation>)>, StoreError> {
        self.call(|connection| {
            let mut statement = connection.prepare(&format!(
                "SELECT {COMMAND} FROM commands c WHERE EXISTS
                     (SELECT 1 FROM invocations i WHERE i.command_id = c.command_id AND i.end_ms IS NULL)
                 ORDER BY c.requested_ms"
            ))?;
            let mut open = Vec::new();
            for command in statement.query_map([], read_command)? {
                let command = command?;
                let invocations = open_invocations(connection, &command.command_id)?;
                let counts = counts(connection, &command.command_id)?;
                open.push((CommandSummary { command, counts }, invocations));
            }
            Ok(open)
        })
        .await
    }
}

/// What both lists have in common.
const CONDITIONS: &str = "(?3 IS NULL OR c.command_id = ?3)
    AND (?4 IS NULL OR EXISTS (SELECT 1 FROM invocations n
         WHERE n.command_id = c.command_id AND n.node_id = ?4))
    AND (?5 IS NULL OR c.requested_ms > ?5)
    AND (?6 IS NULL OR c.requested_ms < ?6)
    AND (?7 IS NULL OR c.document_name = ?7)";

fn newest() -> Before {
    Before {
        requested_ms: i64::MAX,
        id: String::new(),
    }
}

fn page<T>(mut items: Vec<T>, limit: usize, place: impl Fn(&T) -> Before) -> Page<T> {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items
        .last()
        .filter(|_| more)
        .map(|last| place(last).to_string());
    Page { items, next }
}

fn counts(
    connection: &Connection,
    id: &CommandId,
) -> rusqlite::Result<Vec<(InvocationStatus, u64)>> {
    connection
        .prepare_cached(
            "SELECT details, count(*) FROM invocations WHERE command_id = ?1 GROUP BY details",
        )?
        .query_map([id.as_str()], |row| {
            Ok((status(row, 0)?, row.get::<_, u32>(1)?.into()))
        })?
        .collect()
}

fn open_invocations(
    connection: &Connection,
    id: &CommandId,
) -> rusqlite::Result<Vec<OpenInvocation>> {
    connection
        .prepare_cached(
            "SELECT command_id, node_id, details, delivered_ms FROM invocations
             WHERE command_id = ?1 AND end_ms IS NULL ORDER BY rowid",
        )?
        .query_map([id.as_str()], |row| {
            Ok(OpenInvocation {
                command_id: command_id(row, 0)?,
                node_id: row.get(1)?,
                status: status(row, 2)?,
                delivered: row.get::<_, Option<i64>>(3)?.map(from_millis),
            })
        })?
        .collect()
}

fn read_command(row: &Row<'_>) -> rusqlite::Result<CommandRecord> {
    read_command_at(row, 0)
}

fn read_command_at(row: &Row<'_>, at: usize) -> rusqlite::Result<CommandRecord> {
    let execution_ms: i64 = row.get(at + 18)?;
    Ok(CommandRecord {
        command_id: command_id(row, at)?,
        owner: row.get(at + 1)?,
        document_name: row.get(at + 2)?,
        document_version: row.get(at + 3)?,
        comment: row.get(at + 4)?,
        parameters: row.get(at + 5)?,
        node_ids: row.get(at + 6)?,
        targets: row.get(at + 7)?,
        max_concurrency: row.get(at + 8)?,
        max_errors: row.get(at + 9)?,
        s3_bucket: row.get(at + 10)?,
        s3_prefix: row.get(at + 11)?,
        s3_region: row.get(at + 12)?,
        log_group: row.get(at + 13)?,
        log_enabled: row.get(at + 14)?,
        requested: from_millis(row.get(at + 15)?),
        expires: from_millis(row.get(at + 16)?),
        timeout_seconds: row.get(at + 17)?,
        execution: Duration::from_millis(u64::try_from(execution_ms).unwrap_or(0)),
        content: row.get(at + 19)?,
        cancelled: row.get(at + 20)?,
    })
}

fn read_invocation(row: &Row<'_>) -> rusqlite::Result<Invocation> {
    Ok(Invocation {
        command_id: command_id(row, 0)?,
        node_id: row.get(1)?,
        node_name: row.get(2)?,
        status: status(row, 3)?,
        trace: row.get(4)?,
        requested: from_millis(row.get(5)?),
        delivered: row.get::<_, Option<i64>>(6)?.map(from_millis),
        end: row.get::<_, Option<i64>>(7)?.map(from_millis),
    })
}

fn read_step(row: &Row<'_>) -> rusqlite::Result<InvocationStep> {
    Ok(InvocationStep {
        step: row.get(0)?,
        plugin: row.get(1)?,
        status: row.get(2)?,
        code: row.get(3)?,
        output: row.get(4)?,
        stdout: row.get(5)?,
        stderr: row.get(6)?,
        started: row.get(7)?,
        ended: row.get(8)?,
        s3_bucket: row.get(9)?,
        s3_prefix: row.get(10)?,
        stream_name: row.get(11)?,
    })
}

fn command_id(row: &Row<'_>, column: usize) -> rusqlite::Result<CommandId> {
    let text: String = row.get(column)?;
    CommandId::new(text).map_err(|error| invalid(column, error.to_string()))
}

fn status(row: &Row<'_>, column: usize) -> rusqlite::Result<InvocationStatus> {
    let text: String = row.get(column)?;
    InvocationStatus::of_details(&text)
        .ok_or_else(|| invalid(column, format!("{text:?} is no status of an invocation")))
}

fn invalid(column: usize, detail: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, detail.into())
}
