//! The processes of a step: finding a script's wrapper again, and ending all of them.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tracing::{debug, warn};

/// How often all processes are looked through: one may fork between a look and its end.
const ROUNDS: u32 = 5;
/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(10);

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

/// Ends the process group of `leader`, and whatever else carries the step's mark: what made itself
/// a group or a session of its own.
pub(super) async fn kill_all(leader: Pid, mark: &str) {
    match killpg(leader, Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => warn!(%leader, %error, "cannot kill the processes of a step"),
    }
    kill_marked(mark).await;
}

/// Ends whatever carries the step's mark.
pub(super) async fn kill_marked(mark: &str) {
    for _ in 0..ROUNDS {
        let variable = format!("{MARKER}={mark}");
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
