//! The kinds of session, picked by the session type of the document.

use serde_json::Value;

use super::command::{self, Command, CommandError};
use super::port::{self, Port};
use super::shell::Shell;
use super::user::RunAs;
use crate::agent::host::pty::Mode;
use crate::protocol::wire::session_document::{DocumentError, Preferences, SessionDocument};

/// Session type of a shell.
const STANDARD_STREAM: &str = "Standard_Stream";
/// Session type of a command on a terminal.
const INTERACTIVE_COMMANDS: &str = "InteractiveCommands";

/// What a session does. A new kind is a variant here and a file beside `shell`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A shell or a command on a terminal.
    Shell(Shell),
    /// A port of this host, or of another that it reaches.
    Port(Port),
    /// A command without a terminal.
    Command(Command),
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
    /// The command cannot be run.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A property has another shape than the kind needs.
    #[error("property {name} of the document must be {expected}")]
    Property {
        /// Its name.
        name: &'static str,
        /// The shape.
        expected: &'static str,
    },
    /// The properties describe no port.
    #[error(transparent)]
    Port(#[from] port::PropertiesError),
}

impl Kind {
    /// Picks the kind that a resolved document asks for. `run_as_user` is the user that the start
    /// message names.
    pub(super) fn of(
        document: &SessionDocument,
        preferences: &Preferences,
        run_as_user: &str,
        in_container: bool,
    ) -> Result<Self, KindError> {
        let user = RunAs::of(preferences, run_as_user);
        match document.session_type.as_str() {
            STANDARD_STREAM => {
                let command = command(&document.properties)?;
                let mode = if command.is_empty() {
                    Mode::Interactive
                } else {
                    Mode::Plain
                };
                Ok(Self::Shell(Shell {
                    profile: preferences.shell_profile.linux.clone(),
                    command,
                    mode,
                    user,
                }))
            }
            INTERACTIVE_COMMANDS => interactive(document, user, in_container),
            command::SESSION_TYPE => {
                let properties = document.command()?;
                let user = elevated(properties.run_as_elevated, user);
                Ok(Self::Command(Command::of(properties, user)?))
            }
            port::SESSION_TYPE => Ok(Self::Port(Port::of(&document.properties)?)),
            other => Err(KindError::Unsupported(other.to_owned())),
        }
    }

    /// The command of a command document, quoted for a POSIX shell.
    pub(super) fn command(&self) -> Option<String> {
        let words = match self {
            Self::Shell(shell) => &shell.command,
            Self::Command(command) => &command.words,
            Self::Port(_) => return None,
        };
        (!words.is_empty()).then(|| shell_words::join(words))
    }

    /// Where connections go, as the document says it.
    pub(super) fn target(&self) -> Option<String> {
        match self {
            Self::Port(port) => Some(port.target.to_string()),
            Self::Shell(_) | Self::Command(_) => None,
        }
    }

    /// Its name in logs.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Shell(shell) if shell.command.is_empty() => "shell",
            Self::Shell(_) => "interactive command",
            Self::Command(_) => "command",
            Self::Port(_) => "port",
        }
    }
}

/// A command on a terminal. A shell runs it; in a container, which may have none, its words are the
/// program and its arguments.
fn interactive(
    document: &SessionDocument,
    user: RunAs,
    in_container: bool,
) -> Result<Kind, KindError> {
    let properties = document.command()?;
    let commands = properties.commands;
    if commands.trim().is_empty() {
        return Err(CommandError::Blank(INTERACTIVE_COMMANDS).into());
    }
    let command = if in_container {
        command::words(&commands, INTERACTIVE_COMMANDS)?
    } else {
        vec!["sh".into(), "-c".into(), commands]
    };
    Ok(Kind::Shell(Shell {
        profile: String::new(),
        command,
        mode: Mode::Interactive,
        user: elevated(properties.run_as_elevated, user),
    }))
}

