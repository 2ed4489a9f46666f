//! Session documents (schema 1.0): session type, preferences, parameters and properties.
//!
//! `{{ name }}` in `inputs` and `properties` is replaced by the parameter's value; a string that is
//! nothing but `{{ name }}` takes the value with its JSON type. One pass: values are not scanned
//! again. Unlike the reference, every limit a parameter states is enforced, and a violation is an
//! error that can be reported.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The only schema version of session documents.
pub const SCHEMA_VERSION: &str = "1.0";

/// A session document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionDocument {
    /// [`SCHEMA_VERSION`].
    #[serde(alias = "SchemaVersion")]
    pub schema_version: String,
    /// For people.
    #[serde(default, alias = "Description")]
    pub description: String,
    /// `Standard_Stream`, `InteractiveCommands`, `NonInteractiveCommands` or `Port`.
    #[serde(alias = "SessionType")]
    pub session_type: String,
    /// Session preferences.
    #[serde(default, alias = "Inputs")]
    pub inputs: Value,
    /// Declared parameters.
    #[serde(
        default,
        alias = "Parameters",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub parameters: BTreeMap<String, ParameterDefinition>,
    /// What the session type needs to know.
    #[serde(default, alias = "Properties")]
    pub properties: Value,
}

/// One declared parameter.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ParameterDefinition {
    /// `String`, `StringList`, `Boolean`, `Integer`, `StringMap` …
    #[serde(rename = "type")]
    pub kind: String,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Value when none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// Regular expression that every string of the value must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_pattern: Option<String>,
    /// The only values allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_values: Vec<Value>,
    /// Shortest string.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_chars: Option<u64>,
    /// Longest string.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_chars: Option<u64>,
    /// Fewest items of a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_items: Option<u64>,
    /// Most items of a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_items: Option<u64>,
}

/// Why a document cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Another schema.
    #[error("schema version {got:?} is not supported, session documents have \"1.0\"")]
    SchemaVersion {
        /// The version it has.
        got: String,
    },
    /// A parameter has no value and no default.
    #[error("parameter {name} has no value and no default")]
    Missing {
        /// The parameter.
        name: String,
    },
    /// A value breaks one of the parameter's rules.
    #[error("parameter {name} is not allowed: {detail}")]
    NotAllowed {
        /// The parameter.
        name: String,
        /// The rule and the value.
        detail: String,
    },
    /// A rule cannot be applied because it is broken itself.
    #[error("parameter {name} has an unusable allowedPattern: {detail}")]
    Pattern {
        /// The parameter.
        name: String,
        /// What is wrong with the pattern.
        detail: String,
    },
}

/// Session preferences, the `inputs` that the agent obeys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Preferences {
    /// KMS key for channel encryption; empty for none.
    pub kms_key_id: String,
    /// Text typed into the shell at its start.
    pub shell_profile: ShellProfile,
}

/// `shellProfile`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ShellProfile {
    /// For Linux hosts.
    pub linux: String,
}

impl SessionDocument {
    /// Checks the schema, takes defaults, checks every value against its definition, and
    /// substitutes. The result has the same shape with no parameters left.
    ///
    /// # Errors
    /// [`DocumentError`].
    pub fn resolve(&self, values: &Map<String, Value>) -> Result<Self, DocumentError> {
        if self.schema_version != SCHEMA_VERSION {
            return Err(DocumentError::SchemaVersion {
                got: self.schema_version.clone(),
            });
        }
        let mut resolved = Map::new();
        for (name, definition) in &self.parameters {
            if !is_parameter_name(name) {
                continue;
            }
            let value = values
                .get(name)
                .or(definition.default.as_ref())
                .ok_or_else(|| DocumentError::Missing { name: name.clone() })?;
            definition.check(name, value)?;
            resolved.insert(name.clone(), value.clone());
        }
        Ok(Self {
            inputs: substitute(&self.inputs, &resolved),
            properties: substitute(&self.properties, &resolved),
            parameters: BTreeMap::new(),
            ..self.clone()
        })
    }

