//! Command documents: schemas 1.0 and 1.2, whose plugins are members of one object, and 2.0 to 2.2,
//! whose steps are a list.
//!
//! As in the reference, members are found whatever the case of their names, null counts as absent,
//! and values of parameters are put in once and not scanned again. Unlike there, plugins of an
//! object run in the order of their names, not in a random one, and `$$` in a value stays `$$`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::state::Argument;
use crate::protocol::wire::session_document::{
    DocumentError, ParameterDefinition, StoredParameters, fill, is_parameter_name, stored_names,
};

/// Schemas whose plugins are members of `runtimeConfig`.
const RUNTIME_CONFIG_SCHEMAS: [&str; 2] = ["1.0", "1.2"];
/// Schemas whose steps are the list `mainSteps`.
const MAIN_STEPS_SCHEMAS: [&str; 5] = ["2.0", "2.0.1", "2.0.2", "2.0.3", "2.2"];
/// The schema from which steps may have preconditions.
const PRECONDITIONS_FROM: &str = "2.2";
/// Most steps of one document; the service allows fewer.
const STEP_LIMIT: usize = 1000;
/// Longest name of a step, in bytes: it becomes a folder.
const NAME_LIMIT: usize = 128;

/// A document as it came.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Document {
    schema_version: String,
    parameters: BTreeMap<String, ParameterDefinition>,
    steps: Vec<Draft>,
}

/// A step before parameters are put in.
#[derive(Debug, Clone, PartialEq)]
struct Draft {
    id: String,
    plugin: String,
    settings: Value,
    properties: Value,
    precondition: BTreeMap<String, Vec<String>>,
}

/// A step with its parameters.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    /// The name of the step, or of the plugin where the schema has no steps.
    pub(super) id: String,
    /// The plugin.
    pub(super) plugin: String,
    /// Its settings.
    pub(super) settings: Value,
    /// Its inputs.
    pub(super) properties: Value,
    /// The operators of its precondition with their arguments.
    pub(super) preconditions: BTreeMap<String, Vec<Argument>>,
}

/// A parameter and its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Parameter<'a> {
    pub(super) name: &'a str,
    pub(super) definition: &'a ParameterDefinition,
    pub(super) value: Value,
    /// Whether the value comes from Parameter Store.
    pub(super) is_stored: bool,
}

/// Why a document cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// It has another schema.
    #[error(
        "Document with schema version {0} is not supported by this version of ssm agent, please update to latest version"
    )]
    Schema(String),
    /// It has no steps.
    #[error("Unsupported schema format")]
    Empty,
    /// Something in it is not what it must be.
    #[error("{path} must be {expected}")]
    Member {
        /// What.
        path: String,
        /// What it must be.
        expected: &'static str,
    },
    /// It has too many steps.
    #[error("{got} steps are above the limit of {STEP_LIMIT}")]
    TooManySteps {
        /// How many it has.
        got: usize,
    },
    /// Two steps have one name.
    #[error("two steps have the name {0:?}")]
    NameTwice(String),
    /// Its parameters are wrong.
    #[error(transparent)]
    Parameters(#[from] DocumentError),
}

impl Document {
    /// Reads a document.
    pub(super) fn read(content: &Value) -> Result<Self, Refusal> {
        let root = object("document", content)?;
        let schema_version = text("schemaVersion", member(root, "schemaVersion"))?;
        let parameters = match member(root, "parameters") {
            None => BTreeMap::new(),
            Some(parameters) => BTreeMap::deserialize(parameters).map_err(|_| Refusal::Member {
                path: "parameters".into(),
                expected: "an object of definitions",
            })?,
        };
        let steps = if MAIN_STEPS_SCHEMAS.contains(&schema_version.as_str()) {
            main_steps(member(root, "mainSteps"))?
        } else if RUNTIME_CONFIG_SCHEMAS.contains(&schema_version.as_str()) {
            runtime_config(member(root, "runtimeConfig"))?
        } else {
            return Err(Refusal::Schema(schema_version));
        };
        check_names(&steps)?;
        Ok(Self {
            schema_version,
            parameters,
            steps,
        })
    }

    /// Its schema.
    pub(super) fn schema_version(&self) -> &str {
        &self.schema_version
    }

