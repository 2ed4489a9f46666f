//! What the step is told.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::super::super::document::{is_folder_name, member};

/// What every additional argument begins with: it becomes a variable of the scripts' environment.
const ARGUMENT_PREFIX: &str = "SSM_";

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Install,
    Uninstall,
}

impl Operation {
    /// The reference's word.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Install => "Install",
            Self::Uninstall => "Uninstall",
        }
    }
}

/// The inputs of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inputs {
    /// The package, or a document's ARN.
    pub(super) name: String,
    /// Its version; `None` for the newest.
    pub(super) version: Option<String>,
    pub(super) operation: Operation,
    /// Whether a newer version takes the place of the older one by its own update script.
    pub(super) in_place: bool,
    /// Variables for the scripts.
    pub(super) arguments: BTreeMap<String, String>,
    /// Name of the step's folder within the plugin's; may be empty.
    pub(super) id: String,
}

impl Inputs {
    /// Reads them; the error is the text for the reply.
    pub(super) fn read(properties: &Value) -> Result<Self, String> {
        let Some(members) = properties.as_object() else {
            return Err(format!(
                "invalid format in plugin properties {properties}; \nerror inputs must be an object"
            ));
        };
        let text = |name| text(properties, members, name);
        if !text("source")?.is_empty() {
            return Err(invalid("source parameter is not supported in this version"));
        }
        let name = text("name")?;
        if name.is_empty() {
            return Err(invalid("empty name field"));
        }
        let arguments = arguments(member(members, "additionalArguments"))?;
        let action = text("action")?;
        let operation = match action.as_str() {
            "Install" => Operation::Install,
            "Uninstall" => Operation::Uninstall,
            _ => return Err(format!("unsupported action: {action}")),
        };
        let version = text("version")?;
        let is_newest = version.is_empty() || version.eq_ignore_ascii_case("latest");
        let id = text("id")?;
        Ok(Self {
            name,
            version: (!is_newest).then_some(version),
            operation,
            in_place: text("installationType")? == "In-place update",
            arguments,
            id: if is_folder_name(&id) {
                id
            } else {
                String::new()
            },
        })
    }
}

fn invalid(text: &str) -> String {
    format!("invalid input: {text}")
}

fn text(properties: &Value, members: &Map<String, Value>, name: &str) -> Result<String, String> {
    match member(members, name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) if !text.contains('\0') => Ok(text.clone()),
        Some(_) => Err(format!(
            "invalid format in plugin properties {properties}; \nerror {name} must be a string"
        )),
    }
}

/// An object of strings, or one as text, which is how Run Command brings it.
fn arguments(given: Option<&Value>) -> Result<BTreeMap<String, String>, String> {
    let parsed: Value = match given {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::String(text)) if text.is_empty() => return Ok(BTreeMap::new()),
        Some(Value::String(text)) => serde_json::from_str(text).map_err(|error| {
            invalid(&format!(
                "unable to unmarshal additional arguments from input; error {error}"
            ))
        })?,
        Some(other) => other.clone(),
    };
    let arguments: BTreeMap<String, String> = serde_json::from_value(parsed).map_err(|error| {
        invalid(&format!(
            "unable to unmarshal additional arguments from input; error {error}"
        ))
    })?;
    if arguments.contains_key("") {
        return Err(invalid(
            "empty key is not allowed in additional arguments from input",
        ));
    }
    let is_name = |name: &String| name.starts_with(ARGUMENT_PREFIX) && !name.contains(['=', '\0']);
    if !arguments.keys().all(is_name) {
        return Err(invalid(
            "keys need to start with \"SSM_\" prefix in additional arguments from input",
        ));
    }
    if arguments.values().any(|value| value.contains('\0')) {
        return Err(invalid(
            "values with NUL are not allowed in additional arguments from input",
        ));
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn inputs_are_read_whatever_the_case_of_their_names() {
        let inputs = Inputs::read(&json!({
            "Name": "Nginx", "version": "1.2", "ACTION": "Install",
            "installationType": "In-place update", "repository": "alpha",
            "additionalArguments": "{\"SSM_MODE\": \"fast\"}",
        }))
        .unwrap();

        assert_eq!(
            (inputs.name.as_str(), inputs.version.as_deref()),
            ("Nginx", Some("1.2"))
        );
        assert_eq!(
            (inputs.operation, inputs.in_place),
            (Operation::Install, true)
        );
        assert_eq!(inputs.arguments["SSM_MODE"], "fast");
    }

    #[test]
    fn no_version_and_latest_are_the_newest() {
        for version in [json!(null), json!(""), json!("latest"), json!("Latest")] {
            let inputs = json!({"name": "a", "action": "Uninstall", "version": version});
            assert_eq!(Inputs::read(&inputs).unwrap().version, None);
        }
    }

    #[test]
    fn inputs_that_are_wrong_say_why() {
        let base = json!({"name": "a", "action": "Install"});
        for (name, value, text) in [
            ("name", json!(""), "invalid input: empty name field"),
            ("action", json!("Repair"), "unsupported action: Repair"),
            (
                "source",
                json!("https://a"),
                "invalid input: source parameter is not supported in this version",
            ),
            ("version", json!(1), "version must be a string"),
            (
                "additionalArguments",
                json!("{\"MODE\": \"x\"}"),
                "keys need to start with \"SSM_\" prefix in additional arguments from input",
            ),
            (
                "additionalArguments",
                json!({"": "x"}),
                "empty key is not allowed in additional arguments from input",
            ),
            (
                "additionalArguments",
                json!("{\"SSM_A\": 1}"),
                "unable to unmarshal additional arguments from input",
            ),
            (
                "additionalArguments",
                json!("["),
                "unable to unmarshal additional arguments from input",
            ),
            (
                "additionalArguments",
                json!({"SSM_A=B": "x"}),
                "keys need to start with \"SSM_\" prefix",
            ),
        ] {
            let mut inputs = base.clone();
            inputs[name] = value;
            let error = Inputs::read(&inputs).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
        assert!(Inputs::read(&json!("a")).is_err());
    }
}
