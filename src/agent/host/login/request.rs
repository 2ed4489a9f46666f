//! The command line of the login step, written by the agent and read by the step.
//!
//! `[--user NAME] [--session-id ID] [--open-files N] [--control-group DIR] [--pam-service NAME] [--detached]
//! [-- COMMAND ARGS…]`

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

const USER: &str = "--user";
const SESSION_ID: &str = "--session-id";
const OPEN_FILES: &str = "--open-files";
const CONTROL_GROUP: &str = "--control-group";
const PAM_SERVICE: &str = "--pam-service";
const DETACHED: &str = "--detached";
const END_OF_OPTIONS: &str = "--";

/// What the agent asks the login step for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// The user to become; none for the user the agent runs as.
    pub user: Option<String>,
    /// The session, shown to its processes as `SSM_SESSION_ID`.
    pub session_id: Option<String>,
    /// Soft limit of open files, where the agent raised its own.
    pub open_files: Option<u64>,
    /// Folder of the control group to enter.
    pub control_group: Option<PathBuf>,
    /// The service of the host's PAM by whose rules to log in, if by any.
    pub pam_service: Option<String>,
    /// There is no terminal: the command gets no input, and a failure is told on standard input, which
    /// the agent reads.
    pub detached: bool,
    /// A program and its arguments to run instead of the login shell. It is executed directly, found
    /// by the login environment's `PATH`; whoever needs a shell's syntax names a shell.
    pub command: Vec<OsString>,
}

/// A command line that is no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// An argument that is no option.
    #[error("login: unexpected argument {argument:?}")]
    Unexpected {
        /// The argument.
        argument: OsString,
    },
    /// An option without a usable value.
    #[error("login: {option} needs a value, got {got:?}")]
    Value {
        /// The option.
        option: &'static str,
        /// What stood there, if anything.
        got: Option<OsString>,
    },
}

impl Request {
    /// The arguments that [`Request::parse`] reads back.
    pub fn to_args(&self) -> Vec<OsString> {
        let mut args = Vec::new();
        let mut option = |name: &str, value: Option<OsString>| {
            if let Some(value) = value {
                args.extend([name.into(), value]);
            }
        };
        option(USER, self.user.as_ref().map(OsString::from));
        option(SESSION_ID, self.session_id.as_ref().map(OsString::from));
        option(OPEN_FILES, self.open_files.map(|n| n.to_string().into()));
        option(
            CONTROL_GROUP,
            self.control_group.as_ref().map(OsString::from),
        );
        option(PAM_SERVICE, self.pam_service.as_ref().map(OsString::from));
        if self.detached {
            args.push(DETACHED.into());
        }
        if !self.command.is_empty() {
            args.push(END_OF_OPTIONS.into());
            args.extend(self.command.iter().cloned());
        }
        args
    }

    /// Reads the arguments of the login step.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, RequestError> {
        let mut args = args.into_iter();
        let mut request = Self::default();
        while let Some(argument) = args.next() {
            match argument.to_str() {
                Some(USER) => request.user = Some(text(USER, args.next())?),
                Some(SESSION_ID) => request.session_id = Some(text(SESSION_ID, args.next())?),
                Some(OPEN_FILES) => request.open_files = Some(number(OPEN_FILES, args.next())?),
                Some(CONTROL_GROUP) => {
                    request.control_group = Some(text(CONTROL_GROUP, args.next())?.into());
                }
                Some(PAM_SERVICE) => request.pam_service = Some(text(PAM_SERVICE, args.next())?),
                Some(DETACHED) => request.detached = true,
                Some(END_OF_OPTIONS) => request.command = args.by_ref().collect(),
                _ => return Err(RequestError::Unexpected { argument }),
            }
        }
        Ok(request)
    }
}

fn text(option: &'static str, value: Option<OsString>) -> Result<String, RequestError> {
    match value.as_deref().and_then(OsStr::to_str) {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err(RequestError::Value { option, got: value }),
    }
}

fn number(option: &'static str, value: Option<OsString>) -> Result<u64, RequestError> {
    let text = text(option, value)?;
    text.parse().map_err(|_| RequestError::Value {
        option,
        got: Some(text.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_back_as_written() {
        let request = Request {
            user: Some("ssm-user".into()),
            session_id: Some("alice-0123".into()),
            open_files: Some(1024),
            control_group: Some("/sys/fs/cgroup/a".into()),
            pam_service: Some("ssm-agent".into()),
            detached: true,
            command: vec!["ls".into(), "--".into(), "-l".into(), "--user".into()],
        };

        assert_eq!(Request::parse(request.to_args()).unwrap(), request);
        assert_eq!(Request::parse([]).unwrap(), Request::default());
        assert!(Request::default().to_args().is_empty());
    }

    #[test]
    fn arguments_that_are_no_request_are_refused() {
        let parse = |args: &[&str]| Request::parse(args.iter().map(OsString::from)).unwrap_err();

        for (args, message) in [
            (&["ls"][..], "login: unexpected argument \"ls\""),
            (&["--user"], "login: --user needs a value, got None"),
            (
                &["--user", ""],
                "login: --user needs a value, got Some(\"\")",
            ),
            (
                &["--open-files", "many"],
                "login: --open-files needs a value, got Some(\"many\")",
            ),
        ] {
            assert_eq!(parse(args).to_string(), message);
        }
    }
}
