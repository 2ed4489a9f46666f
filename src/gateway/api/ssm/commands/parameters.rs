//! The parameters of a command: checked against the document, with its defaults, in the JSON types
//! that the document declares.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::super::answer::ApiError;
use super::super::super::validation::length;
use super::super::parameters::{Given, invalid};
use crate::protocol::wire::session_document::{
    DocumentError, ParameterDefinition, fill, stored_names,
};

/// How long a script step runs unless told otherwise.
const DEFAULT_TIMEOUT: u64 = 3600;
/// What a step may ask for, as agents take it.
const TIMEOUTS: std::ops::RangeInclusive<u64> = 5..=172_800;

/// The values of the parameters of `document`, defaults included.
///
/// # Errors
/// `InvalidParameters`, `ValidationException`.
pub(super) fn values(document: &Value, given: Given) -> Result<Map<String, Value>, ApiError> {
    let definitions = definitions(document)?;
    let mut values = Map::new();
    for (name, items) in given {
        length("parameters", &name, 1..=255)?;
        let definition = definitions
            .get(&name)
            .ok_or_else(|| invalid(format!("parameter {name} is not defined in the document")))?;
        values.insert(name.clone(), convert(&name, definition, items)?);
    }
    for (name, definition) in &definitions {
        match values.get(name) {
            Some(value) => {
                check(name, definition, value).map_err(|error| invalid(error.to_string()))?;
            }
            None => {
                let default = definition.default.clone();
                let default = default.ok_or_else(|| {
                    invalid(format!("parameter {name} has no value and no default"))
                })?;
                values.insert(name.clone(), default);
            }
        }
    }
    Ok(values)
}

fn definitions(document: &Value) -> Result<BTreeMap<String, ParameterDefinition>, ApiError> {
    match document.get("parameters") {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(parameters) => BTreeMap::deserialize(parameters).map_err(|error| {
            let text = format!("The parameters of the document cannot be read: {error}.");
            ApiError::new("InvalidDocument", text)
        }),
    }
}

/// Checks a value. One that the agent looks up it puts in, and checks then; the items of a list stand
/// each for itself.
fn check(name: &str, definition: &ParameterDefinition, value: &Value) -> Result<(), DocumentError> {
    if !refers(value) {
        return definition.check(name, value);
    }
    let Value::Array(items) = value else {
        return Ok(());
    };
    let number = ParameterDefinition {
        min_items: definition.min_items,
        max_items: definition.max_items,
        ..ParameterDefinition::default()
    };
    number.check(name, value)?;
    let known = items.iter().filter(|item| !refers(item)).cloned();
    let rest = ParameterDefinition {
        min_items: None,
        max_items: None,
        ..definition.clone()
    };
    rest.check(name, &Value::Array(known.collect()))
}

/// Whether the value is looked up in Parameter Store by the agent.
fn refers(value: &Value) -> bool {
    let mut names = std::collections::BTreeSet::new();
    stored_names(value, &mut names);
    !names.is_empty()
}

/// A list of strings as the type that is declared.
fn convert(
    name: &str,
    definition: &ParameterDefinition,
    items: Vec<String>,
) -> Result<Value, ApiError> {
    let kind = definition.kind.as_str();
    if kind == "StringList" {
        return Ok(items.into());
    }
    if kind == "MapList" {
        let maps = items.iter().map(|item| serde_json::from_str::<Value>(item));
        let maps: Option<Vec<Value>> = maps.map(Result::ok).collect();
        let maps = maps.filter(|maps| maps.iter().all(Value::is_object));
        return maps
            .map(Value::Array)
            .ok_or_else(|| invalid(format!("parameter {name} takes JSON objects")));
    }
    let [item] = <[String; 1]>::try_from(items)
        .map_err(|_| invalid(format!("parameter {name} takes exactly one value")))?;
    let typed = match kind {
        "Boolean" => item.to_ascii_lowercase().parse().ok().map(Value::Bool),
        "Integer" => item.parse::<i64>().ok().map(Value::from),
        "StringMap" => serde_json::from_str(&item).ok().filter(Value::is_object),
        _ => Some(Value::String(item.clone())),
    };
    typed.ok_or_else(|| invalid(format!("parameter {name} is not of type {kind}: {item:?}")))
}

/// How long the steps of `document` may take together.
pub(super) fn execution(document: &Value, values: &Map<String, Value>) -> Duration {
    let filled = fill(document, values);
    let inputs_of_steps = filled["mainSteps"].as_array().into_iter().flatten();
    let inputs_of_steps = inputs_of_steps.map(|step| &step["inputs"]);
    let plugins = filled["runtimeConfig"].as_object().into_iter().flatten();
    let sets = plugins.flat_map(|(_, plugin)| match &plugin["properties"] {
        Value::Array(sets) => sets.iter().collect::<Vec<_>>(),
        one => vec![one],
    });
    let seconds = inputs_of_steps.chain(sets).map(timeout).sum();
    Duration::from_secs(seconds)
}

