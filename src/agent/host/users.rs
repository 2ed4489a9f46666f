//! Accounts of the host, and the account that sessions of a root agent run as.

mod sudoers;

use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, User, geteuid};
use tracing::{info, warn};

use sudoers::Sudoers;

/// The account that sessions of a root agent run as.
pub const SSM_USER: &str = "ssm-user";
/// Most of a tool's complaint that goes into an error, in characters.
const COMPLAINT: usize = 300;

/// Why there is no account to run as.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The user database failed.
    #[error("cannot look up user {name}")]
    LookUp {
        /// The user.
        name: String,
        /// What it said.
        #[source]
        source: Errno,
    },
    /// Nobody has that name.
    #[error("user {name} does not exist")]
    Unknown {
        /// The user.
        name: String,
    },
    /// The tool that makes users failed.
    #[error("cannot create user {name}: {} {detail}", tool.display())]
    Create {
        /// The user.
        name: String,
        /// The tool.
        tool: PathBuf,
        /// What it said.
        detail: String,
    },
    /// The right to use sudo cannot be taken away.
    #[error("cannot take the right to use sudo from user {name}")]
    Sudo {
        /// The user.
        name: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// One account, as the user database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// User id.
    pub uid: Uid,
    /// Primary group.
    pub gid: Gid,
    /// Home folder.
    pub home: PathBuf,
    /// Login shell; empty if the database names none.
    pub shell: PathBuf,
}

impl Account {
    /// Finds an account by name; `None` if there is none.
    ///
    /// # Errors
    /// [`UserError::LookUp`].
    pub fn find(name: &str) -> Result<Option<Self>, UserError> {
        let user = User::from_name(name).map_err(|source| UserError::LookUp {
            name: name.to_owned(),
            source,
        })?;
        Ok(user.map(Self::from))
    }

    /// Finds an account by name.
    ///
    /// # Errors
    /// [`UserError::LookUp`], [`UserError::Unknown`].
    pub fn named(name: &str) -> Result<Self, UserError> {
        Self::find(name)?.ok_or_else(|| UserError::Unknown {
            name: name.to_owned(),
        })
    }

    /// The account this process runs as. A user id that the database does not know (containers have
    /// such) is an account whose name is the number, at home in `/`.
    ///
    /// # Errors
    /// [`UserError::LookUp`].
    pub fn current() -> Result<Self, UserError> {
        let uid = geteuid();
        let user = User::from_uid(uid).map_err(|source| UserError::LookUp {
            name: uid.to_string(),
            source,
        })?;
        Ok(user.map_or_else(|| Self::nameless(uid), Self::from))
    }

    fn nameless(uid: Uid) -> Self {
        Self {
            name: uid.to_string(),
            uid,
            gid: nix::unistd::getegid(),
            home: "/".into(),
            shell: PathBuf::new(),
        }
    }
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        Self {
            name: user.name,
            uid: user.uid,
            gid: user.gid,
            home: user.dir,
            shell: user.shell,
        }
    }
}

/// Whether [`SSM_USER`] may use sudo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sudo {
    /// It may when we make it, and nobody looks at it again; as in the reference.
    #[default]
    WhenCreated,
    /// It may.
    On,
    /// It may not, unless by rules of the host's own.
    Off,
}

/// Makes [`SSM_USER`] when it is first needed.
#[derive(Debug)]
pub struct SsmUser {
    name: &'static str,
    useradd: PathBuf,
    sudo: Sudo,
    sudoers: Sudoers,
    one_at_a_time: Mutex<()>,
}

impl SsmUser {
    /// The account, with or without the right to use sudo.
    pub fn new(sudo: Sudo) -> Self {
        Self {
            name: SSM_USER,
            useradd: "useradd".into(),
            sudo,
            sudoers: Sudoers::in_folder("/etc/sudoers.d"),
            one_at_a_time: Mutex::new(()),
        }
    }

    /// Gives the account; makes it first if it does not exist. Its right to use sudo is what it
    /// should be from then on.
    ///
    /// It may take as long as the tool that makes users: call it where blocking is allowed.
    ///
    /// # Errors
    /// [`UserError`]. A right to use sudo that cannot be given is no error, as one may be there to
    /// repair what keeps it from being given.
    pub fn ensure(&self) -> Result<Account, UserError> {
        let _turn = self
            .one_at_a_time
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = Account::find(self.name)? {
            self.settle_sudo(self.sudo)?;
            return Ok(account);
        }
        self.create()?;
        info!(user = self.name, "created the user that sessions run as");
        self.settle_sudo(match self.sudo {
            Sudo::WhenCreated | Sudo::On => Sudo::On,
            Sudo::Off => Sudo::Off,
        })?;
        Account::named(self.name)
    }

    fn settle_sudo(&self, sudo: Sudo) -> Result<(), UserError> {
        match sudo {
            Sudo::WhenCreated => {}
            Sudo::On => {
                if let Err(error) = self.sudoers.give() {
                    warn!(user = self.name, %error, "cannot give the right to use sudo");
                }
            }
            Sudo::Off => self.sudoers.take().map_err(|source| UserError::Sudo {
                name: self.name.to_owned(),
                source,
            })?,
        }
        Ok(())
    }

