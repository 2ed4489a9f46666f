//! Who a session runs as.
//!
//! | condition, the first that holds | user |
//! |---|---|
//! | `runAsElevated`, or an agent in a container | the agent's own |
//! | `runAsEnabled` | the start message's, else the document's default user; never root |
//! | the settings say so, or the agent is not root | the agent's own |
//! | else | `ssm-user`, made when first needed |
//!
//! Users are looked up in the host's user database, by name and without a shell. Only the login step
//! becomes another user; see [`login`].

use std::ffi::OsString;
use std::path::PathBuf;

use super::settings::{Settings, ShellUser};
use super::task::Context;
use crate::agent::host::control_group::ControlGroup;
use crate::agent::host::login::{self, Purpose, Refusal, Request};
use crate::agent::host::users::{Account, SSM_USER, UserError};
use crate::protocol::wire::SessionId;
use crate::protocol::wire::session_document::Preferences;

/// Who a session shall run as, as far as the document and the start message say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RunAs {
    /// They do not say.
    Default,
    /// The user the agent runs as.
    Elevated,
    /// This user; blank if nobody named one.
    User(String),
}

/// Why there is nobody to run as. The words are the reference's where it has any.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunAsError {
    #[error("please set the RunAs default user")]
    NoUser,
    #[error("the agent must run as root to use RunAs")]
    NotRoot,
    #[error("failed to start pty since RunAs user {0} does not exist")]
    Unknown(String),
    #[error(transparent)]
    LookUp(#[from] UserError),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Who a session runs as.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) account: Account,
    /// Whether the login step has to become that user.
    is_switch: bool,
}

/// How to start the login step.
pub(super) struct Step {
    pub(super) program: PathBuf,
    pub(super) args: Vec<OsString>,
    pub(super) environment: Vec<(OsString, OsString)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Choice<'a> {
    Own,
    SsmUser,
    Named(&'a str),
}

impl RunAs {
    /// What the session preferences say, and the user that the start message names.
    pub(super) fn of(preferences: &Preferences, named: &str) -> Self {
        if !preferences.run_as_enabled {
            return Self::Default;
        }
        let user = match named.trim() {
            "" => preferences.run_as_default_user.trim(),
            named => named,
        };
        Self::User(user.to_owned())
    }

    /// Finds the account, which may take as long as a directory service and the tool that makes
    /// users take.
    pub(super) fn find(&self, context: &Context, is_command: bool) -> Result<Login, RunAsError> {
        let is_root = nix::unistd::geteuid().is_root();
        let choice = self.choose(&context.settings, is_root)?;
        let is_switch = choice != Choice::Own;
        let account = match choice {
            Choice::Own => Account::current()?,
            Choice::SsmUser => context.ssm_user.ensure()?,
            Choice::Named(name) => {
                Account::find(name)?.ok_or_else(|| RunAsError::Unknown(name.to_owned()))?
            }
        };
        let purpose = Purpose {
            is_switch,
            is_command,
        };
        login::admit(&account, purpose)?;
        Ok(Login { account, is_switch })
    }

    fn choose(&self, settings: &Settings, is_root: bool) -> Result<Choice<'_>, RunAsError> {
        match self {
            Self::Elevated => Ok(Choice::Own),
            Self::Default | Self::User(_) if settings.in_container => Ok(Choice::Own),
            Self::Default => Ok(match settings.shell_user {
                ShellUser::Agent => Choice::Own,
                ShellUser::SsmUser => Choice::SsmUser,
            }),
            Self::User(name) if name.is_empty() => Err(RunAsError::NoUser),
            Self::User(_) if !is_root => Err(RunAsError::NotRoot),
            // The reference refuses this one until another session has made it.
            Self::User(name) if name == SSM_USER => Ok(Choice::SsmUser),
            Self::User(name) => Ok(Choice::Named(name)),
        }
    }
}

impl Login {
    /// The login step that starts `command`, or the login shell if there is none; `detached` from
    /// any terminal or not, in `group` if there is one.
    pub(super) fn step(
        &self,
        settings: &Settings,
        session: &SessionId,
        command: &[String],
        detached: bool,
        group: Option<&ControlGroup>,
    ) -> Step {
        let request = Request {
            user: self.is_switch.then(|| self.account.name.clone()),
            session_id: Some(session.to_string()),
            open_files: settings.open_files,
            control_group: group.map(|group| group.path().to_owned()),
            pam_service: settings.pam_service.clone(),
            detached,
            command: command.iter().map(OsString::from).collect(),
        };
        let mut args = vec![login::SUBCOMMAND.into()];
        args.extend(request.to_args());
        let language = settings.language.as_ref();
        Step {
            program: settings.program.clone(),
            args,
            environment: language
                .map(|language| ("LANG".into(), language.into()))
                .into_iter()
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_of_the_start_message_goes_before_the_default_user() {
        for (enabled, default, named, expected) in [
            (false, "bob", "eve", RunAs::Default),
            (true, "bob", "", RunAs::User("bob".into())),
            (true, "bob", " \t", RunAs::User("bob".into())),
            (true, "bob", " eve ", RunAs::User("eve".into())),
            (true, "", "eve", RunAs::User("eve".into())),
            (true, " ", "", RunAs::User(String::new())),
        ] {
            let preferences = Preferences {
                run_as_enabled: enabled,
                run_as_default_user: default.into(),
                ..Preferences::default()
            };
            assert_eq!(RunAs::of(&preferences, named), expected);
        }
    }

    #[test]
    fn table_of_users_holds() {
        let user = |name: &str| RunAs::User(name.into());
        for (run_as, shell_user, in_container, is_root, expected) in [
            (
                RunAs::Elevated,
                ShellUser::SsmUser,
                false,
                true,
                Choice::Own,
            ),
            (RunAs::Default, ShellUser::SsmUser, true, true, Choice::Own),
            (user("bob"), ShellUser::SsmUser, true, true, Choice::Own),
            (
                RunAs::Default,
                ShellUser::SsmUser,
                false,
                true,
                Choice::SsmUser,
            ),
            (RunAs::Default, ShellUser::Agent, false, true, Choice::Own),
            (RunAs::Default, ShellUser::Agent, false, false, Choice::Own),
            (
                user("bob"),
                ShellUser::Agent,
                false,
                true,
                Choice::Named("bob"),
            ),
            (
                user("ssm-user"),
                ShellUser::Agent,
                false,
                true,
                Choice::SsmUser,
            ),
        ] {
            let chosen = run_as.choose(&settings(shell_user, in_container), is_root);
            assert_eq!(chosen.unwrap(), expected, "{run_as:?}");
        }
    }

    #[test]
    fn run_as_needs_a_user_and_root() {
        let settings = settings(ShellUser::SsmUser, false);
        for (name, is_root, text) in [
            ("", true, "please set the RunAs default user"),
            ("", false, "please set the RunAs default user"),
            ("bob", false, "the agent must run as root to use RunAs"),
        ] {
            let error = RunAs::User(name.into())
                .choose(&settings, is_root)
                .unwrap_err();
            assert_eq!(error.to_string(), text);
        }
    }

    fn settings(shell_user: ShellUser, in_container: bool) -> Settings {
        Settings {
            shell_user,
            in_container,
            ..Settings::new("mi-0123456789abcdef0", "/usr/bin/ssm-agent")
        }
    }
}
