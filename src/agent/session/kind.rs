//! The kinds of session, picked by the session type of the document.

use serde_json::Value;

use super::shell::Shell;
use crate::protocol::wire::session_document::{DocumentError, SessionDocument};

/// Session type of a shell.
const STANDARD_STREAM: &str = "Standard_Stream";

/// What a session does. A new kind is a variant here and a file beside `shell`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A shell on a terminal.
    Shell(Shell),
}

/// Why a document selects no kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum KindError {
    /// This version does not have the session type. The text is the reference's.
    #[error(
        "Plugin with name {0} is not supported by this version of ssm agent, please update to latest version. Step name: {0}"
    )]
    Unsupported(String),
    /// Something in the document has the wrong type.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A property has another shape than the kind needs.
    #[error("property {name} of the document must be {expected}")]
    Property {
        /// Its name.
        name: &'static str,
        /// The shape.
        expected: &'static str,
    },
}

impl Kind {
    /// Picks the kind that a resolved document asks for.
    pub(super) fn of(document: &SessionDocument) -> Result<Self, KindError> {
        match document.session_type.as_str() {
            STANDARD_STREAM => Ok(Self::Shell(Shell {
                profile: document.preferences()?.shell_profile.linux,
                command: command(&document.properties)?,
            })),
            other => Err(KindError::Unsupported(other.to_owned())),
        }
    }

    /// Its name in logs.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Shell(_) => "shell",
        }
    }
}

/// The program and arguments in the property `command`, ours: run instead of the login shell, on a
/// terminal that neither echoes nor changes output. Documents of AWS have no such property.
fn command(properties: &Value) -> Result<Vec<String>, KindError> {
    const NAME: &str = "command";
    let Some(value) = properties.get(NAME).filter(|value| !value.is_null()) else {
        return Ok(Vec::new());
    };
    let words = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let words: Option<Vec<_>> = words
        .iter()
        .map(|word| word.as_str().map(str::to_owned))
        .collect();
    words
        .filter(|words| !words.is_empty())
        .ok_or(KindError::Property {
            name: NAME,
            expected: "a list of strings, the program first",
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn standard_stream_is_a_shell_with_its_profile() {
        let kind = Kind::of(&document(json!({
            "schemaVersion": "1.0", "sessionType": "Standard_Stream",
            "inputs": {"shellProfile": {"linux": "cd /tmp"}},
        })));

        let shell = Shell {
            profile: "cd /tmp".into(),
            command: Vec::new(),
        };
        assert_eq!(kind, Ok(Kind::Shell(shell)));
    }

    #[test]
    fn shell_runs_the_command_of_the_document() {
        let kind = Kind::of(&document(json!({
            "schemaVersion": "1.0", "sessionType": "Standard_Stream",
            "properties": {"command": ["ls", "-l"]},
        })));

        let shell = Shell {
            profile: String::new(),
            command: vec!["ls".into(), "-l".into()],
        };
        assert_eq!(kind, Ok(Kind::Shell(shell)));
    }

    #[test]
    fn command_that_is_no_list_of_words_is_refused() {
        for command in [json!("ls"), json!([]), json!(["ls", 1]), json!({})] {
            let kind = Kind::of(&document(json!({
                "schemaVersion": "1.0", "sessionType": "Standard_Stream",
                "properties": {"command": command},
            })));

            let text = kind.unwrap_err().to_string();
            assert_eq!(
                text,
                "property command of the document must be a list of strings, the program first"
            );
        }
    }

    #[test]
    fn unknown_session_type_is_refused_in_the_reference_s_words() {
        let kind = Kind::of(&document(
            json!({"schemaVersion": "1.0", "sessionType": "Port"}),
        ));

        assert_eq!(
            kind.unwrap_err().to_string(),
            "Plugin with name Port is not supported by this version of ssm agent, please update to latest version. Step name: Port"
        );
    }

    fn document(json: Value) -> SessionDocument {
        serde_json::from_value(json).unwrap()
    }
}
