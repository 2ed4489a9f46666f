//! The rules for the parameters of documents, as the reference applies them and in its words: the allowed
//! pattern to those of a command, whose other rules whoever sends it has checked; all of them to those of a
//! document that a step runs.
//!
//! | rule | of |
//! |---|---|
//! | allowed pattern | any type, also values of Parameter Store |
//! | characters | strings, each item of a list, the JSON text of an object |
//! | items | lists and objects |
//! | allowed values | strings, each item of a list, the JSON text of an object; an integer and a boolean have to be the default |

use serde_json::{Map, Value};

use super::document::{Document, Parameter, Refusal};
use crate::protocol::wire::session_document::{
    DocumentError, ParameterDefinition, StoredParameters, as_text,
};

/// The integers of the reference are 32 bits wide.
const INTEGERS: std::ops::Range<f64> = -2_147_483_647.0..2_147_483_647.0;

/// Why the values of a document's parameters cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Invalid {
    /// Their markers cannot be filled in.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Rules say so, each on a line.
    #[error("all errors during param validation errors: {0}")]
    Rules(String),
}

/// Checks the parameters of a command.
pub(super) fn check_command(
    document: &Document,
    given: &Map<String, Value>,
    stored: &StoredParameters,
) -> Result<(), Invalid> {
    let parameters = document.parameters(given, stored)?;
    let parameters = parameters.iter();
    // The reference sends back a command with such a parameter that has no value; the service sends none.
    let parameters = parameters.filter(|parameter| !parameter.value.is_null());
    conclude(parameters.flat_map(|parameter| objections(parameter, vec![pattern(parameter)])))
}

/// Checks the parameters of a document that a step runs.
pub(super) fn check_inner(
    document: &Document,
    given: &Map<String, Value>,
    stored: &StoredParameters,
) -> Result<(), Invalid> {
    let parameters = document.parameters(given, stored)?;
    conclude(parameters.iter().flat_map(check))
}

fn conclude(objections: impl Iterator<Item = String>) -> Result<(), Invalid> {
    let objections: Vec<String> = objections.collect();
    if objections.is_empty() {
        Ok(())
    } else {
        Err(Invalid::Rules(objections.join("\n")))
    }
}