fn timeout(inputs: &Value) -> u64 {
    let asked = match &inputs["timeoutSeconds"] {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_u64(),
    };
    asked
        .filter(|seconds| TIMEOUTS.contains(seconds))
        .unwrap_or(DEFAULT_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_get_their_types_and_defaults() {
        let document = json!({"parameters": {
            "commands": {"type": "StringList"}, "dir": {"type": "String", "default": ""},
            "flag": {"type": "Boolean"}, "count": {"type": "Integer"},
            "map": {"type": "StringMap"}, "maps": {"type": "MapList"},
        }});
        let given = [
            ("commands", vec!["a", "b"]),
            ("flag", vec!["True"]),
            ("count", vec!["7"]),
            ("map", vec![r#"{"a":"1"}"#]),
            ("maps", vec!["{}", "{}"]),
        ];

        let values = checked(&document, &given).unwrap();

        let expected = json!({
            "commands": ["a", "b"], "dir": "", "flag": true, "count": 7, "map": {"a": "1"}, "maps": [{}, {}],
        });
        assert_eq!(Value::Object(values), expected);
    }

    #[test]
    fn values_that_the_document_does_not_take_name_the_parameter() {
        let document = json!({"parameters": {
            "t": {"type": "String", "allowedPattern": "^[0-9]+$", "default": "1"},
            "n": {"type": "Integer", "default": 1},
            "m": {"type": "StringMap", "default": {}},
        }});
        for (given, text) in [
            (("t", vec!["x"]), "parameter t is not allowed"),
            (("t", vec!["1", "2"]), "parameter t takes exactly one value"),
            (("n", vec!["x"]), "parameter n is not of type Integer"),
            (("m", vec!["x"]), "parameter m is not of type StringMap"),
            (
                ("x", vec!["1"]),
                "parameter x is not defined in the document",
            ),
        ] {
            let error = checked(&document, &[given]).unwrap_err();
            assert_eq!(error.code(), "InvalidParameters");
            assert!(error.message().starts_with(text), "{}", error.message());
        }
        let required = json!({"parameters": {"c": {"type": "StringList"}}});
        let error = checked(&required, &[]).unwrap_err();
        assert_eq!(error.message(), "parameter c has no value and no default");
        // What the agent looks up is not here to be checked.
        assert!(checked(&document, &[("t", vec!["{{ssm:x}}"])]).is_ok());
    }

    #[test]
    fn items_beside_one_that_is_looked_up_are_checked() {
        let document = json!({"parameters": {"l": {
            "type": "StringList", "allowedPattern": "^[0-9]+$", "minItems": 2, "maxItems": 3,
        }}});

        for (items, text) in [
            (vec!["{{ssm:x}}", "1"], None),
            (vec!["{{ssm:x}}", "{{ ssm:y:2 }}"], None),
            (vec!["{{ssm:x}}", "x"], Some("does not match")),
            (vec!["{{ssm:x}}"], Some("at least 2")),
            (vec!["{{ssm:x}}", "1", "2", "3"], Some("at most 3")),
        ] {
            let outcome = checked(&document, &[("l", items.clone())]);
            match text {
                None => assert!(outcome.is_ok(), "{items:?}"),
                Some(text) => {
                    let error = outcome.unwrap_err();
                    assert!(error.message().contains(text), "{}", error.message());
                }
            }
        }
    }

    #[test]
    fn steps_take_as_long_as_they_say() {
        let old = json!({"runtimeConfig": {"aws:runShellScript": {"properties":
            [{"timeoutSeconds": "{{ executionTimeout }}"}]}}});
        let values = json!({"executionTimeout": "60"});
        let new = json!({"mainSteps": [{"inputs": {"timeoutSeconds": 10}}, {"inputs": {}}, {}]});

        let values = values.as_object().unwrap();
        assert_eq!(execution(&old, values), Duration::from_secs(60));
        assert_eq!(execution(&new, values), Duration::from_secs(10 + 2 * 3600));
    }

    fn checked(
        document: &Value,
        given: &[(&str, Vec<&str>)],
    ) -> Result<Map<String, Value>, ApiError> {
        let given = given.iter().map(|(name, items)| {
            let items = items.iter().map(|item| (*item).to_owned()).collect();
            ((*name).to_owned(), items)
        });
        values(document, given.collect())
    }
}
