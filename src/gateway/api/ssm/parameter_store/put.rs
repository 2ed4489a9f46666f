//! PutParameter.

use std::sync::LazyLock;
use std::time::SystemTime;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::super::super::ApiState;
use super::super::super::answer::ApiError;
use super::super::super::validation::{length, matches, not_in_set, pattern, required};
use super::super::{Person, tags};
use super::KEY_ID;
use crate::gateway::store::activations::Tag;
use crate::gateway::store::parameters::{PARAMETER_LIMIT, Parameter, PutRefused, SECURE_STRING};
use crate::protocol::wire::session_document::ParameterDefinition;

/// Longest value of a standard parameter, in characters, as documented.
const VALUE: usize = 4096;
/// Longest name, as documented.
const NAME: usize = 1011;
/// Deepest hierarchy, as documented.
const LEVELS: usize = 15;

/// The one tier there is.
const TIER: &str = "Standard";
/// The tiers of the model.
const TIERS: [&str; 3] = [TIER, "Advanced", "Intelligent-Tiering"];

/// The types there are.
const KINDS: [&str; 3] = ["String", "StringList", SECURE_STRING];

static NAME_PATTERN: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[a-zA-Z0-9_.\-/]+$"));

/// PutParameter's members.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api::ssm) struct PutRequest {
    name: Option<String>,
    value: Option<String>,
    #[serde(rename = "Type")]
    kind: Option<String>,
    description: Option<String>,
    allowed_pattern: Option<String>,
    data_type: Option<String>,
    key_id: Option<String>,
    #[serde(default)]
    overwrite: bool,
    #[serde(default)]
    tags: Vec<Tag>,
    tier: Option<String>,
    policies: Option<String>,
}

/// PutParameter's result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api::ssm) struct Put {
    version: i64,
    tier: &'static str,
}

/// Writes a parameter, or its next version.
///
/// # Errors
/// `ParameterAlreadyExists`, `ParameterLimitExceeded`, `HierarchyTypeMismatch`,
/// `HierarchyLevelLimitExceededException`, `InvalidAllowedPatternException`,
/// `ParameterPatternMismatchException`, `InvalidKeyId`, `TooManyTagsError`, `ValidationException`.
pub(in crate::gateway::api::ssm) async fn put(
    state: &ApiState,
    person: &Person,
    request: PutRequest,
) -> Result<Put, ApiError> {
    let name = required("name", request.name)?;
    check_name(&name)?;
    let value = required("value", request.value)?;
    length("value", &value, 1..=VALUE)?;
    if let Some(description) = &request.description {
        length("description", description, 0..=1024)?;
    }
    check_tier(request.tier.as_deref(), request.policies.as_deref())?;
    tags::check_first(&request.tags)?;
    if request.overwrite && !request.tags.is_empty() {
        return Err(ApiError::validation(
            "Invalid request: tags and overwrite can't be used together. To create a parameter with \
             tags, please remove overwrite flag. To update tags for an existing parameter, please use \
             AddTagsToResource or RemoveTagsFromResource.",
        ));
    }
    let known = state.store.parameter(&name, None).await?;
    // A new version may leave the type to the one before.
    let kind = request.kind.or_else(|| known.map(|known| known.kind));
    let kind = required("type", kind)?;
    if !KINDS.contains(&kind.as_str()) {
        return Err(not_in_set("type", &kind, &KINDS));
    }
    check_key(&kind, request.key_id.as_deref())?;
    let allowed_pattern = request.allowed_pattern.unwrap_or_default();
    length("allowedPattern", &allowed_pattern, 0..=1024)?;
    check_value(&name, &value, &allowed_pattern)?;
    let value = if kind == SECURE_STRING {
        state.store.seal(&name, &value)?
    } else {
        value
    };
    let parameter = Parameter {
        version: 0,
        kind,
        value,
        description: request.description.unwrap_or_default(),
        allowed_pattern,
        data_type: request.data_type.unwrap_or_else(|| "text".into()),
        author: person.arn.clone(),
        modified: SystemTime::now(),
        name,
    };
    let written = state
        .store
        .put_parameter(parameter, request.tags, request.overwrite)
        .await?;
    let version = written.map_err(|refused| match refused {
        PutRefused::Exists => ApiError::new(
            "ParameterAlreadyExists",
            "The parameter already exists. To overwrite this value, set the overwrite option in the request to true.",
        ),
        PutRefused::OtherKind => ApiError::new(
            "HierarchyTypeMismatch",
            "The parameter exists with another type.",
        ),
        PutRefused::TooMany => {
            let text = format!("There are {PARAMETER_LIMIT} parameters already.");
            ApiError::new("ParameterLimitExceeded", text)
        }
    })?;
    Ok(Put {
        version,
        tier: TIER,
    })
}

