//! Session documents (schema 1.0): session type, preferences, parameters and properties.
//!
//! `{{ name }}` in `inputs` and `properties` is replaced by the parameter's value, then
//! `{{ssm:name}}` by a value of Parameter Store; see `template` and `stored`. Unlike the reference,
//! every limit a parameter states is enforced, and a violation is an error that can be reported.

mod command;
mod member;
mod parameter;
mod preferences;
mod stored;
mod template;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

pub use command::CommandProperties;
pub use parameter::ParameterDefinition;
pub use preferences::{Preferences, ShellProfile};
pub use stored::{StoredParameter, StoredParameters, names as stored_names};
pub use template::{as_text, fill};

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
    #[serde(default, alias = "Description", deserialize_with = "null_as_default")]
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
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub parameters: BTreeMap<String, ParameterDefinition>,
    /// What the session type needs to know.
    #[serde(default, alias = "Properties")]
    pub properties: Value,
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
    /// Something in the document has another JSON type than it must have.
    #[error("{path} must be {expected}")]
    Member {
        /// Where it stands.
        path: String,
        /// The type.
        expected: &'static str,
    },
    /// Parameter Store does not have what the document refers to.
    #[error("Input contains invalid parameters [{names}]")]
    NotStored {
        /// What it does not have.
        names: String,
    },
    /// The document refers to secrets.
    #[error("Parameters [{names}] of type SecureString are not supported")]
    Secure {
        /// The secrets.
        names: String,
    },
    /// A list of Parameter Store stands where only text can.
    #[error("Parameter {name} of type StringList cannot be used as a String")]
    ListAsText {
        /// The list.
        name: String,
    },
}

impl SessionDocument {
    /// Checks the schema, takes defaults, checks every value against its definition, and
    /// substitutes. The result has the same shape with no parameters left; references to Parameter
    /// Store stay as they are.
    ///
    /// # Errors
    /// [`DocumentError`].
    pub fn resolve(&self, values: &Map<String, Value>) -> Result<Self, DocumentError> {
        self.resolve_with(values, &StoredParameters::default())
    }

    /// Does the same and replaces references to Parameter Store, also those in the values: a rule
    /// applies to what a reference stands for.
    ///
    /// # Errors
    /// [`DocumentError`].
    pub fn resolve_with(
        &self,
        values: &Map<String, Value>,
        stored: &StoredParameters,
    ) -> Result<Self, DocumentError> {
        if self.schema_version != SCHEMA_VERSION {
            return Err(DocumentError::SchemaVersion {
                got: self.schema_version.clone(),
            });
        }
        let values = self.with_defaults(values)?;
        for (name, definition) in &self.parameters {
            if let Some(value) = values.get(name) {
                definition.check(name, &stored.fill(value)?)?;
            }
        }
        Ok(Self {
            inputs: stored.fill(&fill(&self.inputs, &values))?,
            properties: stored.fill(&fill(&self.properties, &values))?,
            parameters: BTreeMap::new(),
            ..self.clone()
        })
    }

    /// The names in Parameter Store that the document refers to once `values` are put in.
    ///
    /// # Errors
    /// [`DocumentError::Missing`].
    pub fn references(&self, values: &Map<String, Value>) -> Result<Vec<String>, DocumentError> {
        let values = self.with_defaults(values)?;
        let mut names = BTreeSet::new();
        for value in values.values() {
            stored::names(value, &mut names);
        }
        for template in [&self.inputs, &self.properties] {
            stored::names(&fill(template, &values), &mut names);
        }
        Ok(names.into_iter().collect())
    }

    /// The values for the document's parameters: those given, else the defaults. Parameters whose
    /// names nothing can refer to are left out.
    fn with_defaults(
        &self,
        given: &Map<String, Value>,
    ) -> Result<Map<String, Value>, DocumentError> {
        let declared = self
            .parameters
            .iter()
            .filter(|(name, _)| is_parameter_name(name));
        declared
            .map(|(name, definition)| {
                let value = given.get(name).or(definition.default.as_ref());
                let value = value.ok_or_else(|| DocumentError::Missing { name: name.clone() })?;
                Ok((name.clone(), value.clone()))
            })
            .collect()
    }
}

/// Whether `{{ name }}` can stand for a parameter of this name; letters and digits, as in the
/// reference.
pub fn is_parameter_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric())
}

fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_and_defaults_are_checked_and_filled_in() {
        let document = document(json!({
            "parameters": {
                "a": {"type": "String", "allowedPattern": "^x"},
                "b": {"type": "String", "default": "B"},
                "odd-name": {"type": "String"},
            },
            "inputs": {"runAsDefaultUser": "{{ b }}"},
            "properties": {"linux": {"commands": "{{ a }} {{odd-name}}"}},
        }));

        let resolved = document
            .resolve(&values(json!({"a": "x1", "other": "y"})))
            .unwrap();

        assert_eq!(resolved.inputs, json!({"runAsDefaultUser": "B"}));
        assert_eq!(
            resolved.properties,
            json!({"linux": {"commands": "x1 {{odd-name}}"}})
        );
        assert!(resolved.parameters.is_empty());
        assert!(document.resolve(&values(json!({"a": "1"}))).is_err());
        assert_eq!(
            document.resolve(&Map::new()).unwrap_err().to_string(),
            "parameter a has no value and no default"
        );
    }

    #[test]
    fn rules_apply_to_what_a_reference_stands_for() {
        let document = document(json!({
            "parameters": {"p": {"type": "String", "allowedPattern": "^[a-z]+$"}},
            "properties": {"linux": {"commands": "{{ p }} {{ssm:q}}"}},
        }));
        let given = values(json!({"p": "{{ssm:w}}"}));

        let names = document.references(&given).unwrap();
        assert_eq!(names, ["q", "w"]);

        let resolve =
            |word: &str| document.resolve_with(&given, &stored(&[("q", "{{ p }}"), ("w", word)]));
        let resolved = resolve("ls").unwrap();
        assert_eq!(
            resolved.properties,
            json!({"linux": {"commands": "ls {{ p }}"}})
        );
        assert!(resolve("ls; id").is_err());
    }

    #[test]
    fn null_stands_for_everything_that_may_be_absent() {
        let document = document(json!({
            "description": null, "inputs": null, "parameters": null, "properties": null,
        }));

        assert!(document.resolve(&Map::new()).is_ok());
        assert!(document.references(&Map::new()).unwrap().is_empty());
    }

    fn document(mut members: Value) -> SessionDocument {
        members["schemaVersion"] = json!("1.0");
        members["sessionType"] = json!("InteractiveCommands");
        serde_json::from_value(members).unwrap()
    }

    fn values(object: Value) -> Map<String, Value> {
        serde_json::from_value(object).unwrap()
    }

    fn stored(texts: &[(&str, &str)]) -> StoredParameters {
        let answers: Vec<_> = texts
            .iter()
            .map(|(name, value)| StoredParameter {
                name: (*name).into(),
                kind: "String".into(),
                value: (*value).into(),
                ..StoredParameter::default()
            })
            .collect();
        let names: Vec<_> = answers.iter().map(|answer| answer.name.clone()).collect();
        StoredParameters::collect(&names, &answers).unwrap()
    }
}
