//! CreateActivation, DescribeActivations, DeleteActivation.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::info;
use uuid::Uuid;

use super::super::ApiState;
use super::super::answer::{ApiError, epoch_seconds};
use super::super::validation::{
    LABEL, cursor, length, matches, page_size, page_token, range, required,
};
use crate::gateway::store::activations::{Activation, NewActivation, Tag};

const DESCRIBE: &str = "DescribeActivations";
/// Activations on a page unless the caller says otherwise; the model allows 1 to 50.
const PAGE_SIZE: usize = 50;
/// AWS's default, a day.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// AWS's longest, 30 days.
const LONGEST_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// Tags of one activation, by the model.
const TAGS: usize = 1000;

/// CreateActivation's members.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreateRequest {
    description: Option<String>,
    default_instance_name: Option<String>,
    iam_role: Option<String>,
    registration_limit: Option<i64>,
    expiration_date: Option<Value>,
    tags: Option<Vec<Tag>>,
}

/// CreateActivation's result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreateResult {
    activation_id: String,
    activation_code: String,
}

/// Makes an activation; its code is told here and never again.
///
/// # Errors
/// `ValidationException`, `InvalidParameters`.
pub(super) async fn create(
    state: &ApiState,
    request: CreateRequest,
) -> Result<CreateResult, ApiError> {
    let now = SystemTime::now();
    let new = check(request, now)?;
    let issued = state.store.create_activation(new, now).await?;
    info!(activation = issued.activation_id, "activation created");
    Ok(CreateResult {
        activation_id: issued.activation_id,
        activation_code: issued.code.expose().to_owned(),
    })
}

fn check(request: CreateRequest, now: SystemTime) -> Result<NewActivation, ApiError> {
    let iam_role = required("iamRole", request.iam_role)?;
    length("iamRole", &iam_role, 0..=64)?;
    if let Some(description) = &request.description {
        length("description", description, 0..=256)?;
    }
    if let Some(name) = &request.default_instance_name {
        length("defaultInstanceName", name, 0..=256)?;
        matches("defaultInstanceName", name, &LABEL)?;
    }
    let limit = request.registration_limit.unwrap_or(1);
    range("registrationLimit", limit, 1..=1000)?;
    let tags = request.tags.unwrap_or_default();
    if tags.len() > TAGS {
        return Err(ApiError::validation(format!(
            "at most {TAGS} tags are allowed"
        )));
    }
    super::tags::check(&tags)?;
    Ok(NewActivation {
        description: request.description,
        default_instance_name: request.default_instance_name,
        iam_role,
        registration_limit: u32::try_from(limit).unwrap_or(1),
        expires: expiry(request.expiration_date.as_ref(), now)?,
        tags,
    })
}

/// Seconds since 1970 as SDKs write them, or an ISO date as people do.
fn expiry(given: Option<&Value>, now: SystemTime) -> Result<SystemTime, ApiError> {
    let time = match given {
        None | Some(Value::Null) => return Ok(now + DEFAULT_LIFETIME),
        Some(Value::Number(number)) => number
            .as_f64()
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since)),
        Some(Value::String(text)) => text.parse::<Timestamp>().ok().map(SystemTime::from),
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => None,
    };
    let time = time.ok_or_else(|| {
        ApiError::new(
            "SerializationException",
            "ExpirationDate is not a point in time",
        )
    })?;
    if time <= now || time > now + LONGEST_LIFETIME {
        return Err(ApiError::validation(
            "The expiration date must be in the future and at most 30 days away.",
        ));
    }
    Ok(time)
}

/// DescribeActivations' members.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeRequest {
    filters: Option<Vec<Filter>>,
    max_results: Option<i64>,
    next_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Filter {
    filter_key: Option<String>,
    filter_values: Option<Vec<String>>,
}

/// DescribeActivations' result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeResult {
    activation_list: Vec<Listed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    activation_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_instance_name: Option<String>,
    iam_role: String,
    registration_limit: u32,
    registrations_count: u32,
    expiration_date: f64,
    expired: bool,
    created_date: f64,
    tags: Vec<Tag>,
}

/// Lists activations, newest first, without their codes.
///
/// # Errors
/// `ValidationException`, `InvalidFilter`, `InvalidNextToken`.
pub(super) async fn describe(
    state: &ApiState,
    request: DescribeRequest,
) -> Result<DescribeResult, ApiError> {
    let wanted = request
        .filters
        .unwrap_or_default()
        .into_iter()
        .map(Wanted::parse)
        .collect::<Result<Vec<_>, _>>()?;
    let size = page_size(request.max_results, 1..=50, PAGE_SIZE)?;
    let after = cursor(DESCRIBE, request.next_token.as_deref())?;
    let keep = move |activation: &Activation| wanted.iter().all(|one| one.accepts(activation));
    let page = state.store.activations(after, size, keep).await?;
    let now = SystemTime::now();
    let items = page.items.into_iter();
    Ok(DescribeResult {
        activation_list: items
            .map(|activation| Listed::new(activation, now))
            .collect(),
        next_token: page.next.map(|next| page_token(DESCRIBE, &next)),
    })
}

