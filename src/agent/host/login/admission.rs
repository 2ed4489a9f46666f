//! Says whether an account may run a session, as far as it can be told from outside.
//!
//! The agent asks before it starts a session, for an answer at the client; the login step asks
//! again, as it alone knows who the account is when it counts.

use std::ffi::OsStr;
use std::path::PathBuf;

use crate::agent::host::users::Account;

/// Shells whose purpose is to refuse a login.
const REFUSING_SHELLS: [&str; 2] = ["nologin", "false"];

/// Why an account cannot run a session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It has root's rights, or those of root's group.
    #[error("user {user} cannot run sessions: invalid uid and gid")]
    Privileged {
        /// The user.
        user: String,
    },
    /// It is not meant for logins.
    #[error("user {user} may not log in: the account's shell is {}", shell.display())]
    NoLogin {
        /// The user.
        user: String,
        /// The shell that refuses.
        shell: PathBuf,
    },
    /// Its shell is not there.
    #[error("user {user} cannot log in: the account's shell {} does not exist", shell.display())]
    NoShell {
        /// The user.
        user: String,
        /// The shell.
        shell: PathBuf,
    },
}

/// What an account is to be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purpose {
    /// The process has to become that user, and is not theirs already.
    pub is_switch: bool,
    /// A command is run instead of the login shell.
    pub is_command: bool,
}

/// Checks an account.
///
/// # Errors
/// [`Refusal`].
pub fn admit(account: &Account, purpose: Purpose) -> Result<(), Refusal> {
    let user = || account.name.clone();
    let shell = || account.shell.clone();
    let is_privileged = account.uid.is_root() || account.gid.as_raw() == 0;
    if purpose.is_switch && is_privileged {
        return Err(Refusal::Privileged { user: user() });
    }
    if refuses(account) && (purpose.is_switch || !purpose.is_command) {
        return Err(Refusal::NoLogin {
            user: user(),
            shell: shell(),
        });
    }
    let names_shell = !account.shell.as_os_str().is_empty();
    if names_shell && !purpose.is_command && !account.shell.exists() {
        return Err(Refusal::NoShell {
            user: user(),
            shell: shell(),
        });
    }
    Ok(())
}

fn refuses(account: &Account) -> bool {
    let name = account.shell.file_name().and_then(OsStr::to_str);
    name.is_some_and(|name| REFUSING_SHELLS.contains(&name))
}

#[cfg(test)]
mod tests {
    use nix::unistd::{Gid, Uid};

    use super::*;

    const LOGIN: Purpose = Purpose {
        is_switch: true,
        is_command: false,
    };
    const COMMAND: Purpose = Purpose {
        is_switch: true,
        is_command: true,
    };
    const OWN_COMMAND: Purpose = Purpose {
        is_switch: false,
        is_command: true,
    };

    #[test]
    fn ordinary_account_is_admitted() {
        for shell in ["/bin/sh", ""] {
            assert_eq!(admit(&account(1000, 1000, shell), LOGIN), Ok(()));
        }
    }

    #[test]
    fn nobody_becomes_root_or_gets_its_group() {
        for (uid, gid) in [(0, 0), (0, 1000), (1000, 0)] {
            let refusal = admit(&account(uid, gid, "/bin/sh"), COMMAND).unwrap_err();
            assert_eq!(
                refusal.to_string(),
                "user bob cannot run sessions: invalid uid and gid"
            );
        }
        assert_eq!(admit(&account(0, 0, "/bin/sh"), OWN_COMMAND), Ok(()));
    }

    #[test]
    fn refusing_shells_are_refused_even_with_a_command() {
        for shell in ["/usr/sbin/nologin", "/sbin/nologin", "/bin/false"] {
            for purpose in [LOGIN, COMMAND] {
                let refusal = admit(&account(1000, 1000, shell), purpose).unwrap_err();
                assert_eq!(
                    refusal.to_string(),
                    format!("user bob may not log in: the account's shell is {shell}")
                );
            }
        }
    }

    #[test]
    fn own_account_needs_no_shell_for_a_command() {
        for shell in ["/usr/sbin/nologin", "/nonexistent/shell"] {
            assert_eq!(admit(&account(1000, 1000, shell), OWN_COMMAND), Ok(()));
        }
    }

    #[test]
    fn missing_shell_matters_to_logins_only() {
        let account = account(1000, 1000, "/nonexistent/zsh");

        assert_eq!(
            admit(&account, LOGIN).unwrap_err().to_string(),
            "user bob cannot log in: the account's shell /nonexistent/zsh does not exist"
        );
        assert_eq!(admit(&account, COMMAND), Ok(()));
    }

    fn account(uid: u32, gid: u32, shell: &str) -> Account {
        Account {
            name: "bob".into(),
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(gid),
            home: "/srv/homes/bob".into(),
            shell: shell.into(),
        }
    }
}
