//! Session documents and how parameters given to StartSession become values for one.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::answer::ApiError;
use crate::protocol::wire::session_document::{ParameterDefinition, SessionDocument};

/// Name of the document that holds the session preferences and starts a shell. It is also what
/// StartSession means without a name.
pub(super) const SHELL: &str = "SSM-SessionManagerRunShell";

/// Name of our own document that runs one program instead of a shell.
const PROGRAM: &str = "SSM-RunProgram";

/// The session document `name`.
///
/// # Errors
/// `InvalidDocument`.
pub(super) fn find(name: &str) -> Result<SessionDocument, ApiError> {
    match name {
        SHELL => return Ok(shell()),
        PROGRAM => return Ok(program()),
        _ => {}
    }
    let text = format!("Document with name {name} does not exist.");
    Err(ApiError::new("InvalidDocument", text))
}

/// The values of `document`'s parameters out of what StartSession was given, where every value is
/// a list of strings: a list stays one, anything else is the only item of its list.
///
/// # Errors
/// `InvalidParameters` if the document has no such parameter or does not take the value.
pub(super) fn values(
    document: &SessionDocument,
    given: BTreeMap<String, Vec<String>>,
) -> Result<Map<String, Value>, ApiError> {
    let mut values = Map::new();
    for (name, items) in given {
        let definition = document
            .parameters
            .get(&name)
            .ok_or_else(|| invalid(format!("parameter {name} is not defined in the document")))?;
        let value = convert(definition, items)
            .ok_or_else(|| invalid(format!("parameter {name} takes exactly one value")))?;
        values.insert(name, value);
    }
    // The agent checks the same; here the caller still gets an answer.
    document
        .resolve(&values)
        .map_err(|error| invalid(error.to_string()))?;
    Ok(values)
}

fn convert(definition: &ParameterDefinition, items: Vec<String>) -> Option<Value> {
    if definition.kind == "StringList" {
        return Some(items.into());
    }
    let [item] = <[String; 1]>::try_from(items).ok()?;
    Some(Value::String(item))
}

fn invalid(text: String) -> ApiError {
    ApiError::new("InvalidParameters", text)
}

/// The program and its arguments go to the agent as they are; no shell reads them.
fn program() -> SessionDocument {
    let command = ParameterDefinition {
        kind: "StringList".into(),
        description: "The program and its arguments".into(),
        min_items: Some(1),
        ..ParameterDefinition::default()
    };
    SessionDocument {
        description: "Document to run a program on a plain terminal".into(),
        parameters: BTreeMap::from([("command".to_owned(), command)]),
        properties: json!({"command": "{{ command }}"}),
        ..shell()
    }
}

fn shell() -> SessionDocument {
    SessionDocument {
        schema_version: "1.0".into(),
        description: "Document to hold regional settings for Session Manager".into(),
        session_type: "Standard_Stream".into(),
        inputs: json!({
            "s3BucketName": "",
            "s3KeyPrefix": "",
            "s3EncryptionEnabled": false,
            "cloudWatchLogGroupName": "",
            "cloudWatchEncryptionEnabled": false,
            "cloudWatchStreamingEnabled": false,
            "kmsKeyId": "",
            "runAsEnabled": false,
            "runAsDefaultUser": "",
            "shellProfile": {"windows": "", "linux": ""}
        }),
        parameters: BTreeMap::new(),
        properties: json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_document_is_named_in_the_error() {
        let error = find("AWS-Nothing").unwrap_err();

        assert_eq!(error.code(), "InvalidDocument");
        assert_eq!(
            error.message(),
            "Document with name AWS-Nothing does not exist."
        );
    }

    #[test]
    fn lists_become_the_type_that_the_document_declares() {
        let document = document_with(json!({
            "portNumber": {"type": "String", "default": "22"},
            "hosts": {"type": "StringList", "default": []}
        }));

        let given = given(&[("portNumber", &["80"]), ("hosts", &["a", "b"])]);
        let values = values(&document, given).unwrap();

        assert_eq!(
            Value::Object(values),
            json!({"portNumber": "80", "hosts": ["a", "b"]})
        );
    }

    #[test]
    fn values_that_the_document_does_not_take_are_refused() {
        let document = document_with(json!({
            "portNumber": {"type": "String", "allowedPattern": "^[0-9]+$", "default": "22"},
            "host": {"type": "String"}
        }));

        for (parameters, text) in [
            (given(&[("port", &["80"])]), "port is not defined"),
            (
                given(&[("host", &["a"]), ("portNumber", &["80", "81"])]),
                "exactly one",
            ),
            (
                given(&[("host", &["a"]), ("portNumber", &[])]),
                "exactly one",
            ),
            (
                given(&[("host", &["a"]), ("portNumber", &["x"])]),
                "does not match",
            ),
            (given(&[]), "host has no value"),
        ] {
            let error = values(&document, parameters).unwrap_err();
            assert_eq!(error.code(), "InvalidParameters");
            assert!(error.message().contains(text), "{}", error.message());
        }
    }

    fn document_with(parameters: Value) -> SessionDocument {
        SessionDocument {
            parameters: serde_json::from_value(parameters).unwrap(),
            ..shell()
        }
    }

    fn given(parameters: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        let owned = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
        parameters
            .iter()
            .map(|(name, items)| ((*name).to_owned(), owned(items)))
            .collect()
    }
}