    /// Whether its steps may have preconditions.
    pub(super) fn has_preconditions(&self) -> bool {
        self.schema_version == PRECONDITIONS_FROM
    }

    /// The names in Parameter Store that it refers to once `given` are put in.
    pub(super) fn references(&self, given: &Map<String, Value>) -> Vec<String> {
        let values = self.with_defaults(given);
        let mut names = BTreeSet::new();
        for value in values.values() {
            stored_names(value, &mut names);
        }
        for step in &self.steps {
            for template in [&step.settings, &step.properties] {
                stored_names(&fill(template, &values), &mut names);
            }
        }
        names.into_iter().collect()
    }

    /// The steps with `given` put in, and what Parameter Store said. That these are allowed is checked
    /// before.
    pub(super) fn resolve(
        &self,
        given: &Map<String, Value>,
        stored: &StoredParameters,
    ) -> Result<Vec<Step>, Refusal> {
        let values = self.with_defaults(given);
        let put_in = |template: &Value| stored.fill(&fill(template, &values));
        let steps = self.steps.iter().map(|draft| {
            Ok(Step {
                id: draft.id.clone(),
                plugin: draft.plugin.clone(),
                settings: put_in(&draft.settings)?,
                properties: put_in(&draft.properties)?,
                preconditions: preconditions(&draft.precondition, &values),
            })
        });
        steps.collect()
    }

    /// Its parameters: the name of each, its definition, and its value with what Parameter Store said.
    pub(super) fn parameters(
        &self,
        given: &Map<String, Value>,
        stored: &StoredParameters,
    ) -> Result<Vec<Parameter<'_>>, Refusal> {
        let values = self.with_defaults(given);
        let parameters = self.parameters.iter().map(|(name, definition)| {
            let written = values.get(name).cloned().unwrap_or_default();
            let value = stored.fill(&written)?;
            Ok(Parameter {
                is_stored: value != written,
                name,
                definition,
                value,
            })
        });
        parameters.collect()
    }

    /// The values: those given under names that can be referred to, then defaults, then null.
    fn with_defaults(&self, given: &Map<String, Value>) -> Map<String, Value> {
        let given = given.iter().filter(|(name, _)| is_parameter_name(name));
        let mut values: Map<String, Value> = given
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        for (name, definition) in &self.parameters {
            let default = || definition.default.clone().unwrap_or(Value::Null);
            values.entry(name).or_insert_with(default);
        }
        values
    }
}

/// The member `name`, whatever its case; null is absent.
pub(super) fn member<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let exact = object.get(name);
    let any_case = || {
        let mut members = object.iter();
        members
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    };
    exact.or_else(any_case).filter(|value| !value.is_null())
}

fn object<'a>(path: &str, value: &'a Value) -> Result<&'a Map<String, Value>, Refusal> {
    value.as_object().ok_or_else(|| Refusal::Member {
        path: path.to_owned(),
        expected: "an object",
    })
}

/// A string; empty if absent.
fn text(path: &str, value: Option<&Value>) -> Result<String, Refusal> {
    match value {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(Refusal::Member {
            path: path.to_owned(),
            expected: "a string",
        }),
    }
}

fn main_steps(list: Option<&Value>) -> Result<Vec<Draft>, Refusal> {
    let list = match list {
        None => return Err(Refusal::Empty),
        Some(Value::Array(list)) => list,
        Some(_) => {
            return Err(Refusal::Member {
                path: "mainSteps".into(),
                expected: "a list",
            });
        }
    };
    let steps = list.iter().enumerate().map(|(index, step)| {
        let path = format!("mainSteps[{index}]");
        let step = object(&path, step)?;
        Ok(Draft {
            id: text(&format!("{path}.name"), member(step, "name"))?,
            plugin: text(&format!("{path}.action"), member(step, "action"))?,
            settings: member(step, "settings").cloned().unwrap_or_default(),
            properties: member(step, "inputs").cloned().unwrap_or_default(),
            precondition: read_precondition(&path, member(step, "precondition"))?,
        })
    });
    steps.collect()
}

fn read_precondition(
    path: &str,
    value: Option<&Value>,
) -> Result<BTreeMap<String, Vec<String>>, Refusal> {
    value.map_or(Ok(BTreeMap::new()), |value| {
        BTreeMap::deserialize(value).map_err(|_| Refusal::Member {
            path: format!("{path}.precondition"),
            expected: "an object of lists of strings",
        })
    })
}

