//! GetParametersByPath and DescribeParameters.

use serde::{Deserialize, Serialize};

use super::super::super::ApiState;
use super::super::super::answer::{ApiError, epoch_seconds};
use super::super::super::validation::{cursor, page_size, page_token, required};
use super::{KEY_ID, Shown, arn};
use crate::gateway::store::parameters::{Parameter, SECURE_STRING};

const BY_PATH: &str = "GetParametersByPath";
const DESCRIBE: &str = "DescribeParameters";

/// What each filters by. There are no labels.
const BY_PATH_KEYS: [&str; 2] = ["Type", "KeyId"];
const DESCRIBE_KEYS: [&str; 4] = ["Name", "Type", "KeyId", "Path"];

/// Members of GetParametersByPath and DescribeParameters.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api::ssm) struct ListRequest {
    path: Option<String>,
    #[serde(default)]
    recursive: bool,
    #[serde(default)]
    with_decryption: bool,
    max_results: Option<i64>,
    next_token: Option<String>,
    #[serde(default)]
    filters: Vec<serde_json::Value>,
    #[serde(default)]
    parameter_filters: Vec<Filter>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Filter {
    key: String,
    option: Option<String>,
    #[serde(default)]
    values: Vec<String>,
}

/// GetParametersByPath's result.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api::ssm) struct Listed<T> {
    parameters: Vec<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

/// A parameter without its value.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api::ssm) struct Described {
    name: String,
    #[serde(rename = "ARN")]
    arn: String,
    #[serde(rename = "Type")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<&'static str>,
    last_modified_date: f64,
    last_modified_user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    allowed_pattern: String,
    version: i64,
    tier: &'static str,
    data_type: String,
}

/// The parameters below a path, their next level or all.
///
/// # Errors
/// `InvalidFilterKey`, `InvalidFilterOption`, `InvalidNextToken`, `ValidationException`,
/// `InternalServerError`.
pub(in crate::gateway::api::ssm) async fn get_by_path(
    state: &ApiState,
    request: ListRequest,
) -> Result<Listed<Shown>, ApiError> {
    let path = required("path", request.path)?;
    if !path.starts_with('/') {
        let text = format!("The path {path:?} does not begin with a slash.");
        return Err(ApiError::validation(text));
    }
    for filter in &request.parameter_filters {
        check_filter(filter, &BY_PATH_KEYS)?;
    }
    let filters = request.parameter_filters;
    let folder = format!("{}/", path.trim_end_matches('/'));
    let recursive = request.recursive;
    let keep = move |parameter: &Parameter| {
        let within = parameter.name.strip_prefix(&folder);
        within.is_some_and(|rest| recursive || !rest.contains('/'))
            && filters.iter().all(|filter| accepts(filter, parameter))
    };
    let size = page_size(request.max_results, 1..=10, 10)?;
    let after = cursor(BY_PATH, request.next_token.as_deref())?;
    let page = state.store.parameters(after, size, keep).await?;
    let shown = page.items.into_iter();
    let shown = shown.map(|parameter| Shown::new(state, parameter, request.with_decryption));
    Ok(Listed {
        parameters: shown.collect::<Result<_, _>>()?,
        next_token: page.next.map(|next| page_token(BY_PATH, &next)),
    })
}

/// Lists parameters without their values.
///
/// # Errors
/// `InvalidFilterKey`, `InvalidFilterOption`, `InvalidNextToken`, `ValidationException`.
pub(in crate::gateway::api::ssm) async fn describe(
    state: &ApiState,
    request: ListRequest,
) -> Result<Listed<Described>, ApiError> {
    if !request.filters.is_empty() {
        let text = "Filters are out of date, use ParameterFilters.";
        return Err(ApiError::new("InvalidFilterKey", text));
    }
    for filter in &request.parameter_filters {
        check_filter(filter, &DESCRIBE_KEYS)?;
    }
    let filters = request.parameter_filters;
    let keep = move |parameter: &Parameter| filters.iter().all(|filter| accepts(filter, parameter));
    let size = page_size(request.max_results, 1..=50, 50)?;
    let after = cursor(DESCRIBE, request.next_token.as_deref())?;
    let page = state.store.parameters(after, size, keep).await?;
    Ok(Listed {
        parameters: page.items.into_iter().map(Described::from).collect(),
        next_token: page.next.map(|next| page_token(DESCRIBE, &next)),
    })
}

fn check_filter(filter: &Filter, keys: &[&str]) -> Result<(), ApiError> {
    let key = filter.key.as_str();
    if !keys.contains(&key) {
        let text = format!(
            "The specified key {key} isn't valid, {} are.",
            keys.join(", ")
        );
        return Err(ApiError::new("InvalidFilterKey", text));
    }
    let options: &[&str] = match key {
        "Name" => &["Equals", "BeginsWith", "Contains"],
        "Path" => &["OneLevel", "Recursive"],
        _ => &["Equals"],
    };
    match &filter.option {
        Some(option) if !options.contains(&option.as_str()) => {
            let text = format!("The filter option {option} isn't valid for {}.", filter.key);
            Err(ApiError::new("InvalidFilterOption", text))
        }
        Some(_) | None => Ok(()),
    }
}

fn accepts(filter: &Filter, parameter: &Parameter) -> bool {
    let option = filter.option.as_deref();
    let name = parameter.name.trim_start_matches('/');
    filter.values.iter().any(|value| match filter.key.as_str() {
        "Type" => parameter.kind == *value,
        "KeyId" => parameter.kind == SECURE_STRING && value == KEY_ID,
        "Path" => {
            let folder = format!("{}/", value.trim_end_matches('/'));
            let within = parameter.name.strip_prefix(&folder);
            within.is_some_and(|rest| option == Some("Recursive") || !rest.contains('/'))
        }
        _ => {
            let value = value.trim_start_matches('/');
            match option {
                Some("BeginsWith") => name.starts_with(value),
                Some("Contains") => name.contains(value),
                _ => name == value,
            }
        }
    })
}

impl From<Parameter> for Described {
    fn from(parameter: Parameter) -> Self {
        Self {
            arn: arn(&parameter.name),
            name: parameter.name,
            key_id: (parameter.kind == SECURE_STRING).then_some(KEY_ID),
            kind: parameter.kind,
            last_modified_date: epoch_seconds(parameter.modified),
            last_modified_user: parameter.author,
            description: parameter.description,
            allowed_pattern: parameter.allowed_pattern,
            version: parameter.version,
            tier: "Standard",
            data_type: parameter.data_type,
        }
    }
}
