//! ListCommands.

use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::super::ApiState;
use super::super::super::answer::ApiError;
use super::super::super::validation::{cursor, invalid_token, length, page_size, page_token};
use super::command_id;
use super::summary::{Command, status};
use crate::gateway::store::commands::{Before, CommandFilter};

const LIST: &str = "ListCommands";
/// Most on a page, by the model, and unless the caller says otherwise.
pub(super) const PAGE_SIZE: usize = 50;
/// Filters in one call, by the model.
const FILTERS: usize = 5;

/// Members of ListCommands.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api::ssm) struct Request {
    command_id: Option<String>,
    instance_id: Option<String>,
    max_results: Option<i64>,
    next_token: Option<String>,
    filters: Option<Vec<Filter>>,
}

/// A filter as it comes; its members are spelt in lower case.
#[derive(Debug, Deserialize)]
pub(super) struct Filter {
    key: String,
    value: String,
}

/// ListCommands' result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api::ssm) struct Commands {
    commands: Vec<Command>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

/// What both lists are asked for.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) commands: CommandFilter,
    /// `Status` or `StatusDetails`.
    pub(super) status: Option<String>,
    /// Whether they may be over, or still run.
    pub(super) is_complete: Option<bool>,
}

/// Lists commands, newest first.
///
/// # Errors
/// `InvalidCommandId`, `InvalidFilterKey`, `InvalidNextToken`, `ValidationException`.
pub(in crate::gateway::api::ssm) async fn list(
    state: &ApiState,
    request: Request,
) -> Result<Commands, ApiError> {
    let wanted = wanted(request.command_id, request.instance_id, request.filters)?;
    let size = page_size(request.max_results, 1..=50, PAGE_SIZE)?;
    let from = before(LIST, request.next_token.as_deref())?;
    let keep = move |summary: &_| {
        let (status, details) = status(summary);
        let is_complete = !matches!(status, "Pending" | "InProgress" | "Cancelling");
        let is_wanted = |wanted: &String| wanted == status || wanted == details;
        wanted.status.as_ref().is_none_or(is_wanted)
            && wanted
                .is_complete
                .is_none_or(|wanted| wanted == is_complete)
    };
    let page = state
        .store
        .commands(wanted.commands, from, size, keep)
        .await?;
    Ok(Commands {
        commands: page.items.into_iter().map(Command::from).collect(),
        next_token: page.next.map(|next| page_token(LIST, &next)),
    })
}

/// Where the page begins.
pub(super) fn before(operation: &str, token: Option<&str>) -> Result<Option<Before>, ApiError> {
    match cursor(operation, token)? {
        None => Ok(None),
        Some(text) => Before::parse(&text).map(Some).ok_or_else(invalid_token),
    }
}

/// Checks what is wanted.
pub(super) fn wanted(
    command: Option<String>,
    node_id: Option<String>,
    filters: Option<Vec<Filter>>,
) -> Result<Wanted, ApiError> {
    let command_id = match command {
        Some(id) => Some(command_id(Some(id))?.to_string()),
        None => None,
    };
    let mut wanted = Wanted {
        commands: CommandFilter {
            command_id,
            node_id,
            ..CommandFilter::default()
        },
        ..Wanted::default()
    };
    let filters = filters.unwrap_or_default();
    if filters.len() > FILTERS {
        let text = format!("{} filters are above the limit of {FILTERS}", filters.len());
        return Err(ApiError::validation(text));
    }
    for Filter { key, value } in filters {
        length("filters", &value, 1..=128)?;
        let commands = &mut wanted.commands;
        match key.as_str() {
            "InvokedAfter" => commands.after = Some(time(&value)?),
            "InvokedBefore" => commands.before = Some(time(&value)?),
            "Status" => wanted.status = Some(value),
            "DocumentName" => commands.document_name = Some(value),
            "ExecutionStage" => {
                wanted.is_complete = Some(match value.as_str() {
                    "Complete" => true,
                    "Executing" => false,
                    other => {
                        let text = format!("{other:?} is no stage: Executing and Complete are");
                        return Err(ApiError::validation(text));
                    }
                });
            }
            _ => {
                let text = format!("The specified key {key} isn't valid.");
                return Err(ApiError::new("InvalidFilterKey", text));
            }
        }
    }
    Ok(wanted)
}

fn time(text: &str) -> Result<SystemTime, ApiError> {
    let parsed = text.parse::<Timestamp>().map(SystemTime::from);
    parsed.map_err(|_| {
        ApiError::validation(format!(
            "{text:?} is not a time, write it as 2026-11-22T10:05:23Z"
        ))
    })
}