fn runtime_config(plugins: Option<&Value>) -> Result<Vec<Draft>, Refusal> {
    let Some(plugins) = plugins else {
        return Err(Refusal::Empty);
    };
    let plugins = object("runtimeConfig", plugins)?;
    let steps = plugins.iter().map(|(name, config)| {
        let config = object(&format!("runtimeConfig.{name}"), config)?;
        Ok(Draft {
            id: name.clone(),
            plugin: name.clone(),
            settings: member(config, "settings").cloned().unwrap_or_default(),
            properties: member(config, "properties").cloned().unwrap_or_default(),
            precondition: BTreeMap::new(),
        })
    });
    steps.collect()
}

/// Names of steps become folders.
fn check_names(steps: &[Draft]) -> Result<(), Refusal> {
    if steps.is_empty() {
        return Err(Refusal::Empty);
    }
    if steps.len() > STEP_LIMIT {
        return Err(Refusal::TooManySteps { got: steps.len() });
    }
    let mut seen = BTreeSet::new();
    for (index, step) in steps.iter().enumerate() {
        for (path, name) in [("name", &step.id), ("action", &step.plugin)] {
            if !is_folder_name(name) {
                return Err(Refusal::Member {
                    path: format!("mainSteps[{index}].{path}"),
                    expected: "1 to 128 characters without slashes and control characters, not starting with a dot",
                });
            }
        }
        if !seen.insert(&step.id) {
            return Err(Refusal::NameTwice(step.id.clone()));
        }
    }
    Ok(())
}

/// Whether a folder of this name stays where it is made.
pub(super) fn is_folder_name(name: &str) -> bool {
    (1..=NAME_LIMIT).contains(&name.len())
        && !name.starts_with('.')
        && !name.chars().any(|c| c == '/' || c.is_control())
}

