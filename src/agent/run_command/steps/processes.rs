//! The processes of a step: finding a script's wrapper again, and ending all of them.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tracing::{debug, warn};

use super::Task;
use crate::agent::host::control_group::ControlGroup;
use crate::agent::run_command::settings::Settings;
use crate::protocol::wire::job::CommandId;

/// How often all processes are looked through: one may fork between a look and its end.
const ROUNDS: u32 = 5;
/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(10);
/// Bytes of a hash that tell the steps of a command apart.
const HASHED: usize = 8;

/// Held while a program is written that will be run, and while a process is made: a process that is
/// made meanwhile has the file open for writing until it becomes a program of its own, and nobody can
/// run it before ("Text file busy").
static FORKS: Mutex<()> = Mutex::new(());

/// Does `work`, which writes a program, while no step makes a process.
pub(super) fn without_forks<T>(work: impl FnOnce() -> T) -> T {
    let _held = FORKS.lock().unwrap_or_else(PoisonError::into_inner);
    work()
}

/// Makes a process.
pub(super) fn spawn(command: &mut Command) -> io::Result<Child> {
    without_forks(|| command.spawn())
}

/// Whether `pid` is the wrapper that notes a status in `exit`, and lives.
pub(super) fn is_wrapper(pid: Pid, exit: &Path) -> bool {
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else {
        return false;
    };
    // A zombie's command line is empty.
    let mut arguments = line.split(|&byte| byte == 0);
    arguments.any(|argument| argument == exit.as_os_str().as_bytes())
}

/// The variable by which the processes of a step are known.
pub(super) const MARKER: &str = "SSM_AGENT_STEP";
/// What the names of the control groups of steps start with.
const GROUPS: &str = "step-";

/// What programs run in that are no scripts; by its place, not by the agent's PATH.
pub(super) const SHELL: &str = "/bin/sh";
/// Exit status of [`ENTER`] where there is no such program: the one that shells have for it.
pub(super) const NO_PROGRAM: i32 = 127;
/// Becomes the program that its arguments after the first name, within the control group whose folder
/// the first names. The agent protects itself from the kernel's memory killer and its files from
/// everybody; the program is not to inherit that.
const ENTER: &str = r#"
[ -z "$1" ] || { echo 0 >"$1/cgroup.procs"; } 2>/dev/null
{ echo 0 >/proc/self/oom_score_adj; } 2>/dev/null
umask 022
shift
command -v "$1" >/dev/null || exit 127
exec "$@"
"#;

/// What holds the processes of a step together: a control group where the service manager has handed over
/// the means, and a mark in their environment. Either may be left by a script that means to: the group
/// by what logs in anew, the mark by what clears its environment.
pub(super) struct Processes {
    mark: String,
    group: Option<ControlGroup>,
}

impl Processes {
    /// For a step that is about to begin. Without a control group it begins all the same.
    pub(super) fn new(task: &Task<'_>) -> Self {
        let mark = task.mark();
        let groups = task.settings.control_groups.as_ref();
        let made = groups.map(|groups| groups.make(&group_name(task.command, &mark)));
        let group = made.and_then(|made| {
            made.inspect_err(|error| warn!(%error, "the step gets no control group of its own"))
                .ok()
        });
        Self { mark, group }
    }

    /// For a step that an earlier run of the agent began.
    pub(super) fn left(task: &Task<'_>) -> Self {
        let mark = task.mark();
        let groups = task.settings.control_groups.as_ref();
        let group = groups.and_then(|groups| groups.find(&group_name(task.command, &mark)));
        Self { mark, group }
    }

    /// The folder of the control group, which the step's first process is to enter; empty if there is
    /// none.
    pub(super) fn group_folder(&self) -> &OsStr {
        let group = self.group.as_ref();
        group.map_or(OsStr::new(""), |group| group.path().as_os_str())
    }

    /// Runs `program`, to which arguments may be added, as a process of the step that leads a process
    /// group.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(SHELL);
        command
            .args(["-c", ENTER, "sh"])
            .arg(self.group_folder())
            .arg(program)
            .env(MARKER, &self.mark)
            .process_group(0);
        command
    }

    /// Ends the process group of `leader` and whatever else belongs to the step.
    pub(super) async fn kill_with(self, leader: Pid) {
        match killpg(leader, Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => warn!(%leader, %error, "cannot kill the processes of a step"),
        }
        self.kill().await;
    }

    /// Ends whatever belongs to the step.
    pub(super) async fn kill(self) {
        let Self { mark, group } = self;
        if let Some(group) = group {
            let ended = tokio::task::spawn_blocking(move || group.end());
            if let Err(error) = ended.await {
                warn!(%error, "cannot end the control group of a step");
            }
        }
        kill_marked(&mark).await;
    }

    /// The step is over; what it left goes on beside the agent.
    pub(super) fn let_go(self) {
        if let Some(group) = self.group {
            group.dissolve();
        }
    }
}

/// Removes the control groups of steps that ended while no agent was there.
pub(in super::super) fn remove_empty_groups(settings: &Settings) {
    if let Some(groups) = &settings.control_groups {
        groups.remove_empty(GROUPS);
    }
}

/// The name is not made of those of steps, which may be longer than a folder's.
fn group_name(command: &CommandId, mark: &str) -> String {
    let hash = digest::digest(&digest::SHA256, mark.as_bytes());
    let hash = hash.as_ref().iter().take(HASHED);
    let hash: String = hash.map(|byte| format!("{byte:02x}")).collect();
    format!("{GROUPS}{command}-{hash}")
}

/// Ends whatever carries the step's mark.
pub(super) async fn kill_marked(mark: &str) {
    kill_with_variable(&format!("{MARKER}={mark}")).await;
}

/// Ends whatever has the variable, `name=value`, in its environment.
pub(in super::super) async fn kill_with_variable(variable: &str) {
    for _ in 0..ROUNDS {
        let variable = variable.to_owned();
        let killed = tokio::task::spawn_blocking(move || kill_once(&variable)).await;
        if killed.unwrap_or_default() == 0 {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Kills everything whose environment has the variable; returns how much that was.
fn kill_once(marked: &str) -> usize {
    let Ok(entries) = fs::read_dir("/proc") else {
        return 0;
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut killed = 0;
    // An agent that a script started has the variable too.
    let others = pids.map(Pid::from_raw).filter(|&pid| pid != Pid::this());
    for pid in others {
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else {
            continue;
        };
        let mut variables = environment.split(|&byte| byte == 0);
        if !variables.any(|variable| variable == marked.as_bytes()) {
            continue;
        }
        match kill(pid, Signal::SIGKILL) {
            Ok(()) => killed += 1,
            Err(error) => debug!(%pid, %error, "cannot kill a process of a step"),
        }
    }
    killed
}
