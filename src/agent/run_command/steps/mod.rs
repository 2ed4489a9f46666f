//! The plugins, one file each.

mod docker;
mod download;
mod fleet;
mod package;
mod processes;
mod run_document;
pub(super) mod script;
mod ssm_document;
mod update;

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub(super) use self::processes::{kill_with_variable, remove_empty_groups};
use self::script::Shell;
use super::Services;
use super::runner::blocking;
use super::settings::Settings;
use crate::protocol::wire::command::Status;
use crate::protocol::wire::job::CommandId;
use crate::runtime::atomic_file;

/// Downloads content.
const DOWNLOAD_CONTENT: &str = "aws:downloadContent";
/// Runs another document.
const RUN_DOCUMENT: &str = "aws:runDocument";
/// Installs and uninstalls packages.
const CONFIGURE_PACKAGE: &str = "aws:configurePackage";
/// Runs docker.
const RUN_DOCKER_ACTION: &str = "aws:runDockerAction";
/// Installs and uninstalls docker.
const CONFIGURE_DOCKER: &str = "aws:configureDocker";
/// Updates the agent.
const UPDATE_AGENT: &str = "aws:updateSsmAgent";
/// Sends measurements to CloudWatch, on Windows.
const CLOUD_WATCH: &str = "aws:cloudWatch";
/// Joins a domain.
const DOMAIN_JOIN: &str = "aws:domainJoin";
/// Plugins that run here, but for scripts, and those that say why they do not.
const BUILT: [&str; 8] = [
    CLOUD_WATCH,
    DOMAIN_JOIN,
    DOWNLOAD_CONTENT,
    RUN_DOCUMENT,
    CONFIGURE_PACKAGE,
    RUN_DOCKER_ACTION,
    CONFIGURE_DOCKER,
    UPDATE_AGENT,
];

/// Plugins that the reference knows and that do not run on Linux.
const ELSEWHERE: [&str; 4] = [
    "aws:updateAgent",
    "aws:applications",
    "aws:psModule",
    "aws:configureDaemon",
];

/// Panics, to see what becomes of that.
#[cfg(test)]
pub(super) const CRASH: &str = "aws:crash";

/// What a step is told that wants the host to join a domain. The reference does it on Linux, so that who
/// sent the document counts on it.
const NO_DOMAIN: &str = "This agent does not join domains. Nothing was changed. To join one, run the programs of the distribution for it in a step of aws:runShellScript.";

/// What a step of CloudWatch is told: the reference's words on Linux.
const NO_CLOUD_WATCH: &str = "Plugin aws:cloudWatch is not registered by agent";

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
    #[cfg(test)]
    if plugin == CRASH {
        return Support::Built;
    }
    if Shell::of_plugin(plugin).is_some() || BUILT.contains(&plugin) || fleet::is_plugin(plugin) {
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
    /// The folder of its document: that of the command, or of the step that runs the document.
    pub(super) folder: &'a Path,
    /// The boot of the host.
    pub(super) boot_id: &'a str,
    /// The names of the steps that it is part of, each followed by a slash.
    pub(super) within: &'a str,
    /// How many those are.
    pub(super) depth: u32,
    /// The plugin.
    pub(super) plugin: &'a str,
    /// The name of the step; that of the plugin where the schema has no steps.
    pub(super) id: &'a str,
    /// Its inputs: an object.
    pub(super) properties: &'a Value,
    /// Whether an agent began with it in this boot of the host, or in an earlier one.
    pub(super) begun: Begun,
}

impl Task<'_> {
    /// Where a set of its properties has its files, and where its streams are: the reference's places.
    /// The two differ but where the schema has no steps.
    fn places(&self, set: &str) -> (PathBuf, Streams) {
        let plugin = without_colons(self.plugin);
        let has_steps = self.id != self.plugin;
        let (folder, name) = if has_steps {
            (self.folder.join(self.id).join(set), self.id.to_owned())
        } else {
            (self.folder.join(&plugin).join(set), set.to_owned())
        };
        let streams = Streams {
            folder: self.folder.join(plugin).join(&name),
            name,
        };
        (folder, streams)
    }

    /// What its processes have in their environment, so that they are found.
    pub(super) fn mark(&self) -> String {
        format!("{}/{}{}", self.command, self.within, self.id)
    }

    /// Its own folder.
    pub(super) fn step_folder(&self) -> PathBuf {
        self.folder.join(without_colons(self.id))
    }

    /// Where content goes that has no other destination, and where scripts run that name none.
    pub(super) fn downloads(&self) -> PathBuf {
        // As in the reference, it is the document's where the schema has steps.
        let has_steps = self.id != self.plugin;
        let place = if has_steps {
            self.folder.to_owned()
        } else {
            self.step_folder()
        };
        place.join("downloads")
    }
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
    /// A step that did what it had to, and what it says of it.
    pub(super) fn succeeded(output: impl Into<String>) -> Self {
        Self {
            status: Status::Success,
            code: 0,
            output: output.into(),
            error_output: String::new(),
            streams: None,
        }
    }

    /// The same with what it says in files too, in the places where those of scripts are.
    pub(super) async fn with_streams(mut self, task: &Task<'_>) -> Self {
        let name = without_colons(task.id);
        let streams = Streams {
            folder: task.folder.join(without_colons(task.plugin)).join(&name),
            name,
        };
        let files = [
            (streams.output(), self.output.clone()),
            (streams.error_output(), self.error_output.clone()),
        ];
        let folder = streams.folder.clone();
        let written = blocking(move || {
            atomic_file::create_private_dir(&folder)?;
            for (path, text) in files {
                atomic_file::write_in_order(&path, text.as_bytes(), 0o600)?;
            }
            Ok(())
        });
        match written.await {
            Ok(()) => self.streams = Some(streams),
            Err(error) => warn!(%error, "the output of a step cannot be kept"),
        }
        self
    }

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
    match task.plugin {
        CLOUD_WATCH => Ended::failed(NO_CLOUD_WATCH),
        DOMAIN_JOIN => Ended::failed(NO_DOMAIN),
        CONFIGURE_DOCKER => docker::configure(task, cancel).await,
        CONFIGURE_PACKAGE => package::run(task, cancel).await,
        DOWNLOAD_CONTENT => download::run(task, cancel).await,
        RUN_DOCKER_ACTION => docker::run_action(task, cancel).await,
        RUN_DOCUMENT => run_document::run(task, cancel).await,
        UPDATE_AGENT => update::refuse(&task),
        #[cfg(test)]
        CRASH => panic!("on purpose"),
        plugin if fleet::is_plugin(plugin) => fleet::run(task, cancel).await,
        plugin => match Shell::of_plugin(plugin) {
            Some(shell) => script::run(task, shell, cancel).await,
            // Who calls has asked for support first.
            None => Ended::failed(format!("Plugin with name {plugin} not found")),
        },
    }
}

/// The name of a plugin or of a set of properties as part of a path.
pub(super) fn without_colons(name: &str) -> String {
    name.replace(':', "")
}
