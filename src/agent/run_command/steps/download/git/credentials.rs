//! What git is told of secrets, in files that are there as long as it runs.
//!
//! | file in the folder | what |
//! |---|---|
//! | `ask` | a program that git asks for name and password; it answers for the repository's host alone |
//! | `user`, `password` | what it answers |
//! | `key` | the private key for SSH |

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::super::super::super::runner::blocking;
use super::super::super::processes;
use super::super::DownloadError;
use super::Repository;
use crate::runtime::atomic_file;

/// The program. Git asks `Username for 'https://host': ` and `Password for 'https://user@host': `.
const ASK: &str = r#"#!/bin/sh
here=${0%/*}
case $1 in
    Username*"/$SSM_GIT_HOST': " | Username*"@$SSM_GIT_HOST': ") cat "$here/user" ;;
    Password*"/$SSM_GIT_HOST': " | Password*"@$SSM_GIT_HOST': ") cat "$here/password" ;;
    *) exit 1 ;;
esac
"#;

/// The files, removed when this is dropped.
#[derive(Debug)]
pub(super) struct Credentials {
    folder: PathBuf,
    /// The variables that tell git of them.
    variables: Vec<(&'static str, String)>,
}

impl Credentials {
    /// Writes them.
    pub(super) async fn write(
        folder: PathBuf,
        repository: &Repository,
    ) -> Result<Self, DownloadError> {
        let shown = folder.display().to_string();
        let (user, password) = (repository.user.clone(), repository.password.clone());
        let key = repository.key.clone();
        let mut credentials = Self {
            folder: folder.clone(),
            variables: vec![("GIT_TERMINAL_PROMPT", "0".to_owned())],
        };
        let has_names = !(user.is_empty() && password.is_empty());
        let has_key = !key.is_empty();
        let written = blocking(move || {
            atomic_file::create_private_dir(&folder)?;
            // Without an answer it is asked all the same, and fails rather than waits.
            processes::without_forks(|| create(&folder.join("ask"), 0o700, ASK))?;
            if has_names {
                create(&folder.join("user"), 0o600, user.expose())?;
                create(&folder.join("password"), 0o600, password.expose())?;
            }
            if has_key {
                let text = key.expose().trim_end();
                create(&folder.join("key"), 0o600, &format!("{text}\n"))?;
            }
            Ok(())
        });
        written
            .await
            .map_err(|cause| DownloadError::Write { path: shown, cause })?;
        let path = |name: &str| credentials.folder.join(name).display().to_string();
        let mut ssh = "ssh -o BatchMode=yes".to_owned();
        if has_key {
            let key = shell_words::quote(&path("key")).into_owned();
            ssh.push_str(&format!(" -i {key} -o IdentitiesOnly=yes"));
        }
        if repository.skips_host_key {
            ssh.push_str(
                " -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
            );
        }
        let ask = path("ask");
        credentials.variables.extend([
            ("GIT_ASKPASS", ask),
            ("GIT_SSH_COMMAND", ssh),
            ("SSM_GIT_HOST", repository.host.clone()),
        ]);
        Ok(credentials)
    }

    /// The variables that tell git of them.
    pub(super) fn variables(&self) -> &[(&'static str, String)] {
        &self.variables
    }
}

impl Drop for Credentials {
    fn drop(&mut self) {
        // There are four files at most.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn create(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    options.open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;
    use crate::aws::Secret;

    #[tokio::test]
    async fn git_is_answered_for_the_host_of_the_repository_alone() {
        let root = tempfile::tempdir().unwrap();
        let mut repository = Repository::parse("https://git.example:8443/a.git").unwrap();
        repository.user = Secret::new("me");
        repository.password = Secret::new("pass $(word) '\"");
        let folder = root.path().join("a folder");

        let credentials = Credentials::write(folder.clone(), &repository)
            .await
            .unwrap();

        let variables = credentials.variables().to_vec();
        let ask = |prompt: &str| {
            let program = &variables
                .iter()
                .find(|(name, _)| *name == "GIT_ASKPASS")
                .unwrap()
                .1;
            let asked = Command::new(program)
                .arg(prompt)
                .envs(variables.iter().map(|(name, value)| (name, value)))
                .output()
                .unwrap();
            let answer = String::from_utf8(asked.stdout).unwrap();
            asked.status.success().then_some(answer)
        };
        assert_eq!(
            ask("Username for 'https://git.example:8443': ").as_deref(),
            Some("me")
        );
        let password = ask("Password for 'https://me@git.example:8443': ");
        assert_eq!(password.as_deref(), Some("pass $(word) '\""));
        for prompt in [
            "Password for 'https://me@evil.example': ",
            "Password for 'https://git.example': ",
            "Password for 'https://evilgit.example:8443': ",
            "Enter passphrase for key: ",
        ] {
            assert_eq!(ask(prompt), None, "{prompt}");
        }
        let mode = fs::metadata(folder.join("password"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        for (_, value) in credentials.variables() {
            assert!(!value.contains("pass $(word)"), "{value}");
        }
        drop(credentials);
        assert!(!folder.exists());
    }

    #[tokio::test]
    async fn key_is_in_a_file_for_its_owner_and_named_to_ssh() {
        let root = tempfile::tempdir().unwrap();
        let mut repository = Repository::parse("git@git.example:a.git").unwrap();
        repository.key = Secret::new("-----BEGIN KEY-----\nx\n-----END KEY-----");
        repository.skips_host_key = true;
        let folder = root.path().join("a folder");

        let credentials = Credentials::write(folder.clone(), &repository)
            .await
            .unwrap();

        let key = fs::read_to_string(folder.join("key")).unwrap();
        assert_eq!(key, "-----BEGIN KEY-----\nx\n-----END KEY-----\n");
        let mode = fs::metadata(folder.join("key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let variables = credentials.variables();
        let ssh = &variables
            .iter()
            .find(|(name, _)| *name == "GIT_SSH_COMMAND")
            .unwrap()
            .1;
        let words = shell_words::split(ssh).unwrap();
        assert!(
            words.contains(&folder.join("key").display().to_string()),
            "{ssh}"
        );
        assert!(ssh.contains("StrictHostKeyChecking=no"), "{ssh}");
    }
}
