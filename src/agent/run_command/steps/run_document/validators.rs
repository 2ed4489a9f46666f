//! The rules for the parameters of a document that a step runs, which nobody has checked before: all
//! that the reference applies, in its words.
//!
//! | rule | of |
//! |---|---|
//! | allowed pattern | any type, also values of Parameter Store |
//! | characters | strings, each item of a list, the JSON text of an object |
//! | items | lists and objects |
//! | allowed values | strings, each item of a list, the JSON text of an object; an integer and a boolean have to be the default |

use serde_json::Value;

use super::super::super::document::Parameter;
use crate::protocol::wire::session_document::{DocumentError, ParameterDefinition, as_text};

/// The integers of the reference are 32 bits wide.
const INTEGERS: std::ops::Range<f64> = -2_147_483_647.0..2_147_483_647.0;

/// What the rules say against a parameter.
pub(super) fn check(parameter: &Parameter<'_>) -> Vec<String> {
    let Parameter {
        name,
        definition,
        value,
        is_stored,
    } = parameter;
    let mut checked = vec![(
        "AllowedRegexParamValidator",
        check_pattern(name, definition, value),
    )];
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
    let objections = checked.into_iter().filter_map(|(validator, checked)| {
        let why = checked.err()?;
        Some(format!(
            "error thrown in '{validator}' while validating parameter /{name}/: {why}"
        ))
    });
    objections.collect()
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
    fn values_of_parameter_store_are_held_to_the_pattern_alone() {
        let definition =
            json!({"type": "String", "allowedValues": ["a"], "allowedPattern": "^[a-z]$"});

        assert!(objections(definition.clone(), json!("b"), true).is_empty());
        assert_eq!(objections(definition, json!("B"), true).len(), 1);
    }
}
