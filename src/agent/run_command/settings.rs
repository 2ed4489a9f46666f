//! How commands run.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;

use crate::agent::host::control_group::Delegated;
use crate::aws::metadata::Metadata;

/// Commands at a time: the reference's default.
pub const WORKERS: usize = 5;
/// Commands that may wait. The reference takes five and has the service offer the others again and
/// again; a command that waits costs a file.
pub const QUEUE: usize = 1000;
/// How often an agent may start with one command: the reference's default. A command that ends its
/// agent each time is given up then.
pub const START_LIMIT: u32 = 15;
/// How long a command's folder is kept: the reference's default, 14 days.
pub const RETENTION: Duration = Duration::from_hours(336);

/// How long after the program for it the host may take to start anew: a minute until it begins, and what
/// systemd leaves to services that do not want to stop, twice.
const REBOOT_PATIENCE: Duration = Duration::from_mins(5);

/// Most associations that are kept apart.
const ASSOCIATIONS: usize = 1000;

/// How much there is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Commands that run.
    pub running: usize,
    /// Commands that wait for others to end.
    pub queued: usize,
}

/// Associations that somebody wants to be applied now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refresh {
    /// All of them.
    pub all: bool,
    /// These.
    pub some: BTreeSet<String>,
}

impl Refresh {
    /// Adds these; none means all.
    pub(super) fn add(&mut self, ids: Vec<String>) {
        self.all |= ids.is_empty();
        self.some.extend(ids);
        if self.some.len() > ASSOCIATIONS {
            // Nobody has that many.
            *self = Self {
                all: true,
                some: BTreeSet::new(),
            };
        }
    }
}

/// When the files with a step's output are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputCleanUp {
    /// With the command's folder.
    ByAge,
    /// When the step is over.
    AfterExecution,
    /// When they are in S3.
    AfterUpload,
}

/// When a command's folder is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FolderCleanUp {
    /// When it is old.
    ByAge,
    /// When the command has ended well.
    Success,
    /// When the command has ended well or failed.
    SuccessAndFailure,
}

/// How commands run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The node's folder: `<state>/<node id>`.
    pub directory: PathBuf,
    /// Folder where somebody on this host leaves commands, `<state>/localcommands`.
    pub local: PathBuf,
    /// Folder of scripts and output; `None` for the one in the node's folder.
    pub orchestration: Option<PathBuf>,
    /// The node.
    pub node_id: String,
    /// Where it is.
    pub region: String,
    /// Its distribution.
    pub platform_name: String,
    /// The version of that.
    pub platform_version: String,
    /// Commands at a time.
    pub workers: usize,
    /// Commands that may wait.
    pub queue: usize,
    /// How often an agent may start with one command.
    pub start_limit: u32,
    /// How long a command's folder is kept.
    pub retention: Duration,
    /// When output is deleted before that.
    pub output_clean_up: OutputCleanUp,
    /// When the folder is.
    pub folder_clean_up: FolderCleanUp,
    /// Soft limit on open files for scripts: what the agent's own was before it raised it.
    pub open_files: Option<u64>,
    /// Where steps get control groups of their own; `None` where the service manager has handed over
    /// nothing.
    pub control_groups: Option<Delegated>,
    /// Agents in containers take no commands, as in the reference.
    pub in_container: bool,
    /// Starts the host anew in a minute.
    pub reboot: Vec<OsString>,
    /// How long that may take; the command that asked for it fails then.
    pub reboot_patience: Duration,
    /// The places of PowerShell: the first one where it is counts.
    pub powershell: Vec<PathBuf>,
    /// The program that containers are run with.
    pub docker: PathBuf,
    /// The program that clones repositories.
    pub git: PathBuf,
    /// Where GitHub's API is.
    pub github: String,
    /// Shows how much there is to do.
    pub load: watch::Sender<Load>,
    /// The metadata of the instance, on EC2.
    pub metadata: Option<Metadata>,
    /// Collects associations that are to be applied now, until whoever applies them takes them.
    pub refresh: watch::Sender<Refresh>,
}

impl Settings {
    /// The defaults for a node whose folder is `directory`.
    pub fn new(directory: PathBuf, node_id: &str) -> Self {
        Self {
            local: directory.with_file_name("localcommands"),
            directory,
            orchestration: None,
            node_id: node_id.to_owned(),
            region: String::new(),
            platform_name: String::new(),
            platform_version: String::new(),
            workers: WORKERS,
            queue: QUEUE,
            start_limit: START_LIMIT,
            retention: RETENTION,
            output_clean_up: OutputCleanUp::ByAge,
            folder_clean_up: FolderCleanUp::ByAge,
            open_files: None,
            control_groups: None,
            in_container: false,
            // As the reference does it: whoever is logged in sees it coming.
            reboot: ["/sbin/shutdown", "-r", "+1"].map(OsString::from).to_vec(),
            reboot_patience: REBOOT_PATIENCE,
            // As in the reference.
            powershell: ["/usr/bin/powershell", "/usr/bin/pwsh"]
                .map(PathBuf::from)
                .to_vec(),
            docker: "docker".into(),
            git: "git".into(),
            github: "https://api.github.com".to_owned(),
            load: watch::Sender::default(),
            metadata: None,
            refresh: watch::Sender::default(),
        }
    }

    /// The folder of the agent's state, which is that of all nodes which this host was.
    pub(super) fn state_folder(&self) -> &Path {
        self.directory.parent().unwrap_or(&self.directory)
    }

    /// Folder of scripts and output of all commands.
    pub(super) fn orchestration(&self) -> PathBuf {
        self.orchestration
            .clone()
            .unwrap_or_else(|| self.directory.join("document/orchestration"))
    }
}
