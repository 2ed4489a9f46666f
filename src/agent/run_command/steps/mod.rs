//! The plugins, one file each.

mod fleet;
pub(super) mod script;

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use self::script::Shell;
use super::Services;
use super::settings::Settings;
use crate::protocol::wire::command::Status;
use crate::protocol::wire::job::CommandId;

/// Plugins that the reference knows and that do not run on Linux.
const ELSEWHERE: [&str; 4] = [
    "aws:updateAgent",
    "aws:applications",
    "aws:psModule",
    "aws:configureDaemon",
];

/// Whether there is such a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Support {
    /// Here.
    Built,
    /// On other systems.
    Elsewhere,
    /// Not that we knew of.
    Unknown,
}

/// Whether `plugin` can be run.
pub(super) fn support(plugin: &str) -> Support {
    if Shell::of_plugin(plugin).is_some() || fleet::is_plugin(plugin) {
        Support::Built
    } else if ELSEWHERE.contains(&plugin) {
        Support::Elsewhere
    } else {
        Support::Unknown
    }
}

/// A step to run.
#[derive(Clone)]
pub(super) struct Task<'a> {
    pub(super) settings: &'a Settings,
    /// What a plugin has of the rest of the agent.
    pub(super) services: &'a Services,
    pub(super) command: &'a CommandId,
    /// The command's folder.
    pub(super) folder: &'a Path,
    /// The plugin.
    pub(super) plugin: &'a str,
    /// The name of the step; that of the plugin where the schema has no steps.
    pub(super) id: &'a str,
    /// Its inputs: an object.
    pub(super) properties: &'a Value,
    /// Whether an agent began with it in this boot of the host, or in an earlier one.
    pub(super) begun: Begun,
}

/// Whether a step was begun by an earlier run of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begun {
    /// It was not.
    No,
    /// It was, and the host did not start anew since.
    ThisBoot,
    /// It was, and the host did.
    EarlierBoot,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) status: Status,
    pub(super) code: i64,
    /// The start of what it printed, longer than any reply takes.
    pub(super) output: String,
    /// The same of its error output.
    pub(super) error_output: String,
    /// Its files.
    pub(super) streams: Option<Streams>,
}

/// The files with a step's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Streams {
    /// The folder.
    pub(super) folder: PathBuf,
    /// The name of the folder within the plugin's, for keys that are made of it.
    pub(super) name: String,
}

impl Streams {
    /// The file with its output.
    pub(super) fn output(&self) -> PathBuf {
        self.folder.join("stdout")
    }

    /// The file with its error output.
    pub(super) fn error_output(&self) -> PathBuf {
        self.folder.join("stderr")
    }
}

impl Ended {
    /// A step that could not run.
    pub(super) fn failed(why: impl Into<String>) -> Self {
        Self {
            status: Status::Failed,
            code: 1,
            output: String::new(),
            error_output: why.into(),
            streams: None,
        }
    }

    /// A step that was cancelled before it began.
    pub(super) fn cancelled() -> Self {
        Self {
            status: Status::Cancelled,
            error_output: String::new(),
            ..Self::failed("")
        }
    }
}

/// Runs a step to its end; `cancel` ends it early.
pub(super) async fn run(task: Task<'_>, cancel: &CancellationToken) -> Ended {
    match Shell::of_plugin(task.plugin) {
        Some(shell) => script::run(task, shell, cancel).await,
        None if fleet::is_plugin(task.plugin) => fleet::run(task, cancel).await,
        // Who calls has asked for support first.
        None => Ended::failed(format!("Plugin with name {} not found", task.plugin)),
    }
}

/// The name of a plugin or of a set of properties as part of a path.
pub(super) fn without_colons(name: &str) -> String {
    name.replace(':', "")
}
