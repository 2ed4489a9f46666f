//! The content of a document of type Session: everything that the agent or the gateway would refuse
//! later is refused when the document is written, where its author reads it.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::super::super::answer::ApiError;
use super::super::preferences;
use super::content::invalid;
use super::find::PREFERENCES;
use super::refusal;
use crate::protocol::wire::session_document::{
    ParameterDefinition, SCHEMA_VERSION, SessionDocument,
};

const MEMBERS: [&str; 6] = [
    "schemaVersion",
    "description",
    "sessionType",
    "inputs",
    "parameters",
    "properties",
];
const SESSION_TYPES: [&str; 4] = [
    "Standard_Stream",
    "InteractiveCommands",
    "NonInteractiveCommands",
    "Port",
];
/// Types that StartSession's lists of strings can be turned into.
const PARAMETER_TYPES: [&str; 4] = ["String", "StringList", "Boolean", "Integer"];
const PLATFORMS: [&str; 3] = ["linux", "windows", "macos"];

/// Checks the content of the document `name`.
///
/// # Errors
/// `InvalidDocumentContent`, `InvalidDocumentSchemaVersion`.
pub(super) fn check(name: &str, schema_version: &str, content: &Value) -> Result<(), ApiError> {
    if schema_version != SCHEMA_VERSION {
        return Err(refusal::schema_version(schema_version, &[SCHEMA_VERSION]));
    }
    if let Some(members) = content.as_object() {
        check_names("the document", members, &MEMBERS)?;
    }
    let document: SessionDocument =
        serde_json::from_value(content.clone()).map_err(|error| invalid(format!("{error}.")))?;
    let session_type = document.session_type.as_str();
    if !SESSION_TYPES.contains(&session_type) {
        let types = SESSION_TYPES.join(", ");
        let text = format!("sessionType {session_type:?} is not one of {types}.");
        return Err(invalid(text));
    }
    if name == PREFERENCES && session_type != "Standard_Stream" {
        let text = format!("sessionType of {PREFERENCES} must be Standard_Stream.");
        return Err(invalid(text));
    }
    preferences::check(&document.inputs).map_err(invalid)?;
    for (name, definition) in &document.parameters {
        check_parameter(name, definition)?;
    }
    check_properties(session_type, &document.properties)?;
    check_references(&document)
}

fn check_names(place: &str, members: &Map<String, Value>, known: &[&str]) -> Result<(), ApiError> {
    match members.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => {
            let known = known.join(", ");
            let text = format!("{name} in {place} is not known, only {known}.");
            Err(invalid(text))
        }
        None => Ok(()),
    }
}

fn check_parameter(name: &str, definition: &ParameterDefinition) -> Result<(), ApiError> {
    let kind = definition.kind.as_str();
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric());
    if !is_name {
        let text = format!("Parameter name {name:?} must be letters and digits.");
        return Err(invalid(text));
    }
    if !PARAMETER_TYPES.contains(&kind) {
        let types = PARAMETER_TYPES.join(", ");
        let text = format!("Type {kind:?} of parameter {name} is not one of {types}.");
        return Err(invalid(text));
    }
    let is_empty = |min: Option<u64>, max: Option<u64>| matches!((min, max), (Some(min), Some(max)) if min > max);
    if is_empty(definition.min_chars, definition.max_chars)
        || is_empty(definition.min_items, definition.max_items)
    {
        let text = format!("Parameter {name} has a minimum above its maximum.");
        return Err(invalid(text));
    }
    let default = definition.default.as_ref();
    definition
        .check_pattern(name)
        .and_then(|()| default.map_or(Ok(()), |value| definition.check(name, value)))
        .map_err(|error| invalid(format!("{error}.")))
}

fn check_properties(session_type: &str, properties: &Value) -> Result<(), ApiError> {
    let members = match properties {
        Value::Object(members) => Some(members),
        Value::Null => None,
        _ => return Err(invalid("properties must be an object.".into())),
    };
    match session_type {
        "Port" => check_port(members),
        "InteractiveCommands" | "NonInteractiveCommands" => check_commands(session_type, members),
        _ => Ok(()),
    }
}

fn check_port(members: Option<&Map<String, Value>>) -> Result<(), ApiError> {
    // The reference agent and the official plugin fail on anything but strings.
    let wrong = members.and_then(|members| members.iter().find(|(_, value)| !value.is_string()));
    if let Some((name, _)) = wrong {
        return Err(invalid(format!("{name} in properties must be a string.")));
    }
    let has = |name: &str| members.is_some_and(|members| members.contains_key(name));
    if has("portNumber") || has("unixSocket") {
        return Ok(());
    }
    let text = "properties of a Port session must have portNumber or unixSocket.";
    Err(invalid(text.into()))
}

fn check_commands(
    session_type: &str,
    members: Option<&Map<String, Value>>,
) -> Result<(), ApiError> {
    let of = |platform: &&str| members.and_then(|members| members.get(*platform));
    let mut some = false;
    for (platform, properties) in PLATFORMS.iter().filter_map(|p| Some((p, of(p)?))) {
        if !properties["commands"].is_string() {
            let text = format!("commands of {platform} in properties must be a string.");
            return Err(invalid(text));
        }
        if !matches!(properties["runAsElevated"], Value::Bool(_) | Value::Null) {
            let text = format!("runAsElevated of {platform} in properties must be true or false.");
            return Err(invalid(text));
        }
        some = true;
    }
    if some {
        return Ok(());
    }
    let platforms = PLATFORMS.join(", ");
    let text = format!("properties of {session_type} must have commands for one of {platforms}.");
    Err(invalid(text))
}

