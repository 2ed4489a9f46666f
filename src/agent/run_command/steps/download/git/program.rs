//! Running git: as processes of the step, ended with everything it started when its command is
//! cancelled, when it is too late or when it brings too much.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::unistd::{Pid, Uid, User};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::super::super::super::runner::blocking;
use super::super::super::processes::{self, NO_PROGRAM, Processes};
use super::super::get_options::GetOptions;
use super::super::{BYTES, DownloadError};
use super::Repository;
use super::credentials::Credentials;
use crate::agent::run_command::steps::Task;

/// Longest text of git that is told.
const TEXT: u64 = 4096;
/// How often it is looked how much there is.
const LOOK: Duration = Duration::from_secs(2);
/// How git may reach a repository: not by running what an address says.
const PROTOCOLS: &str = "http:https:ssh:git:file";
/// Settings that take precedence over those of the host: no program that keeps passwords is asked or
/// told, and none runs because a repository was cloned.
const SETTINGS: [&str; 3] = [
    "credential.helper=",
    "credential.useHttpPath=false",
    "core.hooksPath=/dev/null",
];

/// The host's git, for one clone.
pub(super) struct Git<'a> {
    pub(super) task: &'a Task<'a>,
    pub(super) credentials: &'a Credentials,
    /// The folder of the clone.
    pub(super) clone: &'a Path,
    pub(super) cancel: &'a CancellationToken,
    pub(super) deadline: Instant,
}

impl Git<'_> {
    /// Gets the repository, without files yet.
    pub(super) async fn clone(&self, repository: &Repository) -> Result<(), DownloadError> {
        let processes = Processes::new(self.task);
        let mut command = self.command(&processes);
        command
            .args(["clone", "--quiet", "--no-checkout", "--template=", "--"])
            .arg(&repository.address)
            .arg(self.clone);
        // The reference's words.
        let what = format!("Cannot clone repository {}", repository.address);
        self.run(command, processes, &what).await
    }

    /// Makes the files of the wanted state.
    pub(super) async fn check_out(&self, wanted: &GetOptions) -> Result<(), DownloadError> {
        let processes = Processes::new(self.task);
        let mut command = self.command(&processes);
        command.arg("-C").arg(self.clone);
        command.args(["checkout", "--quiet", "--force"]);
        match wanted {
            GetOptions::Default => {}
            GetOptions::Branch(name) => {
                let short = name.strip_prefix("refs/heads/");
                command.arg(short.unwrap_or(name));
            }
            GetOptions::Commit(id) => {
                command.args(["--detach", id]);
            }
        }
        command.arg("--");
        // The reference's words.
        self.run(command, processes, "Cannot checkout").await
    }

    fn command(&self, processes: &Processes) -> Command {
        let mut command = processes.command(&self.task.settings.git);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .env("LC_ALL", "C.UTF-8")
            .env("GIT_ALLOW_PROTOCOL", PROTOCOLS)
            .envs(
                self.credentials
                    .variables()
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // A service has none, and git and ssh look for their settings there.
        if std::env::var_os("HOME").is_none()
            && let Ok(Some(user)) = User::from_uid(Uid::effective())
        {
            command.env("HOME", user.dir);
        }
        command
    }

    async fn run(
        &self,
        mut command: Command,
        processes: Processes,
        what: &str,
    ) -> Result<(), DownloadError> {
        let failed = |why: String| DownloadError::Git {
            what: what.to_owned(),
            why,
        };
        let mut child = match processes::spawn(&mut command) {
            Ok(child) => child,
            Err(error) => {
                processes.let_go();
                return Err(failed(format!("git cannot be started: {error}")));
            }
        };
        let stderr = child.stderr.take();
        let reading = async {
            let mut text = Vec::new();
            if let Some(mut stderr) = stderr {
                let _ = (&mut stderr).take(TEXT).read_to_end(&mut text).await;
                // The rest is read away, so that git does not wait.
                let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
            }
            String::from_utf8_lossy(&text).trim().to_owned()
        };
        let waiting = async { tokio::join!(child.wait(), reading) };
        let ended = tokio::select! {
            ended = waiting => Ok(ended),
            () = self.cancel.cancelled() => Err(DownloadError::Cancelled),
            () = sleep_until(self.deadline) => Err(DownloadError::Late),
            () = self.grows_too_long() => Err(DownloadError::TooLong),
        };
        let (status, text) = match ended {
            Ok(ended) => {
                processes.let_go();
                ended
            }
            Err(failure) => {
                end(processes, &mut child).await;
                return Err(failure);
            }
        };
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) if status.code() == Some(NO_PROGRAM) && text.is_empty() => {
                Err(failed("there is no git on this host".to_owned()))
            }
            Ok(status) if text.is_empty() => Err(failed(status.to_string())),
            Ok(_) => Err(failed(text)),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// Returns once the clone is longer than it may be.
    async fn grows_too_long(&self) {
        loop {
            sleep(LOOK).await;
            let clone = self.clone.to_owned();
            let length = blocking(move || Ok(length_of(&clone))).await;
            if length.is_ok_and(|length| length > BYTES) {
                return;
            }
        }
    }
}

/// Ends what was run, with everything that it started.
async fn end(processes: Processes, child: &mut Child) {
    match child.id().and_then(|id| i32::try_from(id).ok()) {
        Some(leader) => processes.kill_with(Pid::from_raw(leader)).await,
        None => processes.kill().await,
    }
    let _ = tokio::time::timeout(Duration::from_secs(1), child.wait()).await;
}

/// The bytes in the files below `folder`, as far as they can be looked at.
fn length_of(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    let lengths = entries.flatten().map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => length_of(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    lengths.sum()
}
