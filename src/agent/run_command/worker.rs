//! What a worker of the reference agent has of a command: its process, which outlives the agent, and its
//! channel, in which it tells how steps ended.
//!
//! | in the node's folder | what |
//! |---|---|
//! | `channels/<command>/worker-<time>-<number>` | a message, JSON: `version`, `type`, `content` |
//!
//! The content of the types `reply` and `complete` is the text of a result that has all steps which are
//! over. Nobody answers the worker any more: it is waited for, and then what it told is read.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use tracing::{info, warn};

use super::settings::Settings;
use super::state::{DocumentResult, StepResult};
use super::steps::kill_with_variable;
use crate::protocol::wire::job::CommandId;

/// The worker's program, whose argument is the command.
const PROGRAM: &str = "ssm-document-worker";
/// How long a worker is waited for, as in the reference: the longest time that a script may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(172_800);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Longest message that is read: that of the largest results, as for a state.
const MESSAGE_LIMIT: u64 = 16 << 20;

/// A worker, or what is left of it.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    command: CommandId,
    channel: PathBuf,
    /// While it lives.
    process: Option<Pid>,
}

/// What a worker told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// How steps ended, by name.
    pub(super) results: BTreeMap<String, StepResult>,
    /// There is nothing more to come.
    pub(super) is_complete: bool,
}

#[derive(Deserialize)]
struct Message {
    #[serde(rename = "type")]
    kind: String,
    content: String,
}

impl Worker {
    /// The worker of a command that another agent began, if it lives or has left its channel.
    pub(super) fn left(settings: &Settings, command: &CommandId) -> Option<Self> {
        let worker = Self {
            command: command.clone(),
            channel: settings.directory.join("channels").join(command.as_str()),
            process: find(command),
        };
        (worker.process.is_some() || worker.channel.is_dir()).then_some(worker)
    }

    /// Waits until it has told everything, or is no more.
    pub(super) async fn ended(&self) {
        while let Some(process) = self.process
            && is_worker(process, &self.command)
            && !self.told().is_complete
        {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends it and what it runs.
    pub(super) async fn kill(&self) {
        if let Some(process) = self.process
            && is_worker(process, &self.command)
            && let Err(error) = kill(process, Signal::SIGKILL)
        {
            warn!(command = %self.command, %process, %error, "cannot end a worker of another agent");
        }
        kill_with_variable(&format!("SSM_COMMAND_ID={}", self.command)).await;
    }

    /// What it told so far.
    pub(super) fn told(&self) -> Told {
        let entries = fs::read_dir(&self.channel).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries
            .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"worker-"))
            .map(|entry| entry.path())
            .collect();
        // Later ones know more.
        paths.sort();
        let mut told = Told::default();
        for path in paths {
            match read(&path) {
                Ok(Some((result, is_complete))) => {
                    told.results.extend(result.plugin_results);
                    told.is_complete |= is_complete;
                }
                Ok(None) => {}
                Err(error) => {
                    warn!(path = %path.display(), %error, "what a worker of another agent told cannot be read");
                }
            }
        }
        told
    }

    /// Deletes its channel.
    pub(super) fn forget(&self) {
        match fs::remove_dir_all(&self.channel) {
            Ok(()) => info!(command = %self.command, "the channel of another agent is deleted"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                warn!(command = %self.command, %error, "the channel of another agent cannot be deleted");
            }
        }
    }
}

/// The result in a message, and whether it is the last one.
fn read(path: &Path) -> io::Result<Option<(DocumentResult, bool)>> {
    let mut text = Vec::new();
    File::open(path)?
        .take(MESSAGE_LIMIT)
        .read_to_end(&mut text)?;
    let message: Message = serde_json::from_slice(&text)?;
    let is_complete = match message.kind.as_str() {
        "reply" => false,
        "complete" => true,
        _ => return Ok(None),
    };
    Ok(Some((serde_json::from_str(&message.content)?, is_complete)))
}

fn find(command: &CommandId) -> Option<Pid> {
    let entries = fs::read_dir("/proc").ok()?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut pids = pids.map(Pid::from_raw);
    pids.find(|&pid| is_worker(pid, command))
}

/// Whether the process is the worker of the command, and lives: the command line of a zombie is empty.
fn is_worker(pid: Pid, command: &CommandId) -> bool {
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else {
        return false;
    };
    let arguments: Vec<&[u8]> = line.split(|&byte| byte == 0).collect();
    arguments.windows(2).any(|pair| {
        let program = pair[0].rsplit(|&byte| byte == b'/').next();
        program == Some(PROGRAM.as_bytes()) && pair[1] == command.as_str().as_bytes()
    })
}
