//! The content of a document of type Command, as far as it can be judged without running it.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::super::super::answer::ApiError;
use super::content::invalid;
use super::refusal;
use super::schema::platforms;

/// Schema versions with a map of plugins, and with a list of steps.
const PLUGIN_VERSIONS: [&str; 2] = ["1.0", "1.2"];
const STEP_VERSIONS: [&str; 5] = ["2.0", "2.0.1", "2.0.2", "2.0.3", "2.2"];

/// Checks a content and tells the platforms it is for.
///
/// # Errors
/// `InvalidDocumentContent`, `InvalidDocumentSchemaVersion`.
pub(super) fn check(
    schema_version: &str,
    members: &Map<String, Value>,
) -> Result<Vec<String>, ApiError> {
    check_parameters(members.get("parameters"))?;
    let actions = if PLUGIN_VERSIONS.contains(&schema_version) {
        plugins(members.get("runtimeConfig"))?
    } else if STEP_VERSIONS.contains(&schema_version) {
        steps(members.get("mainSteps"))?
    } else {
        let known = [&PLUGIN_VERSIONS[..], &STEP_VERSIONS].concat();
        return Err(refusal::schema_version(schema_version, &known));
    };
    let has = |action: &str| actions.contains(action);
    Ok(
        if has("aws:runShellScript") && !has("aws:runPowerShellScript") {
            platforms(&["Linux", "MacOS"])
        } else {
            platforms(&["Windows", "Linux", "MacOS"])
        },
    )
}

fn check_parameters(parameters: Option<&Value>) -> Result<(), ApiError> {
    let parameters = match parameters {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Object(parameters)) => parameters,
        Some(_) => return Err(invalid("parameters must be an object.".into())),
    };
    for (name, definition) in parameters {
        if !definition["type"].is_string() {
            return Err(invalid(format!("Parameter {name} must have a type.")));
        }
    }
    Ok(())
}

fn plugins(config: Option<&Value>) -> Result<BTreeSet<&str>, ApiError> {
    match config {
        Some(Value::Object(plugins)) if !plugins.is_empty() => {
            Ok(plugins.keys().map(String::as_str).collect())
        }
        _ => Err(invalid(
            "runtimeConfig must name at least one plugin.".into(),
        )),
    }
}

fn steps(steps: Option<&Value>) -> Result<BTreeSet<&str>, ApiError> {
    let steps = match steps {
        Some(Value::Array(steps)) if !steps.is_empty() => steps,
        _ => return Err(invalid("mainSteps must have at least one step.".into())),
    };
    let (mut names, mut actions) = (BTreeSet::new(), BTreeSet::new());
    for step in steps {
        let (Some(action), Some(name)) = (step["action"].as_str(), step["name"].as_str()) else {
            return Err(invalid("Every step must have an action and a name.".into()));
        };
        if !names.insert(name) {
            return Err(invalid(format!("Two steps have the name {name}.")));
        }
        actions.insert(action);
    }
    Ok(actions)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn commands_are_steps_or_plugins_by_their_schema_version() {
        let step = json!({"action": "aws:runShellScript", "name": "a", "inputs": {}});
        let twice = json!([step, step]);
        for (content, outcome) in [
            (
                json!({"schemaVersion": "2.2", "mainSteps": [step]}),
                "Linux MacOS",
            ),
            (
                json!({"schemaVersion": "1.2", "runtimeConfig": {"aws:psModule": {}}}),
                "Windows Linux MacOS",
            ),
            (json!({"schemaVersion": "2.2"}), "InvalidDocumentContent"),
            (
                json!({"schemaVersion": "2.2", "mainSteps": [{}]}),
                "InvalidDocumentContent",
            ),
            (
                json!({"schemaVersion": "2.2", "mainSteps": twice}),
                "InvalidDocumentContent",
            ),
            (
                json!({"schemaVersion": "1.2", "mainSteps": [step]}),
                "InvalidDocumentContent",
            ),
            (
                json!({"schemaVersion": "0.3", "mainSteps": [step]}),
                "InvalidDocumentSchemaVersion",
            ),
            (
                json!({"schemaVersion": "2.2", "mainSteps": [step], "parameters": {"a": {}}}),
                "InvalidDocumentContent",
            ),
        ] {
            let version = content["schemaVersion"].as_str().unwrap();
            let checked = check(version, content.as_object().unwrap());
            let got = checked.map_or_else(|error| error.code().to_owned(), |p| p.join(" "));
            assert_eq!(got, outcome, "{content}");
        }
    }
}
