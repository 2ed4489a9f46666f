//! Decides what a login executes and in which environment, without touching the system.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::agent::host::users::Account;

/// The shell of an account whose entry names none.
const DEFAULT_SHELL: &str = "/bin/sh";
/// What our clients are: they pass bytes to a terminal of this kind.
const TERMINAL: &str = "xterm-256color";
/// The language where the agent has none; UTF-8, so that programs put out what clients decode.
const DEFAULT_LANGUAGE: &str = "C.UTF-8";
/// Where root finds programs (the superuser path of login(1) on Debian).
const ROOT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where others find programs; the sbin folders too, as `ssm-user` uses sudo for most it does.
const USER_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
/// Tells the processes of a session which session they belong to.
const SESSION_ID_VARIABLE: &str = "SSM_SESSION_ID";
/// What nobody else sets.
const OURS: [&str; 4] = ["TERM", "USER", "LOGNAME", SESSION_ID_VARIABLE];

/// What to execute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// A path, or a name that the environment's `PATH` resolves.
    pub(super) program: PathBuf,
    /// Its name for itself; a leading dash makes a shell a login shell.
    pub(super) argv0: OsString,
    /// Further arguments.
    pub(super) args: Vec<OsString>,
    /// The whole environment.
    pub(super) environment: Vec<(OsString, OsString)>,
}

impl Plan {
    /// Names another home folder, where the account's cannot be entered.
    pub(super) fn set_home(&mut self, home: &str) {
        for (name, value) in &mut self.environment {
            if *name == *"HOME" {
                *value = home.into();
            }
        }
    }

    /// Adds the variables that the host has for the user, in place of ours where it has another value. What
    /// the terminal is, who is logged in and which session it is, it cannot know better.
    pub(super) fn add(&mut self, variables: Vec<(OsString, OsString)>) {
        for (name, value) in variables {
            if OURS.iter().any(|ours| name == **ours) {
                continue;
            }
            match self.environment.iter_mut().find(|(own, _)| *own == name) {
                Some((_, own)) => *own = value,
                None => self.environment.push((name, value)),
            }
        }
    }
}

/// Decides what the login of `account` executes: its login shell, or `command` if there is one.
pub(super) fn plan(
    account: &Account,
    command: &[OsString],
    session_id: Option<&str>,
    language: Option<OsString>,
) -> Plan {
    let shell = login_shell(account);
    let mut environment: Vec<(&str, OsString)> = vec![
        ("TERM", TERMINAL.into()),
        ("LANG", language.unwrap_or_else(|| DEFAULT_LANGUAGE.into())),
        ("PATH", search_path(account).into()),
        ("USER", account.name.clone().into()),
        ("LOGNAME", account.name.clone().into()),
        ("SHELL", shell.clone().into()),
        ("HOME", account.home.clone().into()),
    ];
    if let Some(id) = session_id {
        environment.push((SESSION_ID_VARIABLE, id.into()));
    }
    let environment = environment
        .into_iter()
        .map(|(name, value)| (name.into(), value))
        .collect();
    match command {
        [program, args @ ..] => Plan {
            program: program.into(),
            argv0: program.clone(),
            args: args.to_vec(),
            environment,
        },
        [] => Plan {
            argv0: login_name(&shell),
            program: shell,
            args: Vec::new(),
            environment,
        },
    }
}

fn login_shell(account: &Account) -> PathBuf {
    if account.shell.as_os_str().is_empty() {
        DEFAULT_SHELL.into()
    } else {
        account.shell.clone()
    }
}

fn login_name(shell: &Path) -> OsString {
    let mut name = OsString::from("-");
    name.push(shell.file_name().unwrap_or(shell.as_os_str()));
    name
}

fn search_path(account: &Account) -> &'static str {
    if account.uid.is_root() {
        ROOT_PATH
    } else {
        USER_PATH
    }
}

#[cfg(test)]
mod tests {
    use nix::unistd::{Gid, Uid};

    use super::*;

    #[test]
    fn login_shell_is_the_account_s_with_a_dash_before_its_name() {
        let plan = plan(&account("/usr/bin/zsh"), &[], None, None);

        assert_eq!(plan.program, Path::new("/usr/bin/zsh"));
        assert_eq!(plan.argv0, "-zsh");
        assert!(plan.args.is_empty());
    }

    #[test]
    fn account_without_a_shell_gets_sh() {
        let plan = plan(&account(""), &[], None, None);

        assert_eq!(plan.program, Path::new("/bin/sh"));
        assert_eq!(plan.argv0, "-sh");
    }

    #[test]
    fn environment_is_the_user_s_and_nothing_else() {
        let plan = plan(&account("/bin/bash"), &[], Some("alice-1"), None);

        let environment: Vec<_> = plan
            .environment
            .iter()
            .map(|(name, value)| format!("{}={}", name.display(), value.display()))
            .collect();
        assert_eq!(
            environment,
            [
                "TERM=xterm-256color",
                "LANG=C.UTF-8",
                "PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
                "USER=bob",
                "LOGNAME=bob",
                "SHELL=/bin/bash",
                "HOME=/srv/homes/bob",
                "SSM_SESSION_ID=alice-1",
            ]
        );
    }

    #[test]
    fn language_of_the_agent_is_kept() {
        let plan = plan(&account(""), &[], None, Some("de_DE.UTF-8".into()));

        assert!(
            plan.environment
                .contains(&("LANG".into(), "de_DE.UTF-8".into()))
        );
    }

    #[test]
    fn variables_of_the_host_go_before_ours_but_not_who_it_is() {
        let mut plan = plan(&account("/bin/sh"), &[], Some("alice-1"), None);
        let before = plan.environment.len();

        plan.add(
            [
                ("PATH", "/opt/bin"),
                ("USER", "root"),
                ("TERM", "dumb"),
                ("XDG_RUNTIME_DIR", "/run/user/1"),
            ]
            .map(|(name, value)| (name.into(), value.into()))
            .to_vec(),
        );

        let value = |name: &str| {
            let found = plan.environment.iter().find(|(own, _)| *own == *name);
            found.map(|(_, value)| value.to_str().unwrap())
        };
        assert_eq!(value("PATH"), Some("/opt/bin"));
        assert_eq!(value("USER"), Some("bob"));
        assert_eq!(value("TERM"), Some(TERMINAL));
        assert_eq!(value("XDG_RUNTIME_DIR"), Some("/run/user/1"));
        assert_eq!(plan.environment.len(), before + 1);
    }

    #[test]
    fn command_is_executed_directly_with_its_arguments() {
        let command = ["ls", "-l", "a b"].map(OsString::from);

        let plan = plan(&account("/bin/bash"), &command, None, None);

        assert_eq!(plan.program, Path::new("ls"));
        assert_eq!(plan.argv0, "ls");
        assert_eq!(plan.args, ["-l", "a b"]);
    }

    #[test]
    fn root_searches_the_folders_of_the_superuser_first() {
        let root = Account {
            uid: Uid::from_raw(0),
            ..account("/bin/sh")
        };

        let plan = plan(&root, &[], None, None);

        assert!(
            plan.environment
                .contains(&("PATH".into(), ROOT_PATH.into()))
        );
    }

    fn account(shell: &str) -> Account {
        Account {
            name: "bob".into(),
            uid: Uid::from_raw(1000),
            gid: Gid::from_raw(1000),
            home: "/srv/homes/bob".into(),
            shell: shell.into(),
        }
    }
}
