//! A declared parameter and the rules for its value.
//!
//! The reference looks at `allowedPattern` alone; here every rule counts. The rules are applied to
//! strings, to each string of a list, and to the JSON text of anything else.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::member::parse_flag;
use super::template::as_text;
use super::{DocumentError, null_as_default};

/// One declared parameter.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ParameterDefinition {
    /// `String`, `StringList`, `Boolean`, `Integer`, `StringMap` …
    #[serde(rename = "type", deserialize_with = "null_as_default")]
    pub kind: String,
    /// For people.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub description: String,
    /// Value when none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// Regular expression that every string of the value must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_pattern: Option<String>,
    /// The only values allowed.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub allowed_values: Vec<Value>,
    /// Shortest string.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub min_chars: Option<u64>,
    /// Longest string.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub max_chars: Option<u64>,
    /// Fewest items of a list.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub min_items: Option<u64>,
    /// Most items of a list.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub max_items: Option<u64>,
}

impl ParameterDefinition {
    /// Checks `value` against type, pattern, allowed values and sizes.
    ///
    /// # Errors
    /// [`DocumentError::NotAllowed`] or [`DocumentError::Pattern`].
    pub fn check(&self, name: &str, value: &Value) -> Result<(), DocumentError> {
        let not_allowed = |detail: String| DocumentError::NotAllowed {
            name: name.to_owned(),
            detail,
        };
        self.check_type(value).map_err(not_allowed)?;
        if let Some(items) = value.as_array() {
            check_range("items", items.len(), self.min_items, self.max_items)
                .map_err(not_allowed)?;
        }
        let pattern = self.pattern(name)?;
        for item in items_of(value) {
            let text = as_text(item);
            if item.is_string() {
                let length = text.chars().count();
                check_range("characters", length, self.min_chars, self.max_chars)
                    .map_err(not_allowed)?;
            }
            self.check_allowed(item).map_err(not_allowed)?;
            if let Some((written, pattern)) = &pattern
                && !pattern.is_match(&text)
            {
                return Err(not_allowed(format!("{text:?} does not match {written}")));
            }
        }
        Ok(())
    }

    /// Checks that the allowed pattern is one, whatever the value will be.
    ///
    /// # Errors
    /// [`DocumentError::Pattern`].
    pub fn check_pattern(&self, name: &str) -> Result<(), DocumentError> {
        self.pattern(name).map(drop)
    }

    /// The pattern as it is written and as it is applied.
    fn pattern(&self, name: &str) -> Result<Option<(&str, regex::Regex)>, DocumentError> {
        match self.allowed_pattern.as_deref() {
            None | Some("") => Ok(None),
            Some(written) => Ok(Some((written, compile(name, written)?))),
        }
    }

    fn check_type(&self, value: &Value) -> Result<(), String> {
        let fits = match self.kind.as_str() {
            "String" => value.is_string(),
            "StringList" => value
                .as_array()
                .is_some_and(|items| items.iter().all(Value::is_string)),
            "Boolean" => value.is_boolean() || value.as_str().is_some_and(is_flag),
            "Integer" => value.is_i64() || value.as_str().is_some_and(is_integer),
            // Some ways of starting a session hand a map over as its JSON text.
            "StringMap" => value.is_object() || value.is_string(),
            "MapList" => value.is_array() || value.is_string(),
            _ => true,
        };
        if fits {
            return Ok(());
        }
        Err(format!("it must be of type {}, got {value}", self.kind))
    }

    fn check_allowed(&self, item: &Value) -> Result<(), String> {
        let text = as_text(item);
        let is_allowed = |allowed: &Value| allowed == item || as_text(allowed) == text;
        if self.allowed_values.is_empty() || self.allowed_values.iter().any(is_allowed) {
            return Ok(());
        }
        let allowed = Value::Array(self.allowed_values.clone());
        Err(format!("{item} is not one of {allowed}"))
    }
}

/// What the rules are applied to: the items of a list, or the one value.
fn items_of(value: &Value) -> &[Value] {
    value
        .as_array()
        .map_or(std::slice::from_ref(value), Vec::as_slice)
}

fn is_flag(text: &str) -> bool {
    parse_flag(text).is_some()
}

fn is_integer(text: &str) -> bool {
    text.parse::<i64>().is_ok()
}

fn check_range(unit: &str, got: usize, min: Option<u64>, max: Option<u64>) -> Result<(), String> {
    let got = u64::try_from(got).unwrap_or(u64::MAX);
    match (min, max) {
        (Some(min), _) if got < min => Err(format!("{got} {unit}, at least {min} are needed")),
        (_, Some(max)) if got > max => Err(format!("{got} {unit}, at most {max} are allowed")),
        _ => Ok(()),
    }
}

fn compile(name: &str, pattern: &str) -> Result<regex::Regex, DocumentError> {
    /// Compiled size of the largest pattern accepted; AWS's own documents stay far below.
    const PATTERN_SIZE: usize = 1 << 20;
    regex::RegexBuilder::new(&with_ascii_classes(pattern))
        .size_limit(PATTERN_SIZE)
        .build()
        .map_err(|error| DocumentError::Pattern {
            name: name.to_owned(),
            detail: error.to_string(),
        })
}