/// `runAsElevated` goes before everything else.
fn elevated(run_as_elevated: bool, user: RunAs) -> RunAs {
    if run_as_elevated {
        RunAs::Elevated
    } else {
        user
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
        let kind = kind_of(json!({
            "schemaVersion": "1.0", "sessionType": "Standard_Stream",
            "inputs": {"shellProfile": {"linux": "cd /tmp"}},
            "properties": {"linux": {"commands": "ls", "runAsElevated": true}},
        }));

        let shell = Shell {
            profile: "cd /tmp".into(),
            command: Vec::new(),
            mode: Mode::Interactive,
            user: RunAs::Default,
        };
        assert_eq!(kind, Ok(Kind::Shell(shell)));
    }

    #[test]
    fn shell_runs_the_command_of_the_document() {
        let kind = kind_of(json!({
            "schemaVersion": "1.0", "sessionType": "Standard_Stream",
            "inputs": {"runAsEnabled": true, "runAsDefaultUser": "bob"},
            "properties": {"command": ["ls", "-l"]},
        }));

        let shell = Shell {
            profile: String::new(),
            command: vec!["ls".into(), "-l".into()],
            mode: Mode::Plain,
            user: RunAs::User("bob".into()),
        };
        assert_eq!(kind, Ok(Kind::Shell(shell)));
    }

    #[test]
    fn interactive_commands_are_run_by_a_shell_without_profile() {
        let shell = interactive(" ls | wc ", false).unwrap();

        assert_eq!(shell.command, ["sh", "-c", " ls | wc "]);
        assert_eq!(shell.profile, "");
        assert_eq!(shell.mode, Mode::Interactive);
    }

    #[test]
    fn interactive_commands_are_run_without_a_shell_in_a_container() {
        let shell = interactive("ls 'a b' |", true).unwrap();

        assert_eq!(shell.command, ["ls", "a b", "|"]);
    }

    #[test]
    fn blank_commands_are_refused_in_the_reference_s_words() {
        for session_type in ["InteractiveCommands", "NonInteractiveCommands"] {
            for properties in [json!({}), json!({"linux": {"commands": " \n"}})] {
                let kind = kind_of(json!({
                    "schemaVersion": "1.0", "sessionType": session_type, "properties": properties,
                }));

                assert_eq!(
                    kind.unwrap_err().to_string(),
                    format!("Commands cannot be empty for session type {session_type}")
                );
            }
        }
    }

    #[test]
    fn elevated_commands_ignore_run_as() {
        for session_type in ["InteractiveCommands", "NonInteractiveCommands"] {
            let kind = kind_of(json!({
                "schemaVersion": "1.0", "sessionType": session_type,
                "inputs": {"runAsEnabled": true, "runAsDefaultUser": "bob"},
                "properties": {"linux": {"commands": "id", "runAsElevated": true}},
            }));

            let user = match kind.unwrap() {
                Kind::Shell(shell) => shell.user,
                Kind::Command(command) => command.user,
                Kind::Port(port) => panic!("{port:?}"),
            };
            assert_eq!(user, RunAs::Elevated);
        }
    }

    #[test]
    fn command_that_is_no_list_of_words_is_refused() {
        for command in [json!("ls"), json!([]), json!(["ls", 1]), json!({})] {
            let kind = kind_of(json!({
                "schemaVersion": "1.0", "sessionType": "Standard_Stream",
                "properties": {"command": command},
            }));

            let text = kind.unwrap_err().to_string();
            assert_eq!(
                text,
                "property command of the document must be a list of strings, the program first"
            );
        }
    }

    #[test]
    fn unknown_session_type_is_refused_in_the_reference_s_words() {
        let kind = kind_of(json!({"schemaVersion": "1.0", "sessionType": "Tunnel"}));

        assert_eq!(
            kind.unwrap_err().to_string(),
            "Plugin with name Tunnel is not supported by this version of ssm agent, please update to latest version. Step name: Tunnel"
        );
    }

    fn interactive(commands: &str, in_container: bool) -> Result<Shell, KindError> {
        let document = document(json!({
            "schemaVersion": "1.0", "sessionType": "InteractiveCommands",
            "properties": {"linux": {"commands": commands}},
        }));
        match Kind::of(&document, &Preferences::default(), "", in_container)? {
            Kind::Shell(shell) => Ok(shell),
            other => panic!("{other:?}"),
        }
    }

    fn kind_of(json: Value) -> Result<Kind, KindError> {
        let document = document(json);
        Kind::of(&document, &document.preferences().unwrap(), "", false)
    }

    fn document(json: Value) -> SessionDocument {
        serde_json::from_value(json).unwrap()
    }
}
