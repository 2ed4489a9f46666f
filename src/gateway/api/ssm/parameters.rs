//! How parameters given to StartSession become values for its document.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::super::answer::ApiError;
use super::super::validation::length;
use crate::protocol::wire::session_document::{ParameterDefinition, SessionDocument};

/// Parameters as they come: every value is a list of strings.
pub(super) type Given = BTreeMap<String, Vec<String>>;

/// The values of `document`'s parameters: a list stays one, anything else is the only item of its
/// list. With them comes the document as its values make it.
///
/// # Errors
/// `InvalidParameters` if the document has no such parameter or does not take the value,
/// `ValidationException`.
pub(super) fn values(
    document: &SessionDocument,
    given: Given,
) -> Result<(Map<String, Value>, SessionDocument), ApiError> {
    let mut values = Map::new();
    for (name, items) in given {
        length("parameters", &name, 1..=255)?;
        for item in &items {
            length("parameters", item, 1..=65535)?;
        }
        let definition = document
            .parameters
            .get(&name)
            .ok_or_else(|| invalid(format!("parameter {name} is not defined in the document")))?;
        let value = convert(definition, items)
            .ok_or_else(|| invalid(format!("parameter {name} takes exactly one value")))?;
        values.insert(name, value);
    }
    // The agent checks the same; here the caller still gets an answer.
    let resolved = document
        .resolve(&values)
        .map_err(|error| invalid(error.to_string()))?;
    Ok((values, resolved))
}

fn convert(definition: &ParameterDefinition, items: Vec<String>) -> Option<Value> {
    if definition.kind == "StringList" {
        return Some(items.into());
    }
    let [item] = <[String; 1]>::try_from(items).ok()?;
    Some(Value::String(item))
}

/// The document does not take what it was given.
pub(super) fn invalid(text: String) -> ApiError {
    ApiError::new("InvalidParameters", text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_become_the_type_that_the_document_declares() {
        let document = document_with(json!({
            "portNumber": {"type": "String", "default": "22"},
            "hosts": {"type": "StringList", "default": []}
        }));

        let given = given(&[("portNumber", &["80"]), ("hosts", &["a", "b"])]);
        let (values, _) = values(&document, given).unwrap();

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
        let empty = values(&document, given(&[("host", &[""])])).unwrap_err();
        assert_eq!(empty.code(), "ValidationException");
    }

    #[test]
    fn every_rule_of_a_parameter_is_kept() {
        let rule = |rule: Value, item: &str| {
            let document = document_with(json!({"p": rule}));
            values(&document, given(&[("p", &[item])])).map(drop)
        };

        for (definition, good, bad) in [
            (
                json!({"type": "String", "allowedValues": ["a", "b"]}),
                "b",
                "c",
            ),
            (
                json!({"type": "String", "allowedPattern": "^[0-9]+$"}),
                "1",
                "1; reboot",
            ),
            (
                json!({"type": "String", "minChars": 2, "maxChars": 3}),
                "ab",
                "abcd",
            ),
            (
                json!({"type": "StringList", "maxItems": 1, "allowedValues": ["a"]}),
                "a",
                "b",
            ),
            (json!({"type": "Integer"}), "-7", "seven"),
            (json!({"type": "Boolean"}), "true", "yes"),
        ] {
            assert!(
                rule(definition.clone(), good).is_ok(),
                "{definition} {good}"
            );
            let error = rule(definition.clone(), bad).unwrap_err();
            assert_eq!(error.code(), "InvalidParameters", "{definition} {bad}");
        }
    }

    fn document_with(parameters: Value) -> SessionDocument {
        let mut document = json!({"schemaVersion": "1.0", "sessionType": "Standard_Stream"});
        document["parameters"] = parameters;
        serde_json::from_value(document).unwrap()
    }

    fn given(parameters: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        let owned = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
        parameters
            .iter()
            .map(|(name, items)| ((*name).to_owned(), owned(items)))
            .collect()
    }
}