/// A reference to a parameter that is not declared would reach the host as it is.
fn check_references(document: &SessionDocument) -> Result<(), ApiError> {
    let mut names = BTreeSet::new();
    for value in [&document.inputs, &document.properties] {
        references(value, &mut names);
    }
    let undeclared = names
        .into_iter()
        .find(|name| !document.parameters.contains_key(*name));
    match undeclared {
        Some(name) => {
            let text = format!("Parameter {name} is used but not defined in the document.");
            Err(invalid(text))
        }
        None => Ok(()),
    }
}

/// Collects what stands as `{{ name }}` in the strings of `value`.
fn references<'v>(value: &'v Value, names: &mut BTreeSet<&'v str>) {
    match value {
        Value::String(text) => {
            for part in text.split("{{").skip(1) {
                let name = part.split_once("}}").map(|(name, _)| name.trim());
                let is_name = |name: &&str| {
                    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric())
                };
                names.extend(name.filter(is_name));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, names)),
        Value::Object(members) => members.values().for_each(|item| references(item, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_that_sessions_can_be_started_with_are_accepted() {
        for content in [
            json!({"sessionType": "Standard_Stream"}),
            json!({"sessionType": "Standard_Stream", "inputs": {"idleSessionTimeout": "5"}}),
            json!({"sessionType": "Port", "properties": {"portNumber": "22"}}),
            json!({"sessionType": "Port", "properties": {"unixSocket": "/run/docker.sock"}}),
            json!({"sessionType": "InteractiveCommands", "parameters": {"n": {"type": "Integer", "default": 5}},
                   "properties": {"linux": {"commands": "tail -n {{ n }} {{ .Names }}", "runAsElevated": true}}}),
        ] {
            let content = with_version(content);
            assert!(check("Doc", "1.0", &content).is_ok(), "{content}");
        }
    }

    #[test]
    fn documents_that_no_session_could_use_are_refused_with_the_reason() {
        let parameter = |definition: Value| json!({"sessionType": "Standard_Stream", "parameters": {"p": definition}});
        for (content, text) in [
            (json!({"sessionType": "Dance"}), "is not one of"),
            (json!({"description": "none"}), "sessionType"),
            (
                json!({"sessionType": "Standard_Stream", "Inputs": {}}),
                "Inputs in the document",
            ),
            (
                json!({"sessionType": "Standard_Stream", "inputs": {"idleSessionTimeout": "61"}}),
                "idleSessionTimeout",
            ),
            (json!({"sessionType": "Port"}), "portNumber or unixSocket"),
            (
                json!({"sessionType": "Port", "properties": []}),
                "must be an object",
            ),
            (
                json!({"sessionType": "Port", "properties": {"portNumber": 22}}),
                "portNumber in properties must be a string",
            ),
            (
                json!({"sessionType": "InteractiveCommands"}),
                "must have commands",
            ),
            (
                json!({"sessionType": "NonInteractiveCommands", "properties": {"linux": {"commands": ["a"]}}}),
                "commands of linux",
            ),
            (
                json!({"sessionType": "InteractiveCommands",
                       "properties": {"linux": {"commands": "a", "runAsElevated": "true"}}}),
                "runAsElevated",
            ),
            (
                json!({"sessionType": "Port", "properties": {"portNumber": "{{ prot }}"}}),
                "prot is used but not defined",
            ),
            (parameter(json!({})), "Type \"\" of parameter p"),
            (parameter(json!({"type": "StringMap"})), "StringMap"),
            (
                parameter(json!({"type": "String", "allowedPattern": "("})),
                "allowedPattern",
            ),
            (
                parameter(json!({"type": "String", "allowedPattern": "^a$", "default": "b"})),
                "match",
            ),
            (
                parameter(json!({"type": "String", "minChars": 2, "maxChars": 1})),
                "minimum",
            ),
            (
                json!({"sessionType": "Standard_Stream", "parameters": {"a-b": {"type": "String"}}}),
                "letters and digits",
            ),
        ] {
            let content = with_version(content);
            let error = check("Doc", "1.0", &content).unwrap_err();
            assert_eq!(error.code(), "InvalidDocumentContent", "{content}");
            assert!(error.message().contains(text), "{}", error.message());
        }
    }

    #[test]
    fn preferences_start_a_shell_and_session_documents_have_one_schema() {
        let port = json!({"schemaVersion": "1.0", "sessionType": "Port", "properties": {"portNumber": "1"}});
        let refused = check(PREFERENCES, "1.0", &port).unwrap_err();
        assert_eq!(refused.code(), "InvalidDocumentContent");

        let newer = check("Doc", "2.2", &json!({})).unwrap_err();
        assert_eq!(newer.code(), "InvalidDocumentSchemaVersion");
    }

    fn with_version(mut content: Value) -> Value {
        content["schemaVersion"] = "1.0".into();
        content
    }
}