    /// The preferences in `inputs`; members of the wrong type count as not given.
    pub fn preferences(&self) -> Preferences {
        let text = |pointer: &str| {
            let value = self.inputs.pointer(pointer).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        Preferences {
            kms_key_id: text("/kmsKeyId"),
            shell_profile: ShellProfile {
                linux: text("/shellProfile/linux"),
            },
        }
    }
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
        let fits_type = match self.kind.as_str() {
            "String" => value.is_string(),
            "StringList" => value
                .as_array()
                .is_some_and(|items| items.iter().all(Value::is_string)),
            "Boolean" => value.is_boolean() || matches!(value.as_str(), Some("true" | "false")),
            "Integer" => value.is_i64() || value.as_str().is_some_and(|s| s.parse::<i64>().is_ok()),
            "StringMap" | "MapList" => value.is_object() || value.is_array(),
            _ => true,
        };
        if !fits_type {
            return Err(not_allowed(format!(
                "it must be of type {}, got {value}",
                self.kind
            )));
        }
        if !self.allowed_values.is_empty() {
            let items = value
                .as_array()
                .map_or(std::slice::from_ref(value), Vec::as_slice);
            if let Some(item) = items
                .iter()
                .find(|item| !self.allowed_values.contains(item))
            {
                let allowed = Value::Array(self.allowed_values.clone());
                return Err(not_allowed(format!("{item} is not one of {allowed}")));
            }
        }
        if let Some(items) = value.as_array() {
            check_range("items", items.len(), self.min_items, self.max_items)
                .map_err(not_allowed)?;
        }
        let pattern = match self.allowed_pattern.as_deref() {
            None | Some("") => None,
            Some(pattern) => Some(compile(name, pattern)?),
        };
        for text in strings_of(value) {
            check_range(
                "characters",
                text.chars().count(),
                self.min_chars,
                self.max_chars,
            )
            .map_err(not_allowed)?;
            if let Some(pattern) = pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
                return Err(not_allowed(format!("{text:?} does not match {pattern}")));
            }
        }
        Ok(())
    }
}

fn compile(name: &str, pattern: &str) -> Result<regex::Regex, DocumentError> {
    /// Compiled size of the largest pattern accepted; AWS's own documents stay far below.
    const PATTERN_SIZE: usize = 1 << 20;
    regex::RegexBuilder::new(pattern)
        .size_limit(PATTERN_SIZE)
        .build()
        .map_err(|error| DocumentError::Pattern {
            name: name.to_owned(),
            detail: error.to_string(),
        })
}

fn check_range(unit: &str, got: usize, min: Option<u64>, max: Option<u64>) -> Result<(), String> {
    let got = u64::try_from(got).unwrap_or(u64::MAX);
    match (min, max) {
        (Some(min), _) if got < min => Err(format!("{got} {unit}, at least {min} are needed")),
        (_, Some(max)) if got > max => Err(format!("{got} {unit}, at most {max} are allowed")),
        _ => Ok(()),
    }
}

fn strings_of(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    }
}

fn is_parameter_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric())
}

fn substitute(value: &Value, parameters: &Map<String, Value>) -> Value {
    match value {
        Value::String(text) => substitute_text(text, parameters),
        Value::Array(items) => items
            .iter()
            .map(|item| substitute(item, parameters))
            .collect(),
        Value::Object(members) => members
            .iter()
            .map(|(key, member)| (key.clone(), substitute(member, parameters)))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn substitute_text(text: &str, parameters: &Map<String, Value>) -> Value {
    let whole = text.trim();
    if let Some(inner) = whole
        .strip_prefix("{{")
        .and_then(|rest| rest.strip_suffix("}}"))
        && let Some(value) = parameters.get(inner.trim())
    {
        return value.clone();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let replacement = after
            .split_once("}}")
            .and_then(|(name, tail)| parameters.get(name.trim()).map(|value| (value, tail)));
        match replacement {
            Some((Value::String(value), tail)) => {
                out.push_str(value);
                rest = tail;
            }
            Some((value, tail)) => {
                out.push_str(&value.to_string());
                rest = tail;
            }
            None => {
                out.push_str("{{");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    Value::String(out)
}
