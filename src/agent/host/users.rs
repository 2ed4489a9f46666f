//! Accounts of the host, and the account that sessions of a root agent run as.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, User, geteuid};
use tracing::info;

/// The account that sessions of a root agent run as.
pub const SSM_USER: &str = "ssm-user";
/// The file that lets [`SSM_USER`] use sudo, inside the sudoers folder.
const SUDOERS_FILE: &str = "ssm-agent-users";
/// Its content, as the reference agent writes it.
const SUDOERS_RULES: &str = "# User rules for ssm-user\nssm-user ALL=(ALL) NOPASSWD:ALL\n";
/// Its mode; sudo refuses files that others may write.
const SUDOERS_MODE: u32 = 0o440;
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
    /// The sudoers file cannot be written.
    #[error("cannot write {}", path.display())]
    Sudoers {
        /// The file.
        path: PathBuf,
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

/// Makes [`SSM_USER`] when it is first needed.
#[derive(Debug)]
pub struct SsmUser {
    name: &'static str,
    useradd: PathBuf,
    sudoers: PathBuf,
    one_at_a_time: Mutex<()>,
}

impl Default for SsmUser {
    fn default() -> Self {
        Self {
            name: SSM_USER,
            useradd: "useradd".into(),
            sudoers: "/etc/sudoers.d".into(),
            one_at_a_time: Mutex::new(()),
        }
    }
}

impl SsmUser {
    /// Gives the account; makes it first, with its right to use sudo, if it does not exist.
    ///
    /// It may take as long as the tool that makes users: call it where blocking is allowed.
    ///
    /// # Errors
    /// [`UserError`].
    pub fn ensure(&self) -> Result<Account, UserError> {
        let _turn = self
            .one_at_a_time
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = Account::find(self.name)? {
            return Ok(account);
        }
        self.create()?;
        info!(user = self.name, "created the user that sessions run as");
        write_sudoers(&self.sudoers)?;
        Account::named(self.name)
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

/// Writes the sudoers file unless it exists; either way it gets its mode. A host without the folder
/// has no sudo and needs no file.
fn write_sudoers(folder: &Path) -> Result<(), UserError> {
    let path = folder.join(SUDOERS_FILE);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o640)
        .open(&path)
        .and_then(|mut file| file.write_all(SUDOERS_RULES.as_bytes()))
        .or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Ok(()),
            _ => Err(error),
        })
        .and_then(|()| std::fs::set_permissions(&path, Permissions::from_mode(SUDOERS_MODE)));
    match written {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|source| UserError::Sudoers { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

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
        let users = SsmUser {
            name: "root",
            useradd: "/nonexistent/useradd".into(),
            ..SsmUser::default()
        };

        assert_eq!(users.ensure().unwrap().uid, Uid::from_raw(0));
    }

    #[test]
    fn failing_tool_is_quoted_in_the_error() {
        let folder = tempfile::tempdir().unwrap();
        let users = SsmUser {
            name: "no-such-user-here",
            useradd: script(folder.path(), "echo 'cannot lock /etc/passwd' >&2; exit 1"),
            sudoers: folder.path().into(),
            one_at_a_time: Mutex::new(()),
        };

        let error = users.ensure().unwrap_err().to_string();

        assert!(
            error.contains("exit status: 1: cannot lock /etc/passwd"),
            "{error}"
        );
        assert!(!folder.path().join(SUDOERS_FILE).exists());
    }

    #[test]
    fn tool_is_asked_for_a_user_with_a_home_and_sudoers_follow() {
        let folder = tempfile::tempdir().unwrap();
        let users = SsmUser {
            name: "no-such-user-here",
            useradd: script(folder.path(), "echo \"$@\" > \"$(dirname \"$0\")/asked\""),
            sudoers: folder.path().into(),
            one_at_a_time: Mutex::new(()),
        };

        let error = users.ensure().unwrap_err();

        assert!(matches!(error, UserError::Unknown { .. }), "{error}");
        let asked = fs::read_to_string(folder.path().join("asked")).unwrap();
        assert_eq!(asked, "-m no-such-user-here\n");
        assert!(folder.path().join(SUDOERS_FILE).exists());
    }

    #[test]
    fn missing_tool_is_named_in_the_error() {
        let users = SsmUser {
            name: "no-such-user-here",
            useradd: "/nonexistent/useradd".into(),
            ..SsmUser::default()
        };

        let error = users.ensure().unwrap_err().to_string();

        assert!(
            error.contains("/nonexistent/useradd cannot be run"),
            "{error}"
        );
    }

    #[test]
    fn sudoers_file_has_the_reference_s_rules_and_mode() {
        let folder = tempfile::tempdir().unwrap();

        write_sudoers(folder.path()).unwrap();

        let path = folder.path().join(SUDOERS_FILE);
        assert_eq!(fs::read_to_string(&path).unwrap(), SUDOERS_RULES);
        assert_eq!(mode_of(&path), SUDOERS_MODE);
    }

    #[test]
    fn existing_sudoers_file_keeps_its_content_and_gets_the_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SUDOERS_FILE);
        fs::write(&path, "# mine\n").unwrap();

        write_sudoers(folder.path()).unwrap();

        assert_eq!(fs::read_to_string(&path).unwrap(), "# mine\n");
        assert_eq!(mode_of(&path), SUDOERS_MODE);
    }

    #[test]
    fn host_without_sudo_needs_no_sudoers_file() {
        let folder = tempfile::tempdir().unwrap();

        write_sudoers(&folder.path().join("missing")).unwrap();
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

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }
}
