//! What a document says of the command that it runs: `properties.linux`.
//!
//! | key | JSON type | meaning |
//! |---|---|---|
//! | `commands` | string | what to run |
//! | `runAsElevated` | boolean | run it as the user the agent runs as |
//! | `separateOutputStream` | boolean, or the text of one | send error output apart |
//! | `stdOutSeparatorPrefix`, `stdErrSeparatorPrefix` | string | what goes before a new line of either |
//!
//! Null counts as absent. Privilege is not given by a text that looks like `true`: `runAsElevated`
//! has to be a boolean.

use super::member::Members;
use super::{DocumentError, SessionDocument};

/// The command of a document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandProperties {
    /// What to run; may be blank.
    pub commands: String,
    /// Whether to run it as the user the agent runs as.
    pub run_as_elevated: bool,
    /// Whether to send error output apart.
    pub separate_output_stream: bool,
    /// What goes before output at the start of a line.
    pub std_out_separator_prefix: String,
    /// What goes before error output at the start of a line.
    pub std_err_separator_prefix: String,
}

impl SessionDocument {
    /// The command in `properties`. Of a document with parameters, resolve it first.
    ///
    /// # Errors
    /// [`DocumentError::Member`] if something has the wrong type.
    pub fn command(&self) -> Result<CommandProperties, DocumentError> {
        let linux = Members::of("properties", &self.properties)?.object("linux")?;
        Ok(CommandProperties {
            commands: linux.text("commands")?,
            run_as_elevated: linux.flag("runAsElevated")?,
            separate_output_stream: linux.flag_or_text("separateOutputStream")?,
            std_out_separator_prefix: linux.text("stdOutSeparatorPrefix")?,
            std_err_separator_prefix: linux.text("stdErrSeparatorPrefix")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn every_property_is_read() {
        let command = read(json!({
            "windows": {"commands": "dir"},
            "linux": {
                "commands": "ls", "runAsElevated": true, "separateOutputStream": "True",
                "stdOutSeparatorPrefix": "o:", "stdErrSeparatorPrefix": "e:",
            },
        }));

        let expected = CommandProperties {
            commands: "ls".into(),
            run_as_elevated: true,
            separate_output_stream: true,
            std_out_separator_prefix: "o:".into(),
            std_err_separator_prefix: "e:".into(),
        };
        assert_eq!(command, Ok(expected));
    }

    #[test]
    fn document_without_a_command_for_linux_has_a_blank_one() {
        for properties in [
            json!(null),
            json!({}),
            json!({"windows": {"commands": "dir"}}),
        ] {
            assert_eq!(read(properties), Ok(CommandProperties::default()));
        }
    }

    #[test]
    fn property_of_the_wrong_type_is_named() {
        for (linux, text) in [
            (json!("ls"), "properties.linux must be an object"),
            (
                json!({"commands": ["ls"]}),
                "properties.linux.commands must be a string",
            ),
            (
                json!({"runAsElevated": "true"}),
                "properties.linux.runAsElevated must be true or false, without quotes",
            ),
            (
                json!({"separateOutputStream": "maybe"}),
                "properties.linux.separateOutputStream must be true or false",
            ),
        ] {
            let error = read(json!({"linux": linux})).unwrap_err();
            assert_eq!(error.to_string(), text);
        }
    }

    fn read(properties: Value) -> Result<CommandProperties, DocumentError> {
        let mut document: SessionDocument = serde_json::from_value(json!({
            "schemaVersion": "1.0", "sessionType": "InteractiveCommands",
        }))
        .unwrap();
        document.properties = properties;
        document.command()
    }
}