/// A filter that was understood.
enum Wanted {
    Ids(Vec<String>),
    Names(Vec<String>),
    Roles(Vec<String>),
}

impl Wanted {
    fn parse(filter: Filter) -> Result<Self, ApiError> {
        let values = filter.filter_values.unwrap_or_default();
        match filter.filter_key.as_deref() {
            Some("ActivationIds") => Ok(Self::Ids(values)),
            Some("DefaultInstanceName") => Ok(Self::Names(values)),
            Some("IamRole") => Ok(Self::Roles(values)),
            Some(_) | None => Err(ApiError::new(
                "InvalidFilter",
                "The filter name isn't valid. Verify that you entered the correct name and try again.",
            )),
        }
    }

    fn accepts(&self, activation: &Activation) -> bool {
        match self {
            Self::Ids(ids) => ids.contains(&activation.activation_id),
            Self::Names(names) => {
                let name = activation.details.default_instance_name.as_ref();
                name.is_some_and(|name| names.contains(name))
            }
            Self::Roles(roles) => roles.contains(&activation.details.iam_role),
        }
    }
}

impl Listed {
    fn new(activation: Activation, now: SystemTime) -> Self {
        Self {
            expired: activation.is_expired(now),
            activation_id: activation.activation_id,
            description: activation.details.description,
            default_instance_name: activation.details.default_instance_name,
            iam_role: activation.details.iam_role,
            registration_limit: activation.details.registration_limit,
            registrations_count: activation.registrations_count,
            expiration_date: epoch_seconds(activation.details.expires),
            created_date: epoch_seconds(activation.created),
            tags: activation.details.tags,
        }
    }
}

/// DeleteActivation's members.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DeleteRequest {
    activation_id: Option<String>,
}

/// DeleteActivation's result.
#[derive(Debug, Serialize)]
pub(super) struct DeleteResult {}

/// Deletes an activation; nodes that registered with it stay.
///
/// # Errors
/// `ValidationException`, `InvalidActivationId`, `InvalidActivation`.
pub(super) async fn delete(
    state: &ApiState,
    request: DeleteRequest,
) -> Result<DeleteResult, ApiError> {
    let id = required("activationId", request.activation_id)?;
    if Uuid::parse_str(&id).is_err() {
        return Err(ApiError::new(
            "InvalidActivationId",
            "The activation ID isn't valid. Verify that you entered the correct ActivationId and try again.",
        ));
    }
    if !state.store.delete_activation(&id).await? {
        return Err(ApiError::new(
            "InvalidActivation",
            "The activation isn't valid. The activation might have been deleted.",
        ));
    }
    info!(activation = id, "activation deleted");
    Ok(DeleteResult {})
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn checked(request: Value) -> Result<NewActivation, ApiError> {
        check(serde_json::from_value(request).unwrap(), now())
    }

    #[test]
    fn activation_without_details_registers_one_node_within_a_day() {
        let new = checked(json!({"IamRole": "r"})).unwrap();

        assert_eq!(new.registration_limit, 1);
        assert_eq!(new.expires, now() + DEFAULT_LIFETIME);
    }

    #[test]
    fn expiration_is_read_as_number_and_as_text() {
        let hour = now() + Duration::from_secs(3600);

        for date in [
            json!(1_800_003_600),
            json!(1_800_003_600.0),
            json!("2027-01-15T09:00:00Z"),
        ] {
            let new = checked(json!({"IamRole": "r", "ExpirationDate": date})).unwrap();
            assert_eq!(new.expires, hour);
        }
    }

    #[test]
    fn members_outside_the_model_are_refused() {
        for (request, code) in [
            (json!({}), "ValidationException"),
            (json!({"IamRole": "x".repeat(65)}), "ValidationException"),
            (
                json!({"IamRole": "r", "RegistrationLimit": 0}),
                "ValidationException",
            ),
            (
                json!({"IamRole": "r", "RegistrationLimit": 1001}),
                "ValidationException",
            ),
            (
                json!({"IamRole": "r", "DefaultInstanceName": "a\u{7}"}),
                "ValidationException",
            ),
            (
                json!({"IamRole": "r", "Tags": [{"Key": "", "Value": ""}]}),
                "ValidationException",
            ),
            (
                json!({"IamRole": "r", "ExpirationDate": 1_800_000_000}),
                "ValidationException",
            ),
            (
                json!({"IamRole": "r", "ExpirationDate": 1e300}),
                "SerializationException",
            ),
            (
                json!({"IamRole": "r", "ExpirationDate": -1}),
                "SerializationException",
            ),
            (
                json!({"IamRole": "r", "ExpirationDate": "soon"}),
                "SerializationException",
            ),
        ] {
            assert_eq!(
                checked(request.clone()).unwrap_err().code(),
                code,
                "{request}"
            );
        }
    }
}