/// Where AWS chooses the tier, it is the only one.
fn check_tier(tier: Option<&str>, policies: Option<&str>) -> Result<(), ApiError> {
    match tier {
        None | Some(TIER | "Intelligent-Tiering") => {}
        Some("Advanced") => {
            let text = "This gateway has no advanced parameters: leave out the tier.";
            return Err(ApiError::validation(text));
        }
        Some(other) => return Err(not_in_set("tier", other, &TIERS)),
    }
    match policies.map(str::trim) {
        // The ways to say that there are none.
        None | Some("" | "[]" | "[{}]") => Ok(()),
        Some(_) => Err(ApiError::validation(
            "Policies need an advanced parameter, and this gateway has none.",
        )),
    }
}

fn check_key(kind: &str, key: Option<&str>) -> Result<(), ApiError> {
    let text = match key {
        None => return Ok(()),
        Some(KEY_ID) if kind == SECURE_STRING => return Ok(()),
        Some(_) if kind != SECURE_STRING => {
            let text = format!("A parameter of type {kind} is not encrypted: leave out the key.");
            return Err(ApiError::validation(text));
        }
        Some(key) => format!("There is no key {key}: this gateway has one, {KEY_ID}."),
    };
    Err(ApiError::new("InvalidKeyId", text))
}

fn check_name(name: &str) -> Result<(), ApiError> {
    length("name", name, 1..=NAME)?;
    matches("name", name, &NAME_PATTERN)?;
    let start = name.trim_start_matches('/').to_ascii_lowercase();
    if start.starts_with("aws") || start.starts_with("ssm") {
        let text = format!(
            "Parameter name {name}: can't be prefixed with \"aws\" or \"ssm\" (case-insensitive)."
        );
        return Err(ApiError::validation(text));
    }
    if name.contains('/') && !name.starts_with('/') {
        let text = format!("Parameter name {name} must be fully qualified: begin with a slash.");
        return Err(ApiError::validation(text));
    }
    let levels = name.matches('/').count();
    if levels > LEVELS {
        let text = format!("{levels} levels are above the limit of {LEVELS}.");
        return Err(ApiError::new("HierarchyLevelLimitExceededException", text));
    }
    if name.ends_with('/') || name.contains("//") {
        let text = format!("Parameter name {name} has an empty part.");
        return Err(ApiError::validation(text));
    }
    Ok(())
}

fn check_value(name: &str, value: &str, allowed_pattern: &str) -> Result<(), ApiError> {
    let rule = ParameterDefinition {
        allowed_pattern: Some(allowed_pattern.to_owned()),
        ..ParameterDefinition::default()
    };
    rule.check_pattern(name)
        .map_err(|error| ApiError::new("InvalidAllowedPatternException", error.to_string()))?;
    rule.check(name, &value.into()).map_err(|_| {
        let text = format!(
            "Parameter value, cannot be validated against allowedPattern: {allowed_pattern}"
        );
        ApiError::new("ParameterPatternMismatchException", text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_aws() {
        for name in ["a", "/a/b", "a.b-c_d", "/x"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        let deep = "/a".repeat(LEVELS + 1);
        for name in [
            "", "a b", "a/b", "/a/", "/a//b", "aws-x", "/SSM/x", &deep, "a:1",
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn values_must_match_their_pattern() {
        assert!(check_value("p", "12", "^[0-9]+$").is_ok());
        assert!(check_value("p", "anything", "").is_ok());
        let wrong = check_value("p", "x", "^[0-9]+$").unwrap_err();
        assert_eq!(wrong.code(), "ParameterPatternMismatchException");
        let unusable = check_value("p", "x", "(").unwrap_err();
        assert_eq!(unusable.code(), "InvalidAllowedPatternException");
    }
}
