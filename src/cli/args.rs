//! The command line of `ssm-cli`.

use std::ffi::OsString;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::agent::Places;
use crate::agent::verify_recording::{self, VerifyRecording};

/// What the Systems Manager agent of this host does, and why it does not.
#[derive(Debug, Parser)]
#[command(
    name = "ssm-cli",
    version,
    about = "What the Systems Manager agent of this host does, and why it does not",
    after_help = "Exit status: 0 if all is well, 1 if a check failed, the agent is not connected or a \
                  recording is not intact, \
                  2 for a wrong command line, 3 if no agent runs, 255 for other errors.\n\
                  Example: ssm-cli get-diagnostics --output table"
)]
pub(super) struct Cli {
    /// Folders and files.
    #[command(flatten)]
    pub(super) places: Places,
    /// What to do.
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What `ssm-cli` can do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the node's id and region and the agent's version
    #[command(after_help = "Example: ssm-cli get-instance-information")]
    GetInstanceInformation,
    /// Look for what keeps the agent from working, whether it runs or not
    #[command(after_help = "Example: ssm-cli get-diagnostics --output table")]
    GetDiagnostics {
        /// How to print the findings
        #[command(flatten)]
        form: Wanted,
        /// Exit with 1 if a check failed
        #[arg(long)]
        strict: bool,
    },
    /// Print how the running agent is: its connection, sessions, records, commands, last problems
    #[command(after_help = "Example: ssm-cli status")]
    Status {
        /// How to print it
        #[command(flatten)]
        form: Wanted,
    },
    /// Have the agent of this host run a command document, without the service
    #[command(
        name = "send-offline-command",
        long_about = "Have the agent of this host run a command document, without the service. The document has \
                      schema 1.2 or 2.x and no parameters. Its status is 0 once the document was handed over, whatever \
                      the agent makes of it, as in the reference.",
        after_help = "Example: ssm-cli send-offline-command --content file:///root/document.json"
    )]
    SendOffline {
        /// The document as JSON, or where it is: file://PATH, or a URL
        #[arg(long, value_name = "JSON|URL")]
        content: Option<String>,
    },
    /// Print how such a command stands: Pending, In Progress, Complete or Corrupt
    #[command(
        name = "get-offline-command-invocation",
        after_help = "Example: ssm-cli get-offline-command-invocation --command-id 01234567-890a-bcde-f012-34567890abcd"
    )]
    OfflineInvocation {
        /// What send-offline-command printed
        #[arg(long, value_name = "ID")]
        command_id: Option<String>,
        /// Print the result of a command that is complete, too, as JSON
        #[arg(long)]
        details: bool,
    },
    /// Say whether a recording is as it was written
    #[command(
        long_about = verify_recording::ABOUT,
        after_help = "Example: ssm-cli verify-recording /var/log/amazon/ssm/sessions/alice-0123.cast"
    )]
    VerifyRecording(VerifyRecording),
    /// Print the version
    #[command(after_help = "Example: ssm-cli version")]
    Version,
}

/// A form of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// For programs
    Json,
    /// For people
    Table,
}

/// Which form it shall be.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Wanted {
    /// Form of the output; by default json for get-diagnostics, table for status
    #[arg(long, value_enum, value_name = "FORM")]
    output: Option<Form>,
    /// The same as --output json
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

impl Wanted {
    /// What was said, else `default`.
    pub(super) fn or(self, default: Form) -> Form {
        if self.json {
            Form::Json
        } else {
            self.output.unwrap_or(default)
        }
    }
}

/// Commands are known in any case, as in the reference. What follows an option is its value.
pub(super) fn in_lower_case(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let is_option = |word: &OsString| word.to_string_lossy().starts_with('-');
    let takes_next = |word: &OsString| is_option(word) && !word.to_string_lossy().contains('=');
    let command = (1..arguments.len()).find(|&at| {
        let is_value = at > 1 && takes_next(&arguments[at - 1]);
        !is_option(&arguments[at]) && !is_value
    });
    if let Some(at) = command {
        arguments[at] = arguments[at].to_ascii_lowercase();
    }
    arguments
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn commands_of_the_reference_are_understood_in_any_case() {
        let cli = parse("Get-Diagnostics --output table");
        let Command::GetDiagnostics { form, strict } = cli.command else {
            panic!("{cli:?}");
        };
        assert_eq!((form.or(Form::Json), strict), (Form::Table, false));
        let cli = parse("GET-INSTANCE-INFORMATION");
        assert!(matches!(cli.command, Command::GetInstanceInformation));
    }

    #[test]
    fn form_is_what_is_said_or_the_commands_own() {
        for (line, expected) in [
            ("status", Form::Table),
            ("status --json", Form::Json),
            ("status --output json", Form::Json),
        ] {
            let Command::Status { form } = parse(line).command else {
                panic!("{line}");
            };
            assert_eq!(form.or(Form::Table), expected, "{line}");
        }
    }

    #[test]
    fn places_are_the_agents() {
        let cli = parse("status --state-dir /y --config /x");

        assert_eq!(cli.places.config, PathBuf::from("/x"));
        assert_eq!(cli.places.socket(), PathBuf::from("/y/run/agent.sock"));
    }

    #[test]
    fn values_of_options_keep_their_case() {
        let cli = parse("--log-dir=/L --state-dir /Y STATUS --config /X");

        assert_eq!(cli.places.state, PathBuf::from("/Y"));
        assert_eq!(cli.places.config, PathBuf::from("/X"));
        assert!(matches!(cli.command, Command::Status { .. }));
    }

    fn parse(line: &str) -> Cli {
        let arguments = std::iter::once("ssm-cli").chain(line.split_whitespace());
        Cli::try_parse_from(in_lower_case(arguments.map(OsString::from).collect())).unwrap()
    }
}
