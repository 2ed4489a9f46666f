//! What a script step is told.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use super::super::super::document::{is_folder_name, member};

/// Time a script may take unless told otherwise, as in the reference.
const DEFAULT_TIMEOUT: u64 = 3600;
/// Times that may be asked for; any other is replaced by the default, as in the reference.
const TIMEOUTS: std::ops::RangeInclusive<u64> = 5..=172_800;

/// The inputs of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inputs {
    /// The script's lines.
    pub(super) lines: Vec<String>,
    /// Where it runs; may be empty.
    pub(super) directory: String,
    /// How long it may take.
    pub(super) timeout: Duration,
    /// Variables for it.
    pub(super) environment: BTreeMap<String, String>,
    /// Name of its folder within the step's; may be empty.
    pub(super) id: String,
}

impl Inputs {
    /// Reads them; the error is the text for the reply.
    pub(super) fn read(properties: &Value) -> Result<Self, String> {
        let Some(members) = properties.as_object() else {
            return Err(invalid(properties, "inputs must be an object"));
        };
        let wrong = |text: &str| invalid(properties, text);
        let lines = member(members, "runCommand").map_or(Some(Vec::new()), lines);
        let lines = lines.ok_or_else(|| wrong("runCommand must be a list of strings"))?;
        let environment = member(members, "environment").map_or(Some(BTreeMap::new()), variables);
        let environment = environment.ok_or_else(|| {
            wrong("environment must be an object of strings with names that a variable can have")
        })?;
        let text = |name: &str| {
            text(members, name).ok_or_else(|| wrong(&format!("{name} must be a string")))
        };
        let id = text("id")?;
        Ok(Self {
            lines,
            directory: text("workingDirectory")?,
            timeout: timeout(member(members, "timeoutSeconds")),
            environment,
            // A folder elsewhere is nothing that a document may choose.
            id: if is_folder_name(&id) {
                id
            } else {
                String::new()
            },
        })
    }
}

fn invalid(properties: &Value, text: &str) -> String {
    format!("Invalid format in plugin properties {properties};\nerror {text}")
}

fn lines(value: &Value) -> Option<Vec<String>> {
    let lines = value.as_array()?.iter();
    lines.map(|line| line.as_str().map(str::to_owned)).collect()
}

fn variables(value: &Value) -> Option<BTreeMap<String, String>> {
    let is_name = |name: &str| !name.is_empty() && !name.contains(['=', '\0']);
    let variables = value.as_object()?.iter();
    variables
        .map(|(name, value)| {
            let value = value.as_str().filter(|value| !value.contains('\0'))?;
            is_name(name).then(|| (name.clone(), value.to_owned()))
        })
        .collect()
}

fn text(members: &Map<String, Value>, name: &str) -> Option<String> {
    match member(members, name) {
        None => Some(String::new()),
        Some(value) => value
            .as_str()
            .filter(|text| !text.contains('\0'))
            .map(str::to_owned),
    }
}

/// A number, or the text of one.
fn timeout(value: Option<&Value>) -> Duration {
    let seconds = value.and_then(|value| match value {
        Value::String(text) => text.trim().parse::<f64>().ok(),
        other => other.as_f64(),
    });
    let seconds = seconds.filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
    let seconds = seconds.map(|seconds| Duration::from_secs_f64(seconds.min(1e9)).as_secs());
    let seconds = seconds.filter(|seconds| TIMEOUTS.contains(seconds));
    Duration::from_secs(seconds.unwrap_or(DEFAULT_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn inputs_are_read_whatever_the_case_of_their_names() {
        let inputs = Inputs::read(&json!({
            "RunCommand": ["a", "b"], "workingdirectory": "/tmp", "timeoutSeconds": "60",
            "environment": {"A": "1"}, "unknown": 7, "id": "0.aws:runShellScript",
        }))
        .unwrap();

        assert_eq!(inputs.lines, ["a", "b"]);
        assert_eq!(inputs.directory, "/tmp");
        assert_eq!(inputs.timeout, Duration::from_secs(60));
        assert_eq!(inputs.environment["A"], "1");
        assert_eq!(inputs.id, "0.aws:runShellScript");
    }

    #[test]
    fn times_out_of_range_are_the_default() {
        for (value, seconds) in [
            (json!(null), 3600),
            (json!("5"), 5),
            (json!(5.9), 5),
            (json!(4), 3600),
            (json!(172_800), 172_800),
            (json!(172_801), 3600),
            (json!("soon"), 3600),
            (json!("NaN"), 3600),
            (json!(-1), 3600),
            (json!([]), 3600),
        ] {
            let inputs = Inputs::read(&json!({"timeoutSeconds": value})).unwrap();
            assert_eq!(inputs.timeout, Duration::from_secs(seconds), "{value}");
        }
    }

    #[test]
    fn inputs_of_wrong_types_say_which() {
        for (properties, text) in [
            (json!("ls"), "inputs must be an object"),
            (
                json!({"runCommand": "ls"}),
                "runCommand must be a list of strings",
            ),
            (
                json!({"runCommand": [["ls"]]}),
                "runCommand must be a list of strings",
            ),
            (
                json!({"workingDirectory": 1}),
                "workingDirectory must be a string",
            ),
            (
                json!({"workingDirectory": "/a\u{0}b"}),
                "workingDirectory must be a string",
            ),
            (
                json!({"environment": {"A=B": "1"}}),
                "environment must be an object of strings with names that a variable can have",
            ),
        ] {
            let error = Inputs::read(&properties).unwrap_err();
            assert!(
                error.starts_with("Invalid format in plugin properties"),
                "{error}"
            );
            assert!(error.ends_with(text), "{error}");
        }
    }

    #[test]
    fn folder_elsewhere_is_not_taken() {
        for id in ["../x", "~/x", "a/b", ".."] {
            assert_eq!(Inputs::read(&json!({"id": id})).unwrap().id, "");
        }
    }
}