fn preconditions(
    written: &BTreeMap<String, Vec<String>>,
    values: &Map<String, Value>,
) -> BTreeMap<String, Vec<Argument>> {
    // Only strings count within preconditions.
    let strings: Map<String, Value> = values
        .iter()
        .filter(|(_, value)| value.is_string())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let argument = |initial: &String| {
        let resolved = fill(&Value::String(initial.clone()), &strings);
        Argument {
            initial: initial.clone(),
            resolved: resolved.as_str().unwrap_or_default().to_owned(),
        }
    };
    let operators = written.iter();
    operators
        .map(|(operator, arguments)| (operator.clone(), arguments.iter().map(argument).collect()))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_come_with_their_parameters_in_order() {
        let steps = resolve(
            &json!({
                "schemaVersion": "2.2",
                "parameters": {
                    "commands": {"type": "StringList"},
                    "where": {"type": "String", "default": "/tmp"},
                },
                "mainSteps": [
                    {"action": "aws:runShellScript", "name": "b",
                     "inputs": {"runCommand": "{{ commands }}", "workingDirectory": "{{where}}"}},
                    {"action": "aws:runShellScript", "name": "a", "inputs": {"runCommand": ["x {{ commands }}"]},
                     "precondition": {"StringEquals": ["{{ where }}", "/tmp"]}},
                ],
            }),
            &json!({"commands": ["a \"b\"", "c"]}),
        )
        .unwrap();

        assert_eq!((steps[0].id.as_str(), steps[1].id.as_str()), ("b", "a"));
        assert_eq!(
            steps[0].properties,
            json!({"runCommand": ["a \"b\"", "c"], "workingDirectory": "/tmp"})
        );
        assert_eq!(steps[1].properties["runCommand"][0], r#"x ["a \"b\"","c"]"#);
        assert_eq!(
            steps[1].preconditions["StringEquals"][0],
            Argument {
                initial: "{{ where }}".into(),
                resolved: "/tmp".into()
            }
        );
    }

    #[test]
    fn plugins_of_older_schemas_are_steps() {
        let steps = resolve(
            &json!({
                "schemaVersion": "1.2",
                "parameters": {"commands": {"type": "StringList"}},
                "runtimeConfig": {"aws:runShellScript": {"properties": [
                    {"id": "0.aws:runShellScript", "runCommand": "{{ commands }}"}]}},
            }),
            &json!({"commands": ["ls"]}),
        )
        .unwrap();

        assert_eq!(steps[0].id, "aws:runShellScript");
        assert_eq!(steps[0].properties[0]["runCommand"], json!(["ls"]));
    }

    #[test]
    fn value_is_put_in_as_it_is() {
        for nasty in [
            "'; id; '",
            "$(id)",
            "a\nb",
            "{{ other }}",
            "{{ssm:x",
            "$$HOME",
            "\u{0}",
        ] {
            let steps = resolve(
                &json!({"schemaVersion": "2.2", "mainSteps": [
                    {"action": "p", "name": "s", "inputs": {"a": "<{{ v }}>", "b": "{{v}}"}}]}),
                &json!({"v": nasty, "other": "no"}),
            )
            .unwrap();
            assert_eq!(
                steps[0].properties,
                json!({"a": format!("<{nasty}>"), "b": nasty})
            );
        }
    }

    #[test]
    fn references_to_parameter_store_are_found_and_filled_in() {
        let document = Document::read(&json!({
            "schemaVersion": "2.2",
            "parameters": {"p": {"type": "String"}},
            "mainSteps": [{"action": "x", "name": "s", "inputs": {"a": "{{ p }} {{ssm:two}}"}}],
        }))
        .unwrap();
        let given = json!({"p": "{{ ssm:one }}"});
        let given = given.as_object().unwrap();

        let names = document.references(given);
        let answers = ["one", "two"].map(|name| {
            serde_json::from_value(
                json!({"Name": name, "Type": "String", "Value": format!("<{name}>")}),
            )
            .unwrap()
        });
        let stored = StoredParameters::collect(&names, &answers).unwrap();

        assert_eq!(names, ["one", "two"]);
        let steps = document.resolve(given, &stored).unwrap();
        assert_eq!(steps[0].properties["a"], "<one> <two>");
    }

    #[test]
    fn documents_that_cannot_be_run_say_why() {
        let steps = |names: &[&str]| -> Value {
            names
                .iter()
                .map(|name| json!({"action": "x", "name": name}))
                .collect()
        };
        for (document, reason) in [
            (json!(7), "document must be an object"),
            (
                json!({"schemaVersion": "0.3"}),
                "Document with schema version 0.3 is not supported by this version of ssm agent, please update to latest version",
            ),
            (
                json!({"schemaVersion": 2.2}),
                "schemaVersion must be a string",
            ),
            (json!({"schemaVersion": "2.2"}), "Unsupported schema format"),
            (
                json!({"schemaVersion": "2.2", "mainSteps": []}),
                "Unsupported schema format",
            ),
            (json!({"schemaVersion": "1.2"}), "Unsupported schema format"),
            (
                json!({"schemaVersion": "2.2", "mainSteps": {"a": 1}}),
                "mainSteps must be a list",
            ),
            (
                json!({"schemaVersion": "2.2", "mainSteps": [1]}),
                "mainSteps[0] must be an object",
            ),
            (
                json!({"schemaVersion": "2.2", "mainSteps": [{"action": "x", "name": "a", "precondition": {"StringEquals": "a"}}]}),
                "mainSteps[0].precondition must be an object of lists of strings",
            ),
            (
                json!({"schemaVersion": "2.2", "mainSteps": steps(&["a", "a"])}),
                "two steps have the name \"a\"",
            ),
            (
                json!({"schemaVersion": "2.2", "mainSteps": steps(&[".."])}),
                "mainSteps[0].name must be 1 to 128 characters without slashes and control characters, not starting with a dot",
            ),
            (
                json!({"schemaVersion": "2.2", "parameters": [], "mainSteps": steps(&["a"])}),
                "parameters must be an object of definitions",
            ),
        ] {
            let error = Document::read(&document).unwrap_err();
            assert_eq!(error.to_string(), reason);
        }
        let many = vec!["a"; STEP_LIMIT + 1];
        let many = json!({"schemaVersion": "2.2", "mainSteps": steps(&many)});
        assert_eq!(
            Document::read(&many).unwrap_err(),
            Refusal::TooManySteps { got: 1001 }
        );
    }

    fn resolve(document: &Value, given: &Value) -> Result<Vec<Step>, Refusal> {
        let document = Document::read(document)?;
        let given = given.as_object().unwrap().clone();
        document.resolve(&given, &StoredParameters::default())
    }
}