/// The pattern with `\d`, `\s`, `\w` and `\b` confined to ASCII, which is what they mean to whoever
/// writes patterns for the reference: `^\d+$` must not let a port number of Arabic digits pass.
fn with_ascii_classes(pattern: &str) -> String {
    let mut confined = String::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        if c != '\\' {
            confined.push(c);
            continue;
        }
        match characters.next() {
            Some('d') => confined.push_str("[0-9]"),
            Some('D') => confined.push_str("[^0-9]"),
            Some('s') => confined.push_str("[\\t\\n\\f\\r ]"),
            Some('S') => confined.push_str("[^\\t\\n\\f\\r ]"),
            Some('w') => confined.push_str("[0-9A-Za-z_]"),
            Some('W') => confined.push_str("[^0-9A-Za-z_]"),
            Some('b') => confined.push_str("(?-u:\\b)"),
            Some('B') => confined.push_str("(?-u:\\B)"),
            Some(other) => confined.extend(['\\', other]),
            None => confined.push('\\'),
        }
    }
    confined
}

/// A count, written as a number or as the text of one.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    use serde::de::Error;

    let value = Value::deserialize(deserializer)?;
    let count = match &value {
        Value::Null => return Ok(None),
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    let wrong = || D::Error::custom(format!("{value} is no count"));
    count.map(Some).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_must_be_of_the_declared_type() {
        for (kind, right, wrong) in [
            (
                "String",
                vec![json!("a")],
                vec![json!(["a"]), json!(1), json!(null)],
            ),
            (
                "StringList",
                vec![json!([]), json!(["a"])],
                vec![json!("a"), json!([1])],
            ),
            (
                "Boolean",
                vec![json!(true), json!("False")],
                vec![json!("yes"), json!(1)],
            ),
            (
                "Integer",
                vec![json!(-1), json!("12")],
                vec![json!(1.5), json!("x")],
            ),
            (
                "StringMap",
                vec![json!({}), json!("{}")],
                vec![json!([]), json!(1)],
            ),
        ] {
            let definition = definition(json!({"type": kind}));
            for value in right {
                assert_eq!(definition.check("p", &value), Ok(()), "{kind} {value}");
            }
            for value in wrong {
                let text = definition.check("p", &value).unwrap_err().to_string();
                let expected = format!("parameter p is not allowed: it must be of type {kind}");
                assert!(text.starts_with(&expected), "{text}");
            }
        }
    }

    #[test]
    fn every_rule_is_enforced_and_named() {
        for (rules, value, detail) in [
            (
                json!({"type": "String", "allowedPattern": "^[a-z]+$"}),
                json!("a; b"),
                r#""a; b" does not match ^[a-z]+$"#,
            ),
            (
                json!({"type": "String", "allowedValues": ["a", "b"]}),
                json!("c"),
                r#""c" is not one of ["a","b"]"#,
            ),
            (
                json!({"type": "String", "minChars": 2}),
                json!("ä"),
                "1 characters, at least 2 are needed",
            ),
            (
                json!({"type": "StringList", "maxChars": "2"}),
                json!(["ab", "abc"]),
                "3 characters, at most 2 are allowed",
            ),
            (
                json!({"type": "StringList", "minItems": 1}),
                json!([]),
                "0 items, at least 1 are needed",
            ),
            (
                json!({"type": "StringList", "maxItems": 1}),
                json!(["a", "b"]),
                "2 items, at most 1 are allowed",
            ),
            (
                json!({"type": "Integer", "allowedValues": ["1", 2]}),
                json!(3),
                r#"3 is not one of ["1",2]"#,
            ),
            (
                json!({"type": "StringMap", "allowedPattern": "^[a-z{}\":]+$"}),
                json!({"a": "1"}),
                r#""{\"a\":\"1\"}" does not match ^[a-z{}":]+$"#,
            ),
        ] {
            let error = definition(rules).check("p", &value).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("parameter p is not allowed: {detail}")
            );
        }
    }

    #[test]
    fn allowed_values_are_compared_as_text() {
        let definition = definition(json!({"type": "Integer", "allowedValues": ["1", 2]}));

        for value in [json!(1), json!("1"), json!(2), json!("2")] {
            assert_eq!(definition.check("p", &value), Ok(()), "{value}");
        }
    }

    #[test]
    fn classes_of_a_pattern_mean_ascii() {
        for (pattern, right, wrong) in [
            (r"^\d+$", "22", "\u{662}\u{662}"),
            (r"^[\w.]+$", "a_1.b", "\u{e9}"),
            (r"^\S+$", "a\u{a0}b", "a b"),
            (r"^\\d$", r"\d", "1"),
            (r"^a\b.*$", "a\u{e9}", "ab"),
        ] {
            let definition = definition(json!({"type": "String", "allowedPattern": pattern}));
            assert_eq!(definition.check("p", &json!(right)), Ok(()), "{pattern}");
            assert!(definition.check("p", &json!(wrong)).is_err(), "{pattern}");
        }
    }

    #[test]
    fn pattern_that_cannot_be_used_is_an_error_of_its_own() {
        for pattern in ["(", "((a{99}){99}){99}"] {
            let definition = definition(json!({"type": "String", "allowedPattern": pattern}));
            let error = definition.check("p", &json!("a")).unwrap_err();
            assert!(matches!(error, DocumentError::Pattern { .. }), "{error}");
        }
    }

    #[test]
    fn null_members_count_as_absent() {
        let definition = definition(json!({
            "type": "String", "description": null, "allowedValues": null, "minChars": null,
            "allowedPattern": null, "default": null,
        }));

        assert_eq!(
            definition,
            ParameterDefinition {
                kind: "String".into(),
                ..ParameterDefinition::default()
            }
        );
    }

    #[test]
    fn limit_that_is_no_count_is_refused() {
        for limit in [json!("many"), json!(-1), json!(1.5), json!([])] {
            let read: Result<ParameterDefinition, _> =
                serde_json::from_value(json!({"type": "String", "maxChars": limit}));
            assert!(read.is_err(), "{limit}");
        }
    }

    fn definition(rules: Value) -> ParameterDefinition {
        serde_json::from_value(rules).unwrap()
    }
}
