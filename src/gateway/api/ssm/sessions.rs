//! ResumeSession, TerminateSession, DescribeSessions.

use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::info;

use super::super::ApiState;
use super::super::answer::{ApiError, epoch_seconds};
use super::super::validation::{
    cursor, invalid_token, length, not_in_set, page_size, page_token, required,
};
use super::Person;
use super::start_session::TicketResult;
use crate::gateway::store::sessions::{
    Cursor, Selection, SessionFilter, SessionRecord, SessionStatus,
};
use crate::protocol::wire::SessionId;

const DESCRIBE: &str = "DescribeSessions";
/// Sessions on a page unless the caller says otherwise; the model allows 1 to 200.
const PAGE_SIZE: usize = 50;
/// Filters in one call, by the model.
const FILTERS: usize = 6;

/// Members of ResumeSession and TerminateSession.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SessionRequest {
    session_id: Option<String>,
}

/// TerminateSession's result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TerminateResult {
    session_id: String,
}

/// Hands out a new token for a session. Only its owner gets one: whoever has it reads and types.
///
/// # Errors
/// `DoesNotExistException`, `AccessDeniedException`.
pub(super) async fn resume(
    state: &ApiState,
    person: &Person,
    request: SessionRequest,
) -> Result<TicketResult, ApiError> {
    let id = session_id(request)?;
    let record = state.store.session(&id).await?;
    let record = record.ok_or_else(|| does_not_exist(id.as_str()))?;
    if record.owner != person.arn {
        let owner = &person.arn;
        return Err(ApiError::access_denied(format!(
            "User: {owner} is not authorized to perform: ssm:ResumeSession on resource: session/{id}"
        )));
    }
    let ticket = state.broker.resume_session(&id).await?;
    Ok(match ticket {
        Some(ticket) => TicketResult::new(ticket, person.arrival),
        None => TicketResult::over(id.into()),
    })
}

/// Ends a session; one that is over stays so.
///
/// # Errors
/// `DoesNotExistException`.
pub(super) async fn terminate(
    state: &ApiState,
    request: SessionRequest,
) -> Result<TerminateResult, ApiError> {
    let id = session_id(request)?;
    state.broker.terminate_session(&id).await?;
    info!(session = %id, "session terminated on request");
    Ok(TerminateResult {
        session_id: id.into(),
    })
}

fn session_id(request: SessionRequest) -> Result<SessionId, ApiError> {
    let id = required("sessionId", request.session_id)?;
    length("sessionId", &id, 1..=96)?;
    SessionId::new(id.as_str()).map_err(|_| does_not_exist(&id))
}

fn does_not_exist(id: &str) -> ApiError {
    let text = format!("Session {id} does not exist.");
    ApiError::new("DoesNotExistException", text)
}

/// DescribeSessions' members.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeRequest {
    state: Option<String>,
    max_results: Option<i64>,
    next_token: Option<String>,
    filters: Option<Vec<Filter>>,
}

#[derive(Debug, Deserialize)]
struct Filter {
    key: String,
    value: String,
}

/// DescribeSessions' result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeResult {
    sessions: Vec<Session>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Session {
    session_id: String,
    target: String,
    status: &'static str,
    start_date: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_date: Option<f64>,
    document_name: String,
    owner: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    details: String,
    output_url: OutputUrl,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_session_duration: Option<String>,
    access_type: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct OutputUrl {
    #[serde(skip_serializing_if = "String::is_empty")]
    s3_output_url: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    cloud_watch_output_url: String,
}

/// Lists sessions, newest first.
///
/// # Errors
/// `ValidationException`, `InvalidFilterKey`, `InvalidNextToken`.
pub(super) async fn describe(
    state: &ApiState,
    request: DescribeRequest,
) -> Result<DescribeResult, ApiError> {
    let selection = match required("state", request.state)?.as_str() {
        "Active" => Selection::Active,
        "History" => Selection::History,
        other => return Err(not_in_set("state", other, &["Active", "History"])),
    };
    let size = page_size(request.max_results, 1..=200, PAGE_SIZE)?;
    let mut wanted = SessionFilter::new(selection, u32::try_from(size).unwrap_or(u32::MAX));
    if let Some(text) = cursor(DESCRIBE, request.next_token.as_deref())? {
        wanted.from = Some(Cursor::parse(&text).ok_or_else(invalid_token)?);
    }
    let filters = request.filters;
    if let Some(filters) = &filters
        && !(1..=FILTERS).contains(&filters.len())
    {
        let text = format!("1 to {FILTERS} filters are allowed");
        return Err(ApiError::validation(text));
    }
    for filter in filters.into_iter().flatten() {
        if !apply(filter, &mut wanted)? {
            // Nothing was started in that way; nothing is listed.
            return Ok(DescribeResult {
                sessions: Vec::new(),
                next_token: None,
            });
        }
    }
    let page = state.store.list_sessions(wanted).await?;
    Ok(DescribeResult {
        sessions: page.items.into_iter().map(Session::from).collect(),
        next_token: page.next.map(|next| page_token(DESCRIBE, &next)),
    })
}

/// Narrows `wanted`. False if no session can meet the filter.
fn apply(filter: Filter, wanted: &mut SessionFilter) -> Result<bool, ApiError> {
    const STATUSES: [&str; 6] = [
        "Connected",
        "Connecting",
        "Disconnected",
        "Terminated",
        "Terminating",
        "Failed",
    ];
    let Filter { key, value } = filter;
    length("filters", &value, 1..=400)?;
    match key.as_str() {
        "InvokedAfter" => wanted.invoked_after = Some(time(&value)?),
        "InvokedBefore" => wanted.invoked_before = Some(time(&value)?),
        "Target" => wanted.node_id = Some(value),
        "Owner" => wanted.owner = Some(value),
        "SessionId" => wanted.session_id = Some(value),
        "Status" => {
            let status = SessionStatus::parse(&value);
            wanted.status = Some(status.ok_or_else(|| not_in_set("filters", &value, &STATUSES))?);
        }
        "AccessType" => match value.as_str() {
            "Standard" => {}
            "JustInTime" => return Ok(false),
            other => return Err(not_in_set("filters", other, &["Standard", "JustInTime"])),
        },
        _ => {
            let text = format!("The specified key {key} isn't valid.");
            return Err(ApiError::new("InvalidFilterKey", text));
        }
    }
    Ok(true)
}

fn time(text: &str) -> Result<SystemTime, ApiError> {
    let parsed = text.parse::<Timestamp>().map(SystemTime::from);
    parsed.map_err(|_| {
        ApiError::validation(format!(
            "{text:?} is not a time, write it as 2026-11-22T10:05:23Z"
        ))
    })
}

impl From<SessionRecord> for Session {
    fn from(record: SessionRecord) -> Self {
        Self {
            session_id: record.session_id.into(),
            target: record.node_id,
            status: record.status.as_str(),
            start_date: epoch_seconds(record.start),
            end_date: record.end.map(epoch_seconds),
            document_name: record.document_name,
            owner: record.owner,
            reason: record.reason,
            details: record.details,
            output_url: OutputUrl {
                s3_output_url: record.s3_output,
                cloud_watch_output_url: record.log_output,
            },
            max_session_duration: record
                .limits
                .max_duration
                .map(|max| (max.as_secs() / 60).to_string()),
            access_type: "Standard",
        }
    }
}
