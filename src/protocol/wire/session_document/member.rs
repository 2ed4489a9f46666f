//! Members of the JSON objects in a document, taken as the reference's decoder takes them: whatever
//! the case of their names, and null as absent.

use std::time::Duration;

use serde_json::{Map, Value};

use super::DocumentError;

/// An object within a document, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Members<'a> {
    path: String,
    members: Option<&'a Map<String, Value>>,
}

impl<'a> Members<'a> {
    /// The object `value` at `path`; null is one without members.
    pub(super) fn of(path: impl Into<String>, value: &'a Value) -> Result<Self, DocumentError> {
        let path = path.into();
        let members = match value {
            Value::Null => None,
            Value::Object(members) => Some(members),
            _ => {
                return Err(DocumentError::Member {
                    path,
                    expected: "an object",
                });
            }
        };
        Ok(Self { path, members })
    }

    /// The object `name` within this one.
    pub(super) fn object(&self, name: &str) -> Result<Members<'a>, DocumentError> {
        Members::of(self.path_of(name), self.get(name).unwrap_or(&Value::Null))
    }

    /// A string; empty if absent.
    pub(super) fn text(&self, name: &str) -> Result<String, DocumentError> {
        match self.get(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(self.wrong(name, "a string")),
        }
    }

    /// A boolean that has to be one; false if absent.
    pub(super) fn flag(&self, name: &str) -> Result<bool, DocumentError> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.wrong(name, "true or false, without quotes")),
        }
    }

    /// A boolean that may be the text of one; false if absent or empty.
    pub(super) fn flag_or_text(&self, name: &str) -> Result<bool, DocumentError> {
        let flag = match self.get(name) {
            None => Some(false),
            Some(Value::Bool(flag)) => Some(*flag),
            Some(Value::String(text)) if text.is_empty() => Some(false),
            Some(Value::String(text)) => parse_flag(text),
            Some(_) => None,
        };
        flag.ok_or_else(|| self.wrong(name, "true or false"))
    }

    /// A number of minutes, at most `most`, which may be the text of one. Anything else counts as absent:
    /// it is the gateway that enforces it.
    pub(super) fn minutes(&self, name: &str, most: u64) -> Option<Duration> {
        let minutes = match self.get(name)? {
            Value::String(text) => text.trim().parse().ok(),
            Value::Number(number) => number.as_u64(),
            _ => None,
        };
        let minutes = minutes.filter(|minutes| (1..=most).contains(minutes))?;
        Some(Duration::from_secs(60 * minutes))
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        let members = self.members?;
        let named = members.get(name).or_else(|| {
            let mut members = members.iter();
            let found = members.find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value)
        });
        named.filter(|value| !value.is_null())
    }

    fn path_of(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    fn wrong(&self, name: &str, expected: &'static str) -> DocumentError {
        DocumentError::Member {
            path: self.path_of(name),
            expected,
        }
    }
}

/// The words for a boolean that the reference knows.
pub(super) fn parse_flag(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}