/// The name of a rule, and what it says.
type Checked = (&'static str, Result<(), String>);

/// What all rules say against a parameter.
fn check(parameter: &Parameter<'_>) -> Vec<String> {
    let Parameter {
        name: _,
        definition,
        value,
        is_stored,
    } = parameter;
    let mut checked = vec![pattern(parameter)];
    // As in the reference, it is for Parameter Store to say what may be there.
    if !is_stored {
        checked.extend([
            (
                "MinMaxCharParamValidator",
                check_characters(definition, value),
            ),
            ("MinMaxItemParamValidator", check_items(definition, value)),
            (
                "AllowedValueParamValidator",
                check_allowed(definition, value),
            ),
        ]);
    }
    objections(parameter, checked)
}

fn objections(parameter: &Parameter<'_>, checked: Vec<Checked>) -> Vec<String> {
    let name = parameter.name;
    let objections = checked.into_iter().filter_map(|(validator, checked)| {
        let why = checked.err()?;
        Some(format!(
            "error thrown in '{validator}' while validating parameter /{name}/: {why}"
        ))
    });
    objections.collect()
}

fn pattern(parameter: &Parameter<'_>) -> Checked {
    let (name, definition) = (parameter.name, parameter.definition);
    let checked = check_pattern(name, definition, &parameter.value);
    ("AllowedRegexParamValidator", checked)
}

fn check_pattern(
    name: &str,
    definition: &ParameterDefinition,
    value: &Value,
) -> Result<(), String> {
    let Some(pattern) = definition
        .allowed_pattern
        .as_deref()
        .filter(|p| !p.is_empty())
    else {
        return Ok(());
    };
    let alone = ParameterDefinition {
        allowed_pattern: Some(pattern.to_owned()),
        ..ParameterDefinition::default()
    };
    for (item, text) in texts(definition, value)? {
        match alone.check(name, &Value::String(text)) {
            Ok(()) => {}
            Err(DocumentError::NotAllowed { .. }) => {
                let shown = shown(item);
                return Err(format!(
                    "parameter value /{shown}/ does not match the allowed pattern /{pattern}/"
                ));
            }
            Err(DocumentError::Pattern { detail, .. }) => {
                return Err(format!(
                    "encountered error while compiling allowed pattern - internal error: {detail}"
                ));
            }
            Err(other) => return Err(other.to_string()),
        }
    }
    Ok(())
}

fn check_characters(definition: &ParameterDefinition, value: &Value) -> Result<(), String> {
    let (min, max) = (definition.min_chars, definition.max_chars);
    if (min, max) == (None, None) || is_scalar(definition) {
        return Ok(());
    }
    for (_, text) in texts(definition, value)? {
        let length = text.len() as u64;
        if let Some(min) = min.filter(|min| length < *min) {
            return Err(format!(
                "parameter value /{text}/ is less than the min char limit /{min}/"
            ));
        }
        if let Some(max) = max.filter(|max| length > *max) {
            return Err(format!(
                "parameter value /{text}/ is exceeding the max chars /{max}/"
            ));
        }
    }
    Ok(())
}

fn check_items(definition: &ParameterDefinition, value: &Value) -> Result<(), String> {
    let (min, max) = (definition.min_items, definition.max_items);
    if (min, max) == (None, None) || is_scalar(definition) || definition.kind == "String" {
        return Ok(());
    }
    let count = match value {
        Value::Array(items) => items.len() as u64,
        Value::Object(members) => members.len() as u64,
        // A map as its text.
        Value::String(_) => return Ok(()),
        other => return Err(wrong_type(definition, other)),
    };
    if min.is_some_and(|min| count < min) {
        return Err(format!(
            "parameter value list length /{count}/ is less the min item count"
        ));
    }
    if let Some(max) = max.filter(|max| count > *max) {
        return Err(format!(
            "parameter value list length /{max}/ has exceeded the max item count"
        ));
    }
    Ok(())
}

fn check_allowed(definition: &ParameterDefinition, value: &Value) -> Result<(), String> {
    let default = definition.default.as_ref().unwrap_or(&Value::Null);
    match definition.kind.as_str() {
        "Integer" => return check_integer(default, value),
        "Boolean" if value.is_boolean() && value == default => return Ok(()),
        "Boolean" => {
            return Err(format!(
                "parameter value /{}/ not equal to default for Boolean",
                shown(value)
            ));
        }
        _ => {}
    }
    let allowed = &definition.allowed_values;
    if allowed.is_empty() {
        return Ok(());
    }
    for (_, text) in texts(definition, value)? {
        if !allowed.iter().any(|allowed| as_text(allowed) == text) {
            let allowed = shown(&Value::Array(allowed.clone()));
            return Err(format!(
                "parameter value /{text}/ is not in the allowed list {allowed}"
            ));
        }
    }
    Ok(())
}

fn check_integer(default: &Value, value: &Value) -> Result<(), String> {
    let shown_value = shown(value);
    let Some(number) = value.as_f64() else {
        return Err(format!(
            "could not convert /{shown_value}/ to float64 for Integer"
        ));
    };
    if !INTEGERS.contains(&number) {
        return Err(format!(
            "out-of-boundary error for parameter value /{shown_value}/ for type Integer"
        ));
    }
    if default.as_f64() != Some(number) {
        let default = shown(default);
        return Err(format!(
            "parameter value /{shown_value}/ not equal to default /{default}/ for Integer"
        ));
    }
    Ok(())
}

/// Types that have no characters and no items.
fn is_scalar(definition: &ParameterDefinition) -> bool {
    matches!(definition.kind.as_str(), "Integer" | "Boolean")
}

/// What rules about texts are applied to: the items of a list, or the one value; each as text.
fn texts<'a>(
    definition: &ParameterDefinition,
    value: &'a Value,
) -> Result<Vec<(&'a Value, String)>, String> {
    match value {
        Value::String(text) => Ok(vec![(value, text.clone())]),
        Value::Object(_) => Ok(vec![(value, value.to_string())]),
        Value::Array(items) => {
            let items = items.iter();
            Ok(items.map(|item| (item, as_text(item))).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Err(wrong_type(definition, value)),
    }
}

fn wrong_type(definition: &ParameterDefinition, value: &Value) -> String {
    let (kind, value) = (&definition.kind, shown(value));
    format!("invalid parameter type {kind} with parameter value {value}")
}

/// A value as the reference shows it: lists in brackets without commas, and so on.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(shown).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(members) => {
            let members = members.iter();
            let members: Vec<String> = members
                .map(|(name, value)| format!("{name}:{}", shown(value)))
                .collect();
            format!("map[{}]", members.join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn objections(definition: Value, value: Value, is_stored: bool) -> Vec<String> {
        let definition: ParameterDefinition = serde_json::from_value(definition).unwrap();
        check(&Parameter {
            name: "m",
            definition: &definition,
            value,
            is_stored,
        })
    }

    #[test]
    fn every_rule_is_applied_in_the_words_of_the_reference() {
        for (definition, value, validator, why) in [
            (
                json!({"type": "String", "allowedValues": ["ok", "other"]}),
                json!("bad"),
                "AllowedValueParamValidator",
                "parameter value /bad/ is not in the allowed list [ok other]",
            ),
            (
                json!({"type": "StringList", "allowedPattern": "^a"}),
                json!(["a", "b"]),
                "AllowedRegexParamValidator",
                "parameter value /b/ does not match the allowed pattern /^a/",
            ),
            (
                json!({"type": "String", "minChars": 3}),
                json!("ab"),
                "MinMaxCharParamValidator",
                "parameter value /ab/ is less than the min char limit /3/",
            ),
            (
                json!({"type": "StringList", "maxChars": "1"}),
                json!(["a", "bc"]),
                "MinMaxCharParamValidator",
                "parameter value /bc/ is exceeding the max chars /1/",
            ),
            (
                json!({"type": "StringList", "minItems": 1}),
                json!([]),
                "MinMaxItemParamValidator",
                "parameter value list length /0/ is less the min item count",
            ),
            (
                json!({"type": "StringMap", "maxItems": 1}),
                json!({"a": 1, "b": 2}),
                "MinMaxItemParamValidator",
                "parameter value list length /1/ has exceeded the max item count",
            ),
            (
                json!({"type": "Integer", "default": 1}),
                json!(2),
                "AllowedValueParamValidator",
                "parameter value /2/ not equal to default /1/ for Integer",
            ),
            (
                json!({"type": "Integer", "default": 1}),
                json!("1"),
                "AllowedValueParamValidator",
                "could not convert /1/ to float64 for Integer",
            ),
            (
                json!({"type": "Boolean", "default": true}),
                json!(false),
                "AllowedValueParamValidator",
                "parameter value /false/ not equal to default for Boolean",
            ),
            (
                json!({"type": "String", "allowedPattern": "."}),
                json!(null),
                "AllowedRegexParamValidator",
                "invalid parameter type String with parameter value <nil>",
            ),
        ] {
            let expected =
                format!("error thrown in '{validator}' while validating parameter /m/: {why}");
            assert_eq!(objections(definition, value, false), [expected]);
        }
    }

    #[test]
    fn values_that_fit_are_not_objected_to() {
        for (definition, value) in [
            (json!({"type": "String"}), json!(null)),
            (
                json!({"type": "String", "allowedValues": ["a"]}),
                json!("a"),
            ),
            (
                json!({"type": "Integer", "default": 3, "maxChars": 0}),
                json!(3),
            ),
            (json!({"type": "Boolean", "default": false}), json!(false)),
            (
                json!({"type": "StringMap", "minItems": 9, "allowedPattern": "^\\{"}),
                json!("{\"a\":1}"),
            ),
        ] {
            let found = objections(definition, value, false);
            assert_eq!(found, Vec::<String>::new());
        }
    }

    #[test]
    fn parameters_of_a_command_are_held_to_the_pattern_alone() {
        let document = Document::read(&json!({
            "schemaVersion": "2.2",
            "parameters": {
                "p": {"type": "String", "allowedPattern": "^[a-z]+$", "maxChars": 1},
                "q": {"type": "StringList", "allowedPattern": "a", "allowedValues": ["other"]},
            },
            "mainSteps": [{"action": "x", "name": "s"}],
        }))
        .unwrap();
        let check = |given: Value| {
            let given = given.as_object().unwrap();
            check_command(&document, given, &StoredParameters::default())
        };

        assert_eq!(check(json!({"p": "ab", "q": ["xa"]})), Ok(()));
        assert_eq!(check(json!({})), Ok(()));
        let invalid = check(json!({"p": "a b", "q": ["a", "b"]})).unwrap_err();
        assert_eq!(
            invalid.to_string(),
            "all errors during param validation errors: error thrown in 'AllowedRegexParamValidator' while validating parameter /p/: parameter value /a b/ does not match the allowed pattern /^[a-z]+$/\nerror thrown in 'AllowedRegexParamValidator' while validating parameter /q/: parameter value /b/ does not match the allowed pattern /a/"
        );
    }

    #[test]
    fn values_of_parameter_store_are_held_to_the_pattern_alone() {
        let definition =
            json!({"type": "String", "allowedValues": ["a"], "allowedPattern": "^[a-z]$"});

        assert!(objections(definition.clone(), json!("b"), true).is_empty());
        assert_eq!(objections(definition, json!("B"), true).len(), 1);
    }
}
