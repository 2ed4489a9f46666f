//! A command without a terminal: what a document asks for, and how it runs.
//!
//! ```text
//! data channel: handshake --> start (login step on pipes) --> run <--> output (one stream or two)
//!                                                              ^-- ^C, ^\ as signals
//! ```
//!
//! Its words are split as a POSIX shell splits them, but no shell runs: nothing is expanded, `|` and
//! `;` are words like others. A document that wants a shell names one. (The reference's splitter
//! differs in two corners: it takes a carriage return for a space, and drops every backslash within
//! double quotes.) Values of parameters are put in before the splitting, so one with blanks makes
//! several words unless the document puts quotes around it.

mod output;
mod run;
mod start;

use super::user::RunAs;
use crate::protocol::wire::session_document::CommandProperties;

pub(super) use run::run;

/// Session type of such a command.
pub(super) const SESSION_TYPE: &str = "NonInteractiveCommands";
/// Longest prefix, in characters; the reference's.
const LONGEST_PREFIX: usize = 30;

/// A command without a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    /// The program and its arguments.
    pub(super) words: Vec<String>,
    /// How its streams are kept apart; `None` if they are not.
    pub(super) separate: Option<Prefixes>,
    /// Who it runs as.
    pub(super) user: RunAs,
}

/// What goes before a line of each stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Prefixes {
    pub(super) output: String,
    pub(super) error: String,
}

/// Why there is nothing to run. The words are the reference's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CommandError {
    #[error("Commands cannot be empty for session type {0}")]
    Blank(&'static str),
    #[error("Unable to start command: Failed to parse commands input")]
    Split(#[from] shell_words::ParseError),
    #[error("invalid stdoutSeparatorPrefix {0}")]
    OutputPrefix(String),
    #[error("invalid stderrSeparatorPrefix {0}")]
    ErrorPrefix(String),
}

impl Command {
    /// Checks what a document asks for.
    pub(super) fn of(properties: CommandProperties, user: RunAs) -> Result<Self, CommandError> {
        let separate = if properties.separate_output_stream {
            let output = properties.std_out_separator_prefix;
            let error = properties.std_err_separator_prefix;
            if !is_prefix(&output) {
                return Err(CommandError::OutputPrefix(output));
            }
            if !is_prefix(&error) {
                return Err(CommandError::ErrorPrefix(error));
            }
            Some(Prefixes { output, error })
        } else {
            None
        };
        Ok(Self {
            words: words(&properties.commands, SESSION_TYPE)?,
            separate,
            user,
        })
    }
}

/// Splits commands into words; there is at least one.
pub(super) fn words(
    commands: &str,
    session_type: &'static str,
) -> Result<Vec<String>, CommandError> {
    let words = shell_words::split(commands)?;
    if words.is_empty() {
        return Err(CommandError::Blank(session_type));
    }
    Ok(words)
}

/// Whether `text` is of the form `^[0-9a-zA-Z\r\n_:-]{0,30}$`.
fn is_prefix(text: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "\r\n_:-".contains(c);
    text.len() <= LONGEST_PREFIX && text.chars().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::cause::in_one_line;

    #[test]
    fn commands_are_split_and_nothing_in_them_is_expanded() {
        for (commands, expected) in [
            ("ls -l", &["ls", "-l"][..]),
            ("sh -c 'a | b; c \"$d\"'", &["sh", "-c", "a | b; c \"$d\""]),
            ("echo $HOME * | wc", &["echo", "$HOME", "*", "|", "wc"]),
            ("echo a\\ b \"c\\\"d\" ''", &["echo", "a b", "c\"d", ""]),
            ("ls # not this", &["ls"]),
            ("printf \"a\\nb\"", &["printf", "a\\nb"]),
        ] {
            assert_eq!(of(commands).unwrap().words, expected, "{commands}");
        }
    }

    #[test]
    fn commands_without_a_word_are_refused() {
        for commands in ["", " \n\t", "# nothing"] {
            assert_eq!(
                of(commands).unwrap_err().to_string(),
                "Commands cannot be empty for session type NonInteractiveCommands"
            );
        }
    }

    #[test]
    fn open_quote_is_told() {
        let error = of("echo 'a").unwrap_err();

        let text = in_one_line(&error);
        assert_eq!(
            text,
            "Unable to start command: Failed to parse commands input: missing closing quote"
        );
    }

    #[test]
    fn prefixes_are_checked_where_they_are_used() {
        let separate = |output: &str, error: &str| {
            let properties = CommandProperties {
                commands: "ls".into(),
                separate_output_stream: true,
                std_out_separator_prefix: output.into(),
                std_err_separator_prefix: error.into(),
                ..CommandProperties::default()
            };
            Command::of(properties, RunAs::Default)
        };

        let longest = "a".repeat(30);
        for prefix in ["", "STDOUT:\r\n", "a_B-9", &longest] {
            assert!(separate(prefix, prefix).is_ok(), "{prefix:?}");
        }
        for prefix in ["a b", "ä", "$", &"a".repeat(31)] {
            let output = separate(prefix, "").unwrap_err().to_string();
            let error = separate("", prefix).unwrap_err().to_string();
            assert_eq!(output, format!("invalid stdoutSeparatorPrefix {prefix}"));
            assert_eq!(error, format!("invalid stderrSeparatorPrefix {prefix}"));
        }
        let merged = CommandProperties {
            commands: "ls".into(),
            std_out_separator_prefix: "$".into(),
            ..CommandProperties::default()
        };
        assert_eq!(Command::of(merged, RunAs::Default).unwrap().separate, None);
    }

    fn of(commands: &str) -> Result<Command, CommandError> {
        let properties = CommandProperties {
            commands: commands.into(),
            ..CommandProperties::default()
        };
        Command::of(properties, RunAs::Default)
    }
}