    fn create(&self) -> Result<(), UserError> {
        let failed = |detail: String| UserError::Create {
            name: self.name.to_owned(),
            tool: self.useradd.clone(),
            detail,
        };
        let output = Command::new(&self.useradd)
            .args(["-m", self.name])
            .output()
            .map_err(|error| failed(format!("cannot be run: {error}")))?;
        if output.status.success() {
            return Ok(());
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        let complaint: String = complaint.trim().chars().take(COMPLAINT).collect();
        Err(failed(format!("ended with {}: {complaint}", output.status)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn current_account_has_this_process_s_user_id() {
        let account = Account::current().unwrap();

        assert_eq!(account.uid, geteuid());
        assert!(account.home.is_absolute());
    }

    #[test]
    fn unknown_user_is_named_in_the_error() {
        let error = Account::named("no-such-user-here").unwrap_err();

        assert_eq!(error.to_string(), "user no-such-user-here does not exist");
    }

    #[test]
    fn existing_user_is_not_created_again() {
        let folder = tempfile::tempdir().unwrap();
        let users = users("root", "/nonexistent/useradd".into(), folder.path());

        assert_eq!(users.ensure().unwrap().uid, Uid::from_raw(0));
        assert!(!sudoers_file(folder.path()).exists());
    }

    #[test]
    fn right_to_use_sudo_is_given_and_taken_as_configured() {
        let folder = tempfile::tempdir().unwrap();
        let with = |sudo| SsmUser {
            sudo,
            ..users("root", "/nonexistent/useradd".into(), folder.path())
        };

        with(Sudo::On).ensure().unwrap();
        assert!(sudoers_file(folder.path()).exists());
        with(Sudo::WhenCreated).ensure().unwrap();
        assert!(sudoers_file(folder.path()).exists());
        with(Sudo::Off).ensure().unwrap();
        assert!(!sudoers_file(folder.path()).exists());
    }

    #[test]
    fn right_that_cannot_be_taken_refuses_the_session_and_one_that_cannot_be_given_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("no-folder");
        fs::write(&file, "").unwrap();
        let with = |sudo| SsmUser {
            sudo,
            ..users("root", "/nonexistent/useradd".into(), &file)
        };

        assert!(with(Sudo::On).ensure().is_ok());
        let error = with(Sudo::Off).ensure().unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot take the right to use sudo from user root"
        );
    }

    #[test]
    fn failing_tool_is_quoted_in_the_error() {
        let folder = tempfile::tempdir().unwrap();
        let useradd = script(folder.path(), "echo 'cannot lock /etc/passwd' >&2; exit 1");
        let users = users("no-such-user-here", useradd, folder.path());

        let error = users.ensure().unwrap_err().to_string();

        assert!(
            error.contains("exit status: 1: cannot lock /etc/passwd"),
            "{error}"
        );
        assert!(!sudoers_file(folder.path()).exists());
    }

    #[test]
    fn tool_is_asked_for_a_user_with_a_home_and_sudoers_follow() {
        let folder = tempfile::tempdir().unwrap();
        let useradd = script(folder.path(), "echo \"$@\" > \"$(dirname \"$0\")/asked\"");
        let users = users("no-such-user-here", useradd, folder.path());

        let error = users.ensure().unwrap_err();

        assert!(matches!(error, UserError::Unknown { .. }), "{error}");
        let asked = fs::read_to_string(folder.path().join("asked")).unwrap();
        assert_eq!(asked, "-m no-such-user-here\n");
        assert!(sudoers_file(folder.path()).exists());
    }

    #[test]
    fn missing_tool_is_named_in_the_error() {
        let folder = tempfile::tempdir().unwrap();
        let missing = "/nonexistent/useradd".into();

        let error = users("no-such-user-here", missing, folder.path())
            .ensure()
            .unwrap_err()
            .to_string();

        assert!(
            error.contains("/nonexistent/useradd cannot be run"),
            "{error}"
        );
    }

    fn users(name: &'static str, useradd: PathBuf, sudoers: &Path) -> SsmUser {
        SsmUser {
            name,
            useradd,
            sudo: Sudo::default(),
            sudoers: Sudoers::in_folder(sudoers),
            one_at_a_time: Mutex::new(()),
        }
    }

    fn sudoers_file(folder: &Path) -> PathBuf {
        folder.join("ssm-agent-users")
    }

    /// Another process writes the file: a descriptor of ours, inherited by a process that another
    /// test starts at that moment, would keep the file from being executed.
    fn script(folder: &Path, body: &str) -> PathBuf {
        let path = folder.join("useradd");
        let written = Command::new("sh")
            .args([
                "-c",
                "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$0\" && chmod 755 \"$0\"",
            ])
            .arg(&path)
            .arg(body)
            .status();
        assert!(written.unwrap().success());
        path
    }
}
