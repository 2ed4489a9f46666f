//! `aws:runShellScript` and `aws:runPowerShellScript`, and what other plugins run: scripts of packages,
//! programs.
//!
//! ```text
//! agent --spawns--> sh (wrapper, leads a process group) --> the script or program
//!                    |  stdout, stderr: files, nothing passes through the agent
//!                    +- pid: itself, before the script; exit: the script's status, after it
//! ```
//!
//! The script outlives the agent. An agent that finds a step begun looks for the wrapper by its
//! process id and its command line, and waits for it or takes the status that it left.
//!
//! Unlike the reference, which waits until nobody holds the output open, a step is over when its
//! script is: what the script left in the background goes on. A cancelled step and one that is too
//! late are killed whole, with everything in the step's control group and everything that has its
//! mark in the environment.

mod inputs;
mod shared_credentials;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::inputs::Inputs;
use self::shared_credentials::SharedCredentials;
use super::processes::{self, Processes, SHELL};
use super::{Begun, Ended, Streams, Task, without_colons};
use crate::agent::run_command::settings::Settings;
use crate::protocol::wire::command::{STREAM_LIMIT, Status};
use crate::runtime::atomic_file;

/// Script exit code that asks for a reboot.
const REBOOT: i64 = 194;
/// Script exit code that ends the document well.
pub(in super::super) const EXIT_WELL: i64 = 168;
/// Script exit code that ends the document.
pub(in super::super) const EXIT_BADLY: i64 = 169;
/// The code of what was killed.
const KILLED: i64 = 137;
/// What is read of a stream: more than a reply takes, so that it is seen to be longer.
const READ_LIMIT: u64 = STREAM_LIMIT as u64 + 8;
/// How often a wrapper that is not our child is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long a killed wrapper may take to be reaped.
const REAP_PATIENCE: Duration = Duration::from_secs(1);
/// Where a script runs unless told otherwise: where the reference's worker does.
const DEFAULT_DIRECTORY: &str = "/usr/bin";
/// Variables by which systemd and the agent know each other; a script has no part in that.
const NOT_INHERITED: [&str; 5] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_FDS",
    "LISTEN_PID",
];

/// The wrapper. Its arguments: where it notes its own id and the script's status, the folder of the
/// step's control group, the limit on open files, and what to run. The agent protects itself from the
/// kernel's memory killer and its files from everybody; the script is not to inherit that.
const WRAPPER: &str = r#"
echo $$ >"$1"
note=$2
[ -z "$3" ] || { echo 0 >"$3/cgroup.procs"; } 2>/dev/null
[ -z "$4" ] || ulimit -S -n "$4"
{ echo 0 >/proc/self/oom_score_adj; } 2>/dev/null
umask 022
shift 4
"$@"
code=$?
umask 077
echo $code >"$note"
exit $code
"#;

/// Which shell reads the script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Shell {
    /// `sh`, or what the script's first line names.
    Posix,
    /// PowerShell.
    Power,
}

impl Shell {
    /// The shell of a plugin.
    pub(in super::super) fn of_plugin(plugin: &str) -> Option<Self> {
        match plugin {
            "aws:runShellScript" => Some(Self::Posix),
            "aws:runPowerShellScript" => Some(Self::Power),
            _ => None,
        }
    }

    fn file_name(self) -> &'static str {
        match self {
            Self::Posix => "_script.sh",
            Self::Power => "_script.ps1",
        }
    }

    /// What PowerShell needs to take a file for UTF-8.
    fn mark(self) -> &'static str {
        match self {
            Self::Posix => "",
            Self::Power => "\u{feff}",
        }
    }

    /// Program and arguments that run `script`, whose content is `text`.
    fn command(self, settings: &Settings, script: &Path, text: &str) -> Vec<PathBuf> {
        match self {
            // Executed by its path, so that its first line is honoured.
            Self::Posix if text.starts_with("#!") => vec![script.to_owned()],
            Self::Posix => vec![SHELL.into(), script.to_owned()],
            Self::Power => {
                let programs = &settings.powershell;
                let found = programs.iter().find(|program| program.exists());
                let program = found.or(programs.last()).cloned().unwrap_or_default();
                vec![program, "-f".into(), script.to_owned()]
            }
        }
    }
}

/// What a step runs.
#[derive(Debug, Clone)]
enum Work {
    /// The lines of its inputs.
    Script(Shell),
    /// A program and its arguments; no shell reads them.
    Program(Vec<PathBuf>),
}

impl Work {
    /// Puts on disk what is run, and tells program and arguments.
    fn prepare(
        &self,
        settings: &Settings,
        inputs: &Inputs,
        folder: &Path,
    ) -> io::Result<Vec<PathBuf>> {
        match self {
            Self::Script(shell) => {
                let script = folder.join(shell.file_name());
                let text = format!("{}{}\n", shell.mark(), inputs.lines.join("\n"));
                write_script(&script, &text)?;
                Ok(shell.command(settings, &script, &text))
            }
            Self::Program(argv) => Ok(argv.clone()),
        }
    }
}

/// The files of a script.
struct Files {
    /// Where it and the wrapper's notes are.
    folder: PathBuf,
    pid: PathBuf,
    exit: PathBuf,
    streams: Streams,
}

impl Files {
    /// Their places, which are the reference's: the script's folder is not that of the streams but
    /// where the schema has no steps.
    fn of(task: &Task<'_>, set: &str) -> Self {
        let (folder, streams) = task.places(set);
        Self {
            pid: folder.join("pid"),
            exit: folder.join("exit"),
            folder,
            streams,
        }
    }
}

/// How a wrapper ended.
#[derive(Clone, Copy)]
enum End {
    /// With this code.
    Code(i64),
    /// A signal ended it, not the script.
    Signal(i32),
    /// Nobody knows.
    Unknown(&'static str),
    /// We ended it.
    TimedOut,
    /// We ended it.
    Cancelled,
}

/// Runs a script to its end, or goes on with one.
pub(super) async fn run(task: Task<'_>, shell: Shell, cancel: &CancellationToken) -> Ended {
    run_work(task, Work::Script(shell), cancel).await
}

/// Runs a program to its end as a script is run, or goes on with one. Of the inputs it takes the
/// folder, the time and the environment.
pub(super) async fn run_program(
    task: Task<'_>,
    argv: Vec<PathBuf>,
    cancel: &CancellationToken,
) -> Ended {
    run_work(task, Work::Program(argv), cancel).await
}

/// Forgets that a script ran, and what it printed.
pub(super) fn forget(task: &Task<'_>) -> io::Result<()> {
    let files = Files::of(task, "");
    let streams = &files.streams;
    for path in [
        &files.pid,
        &files.exit,
        &streams.output(),
        &streams.error_output(),
    ] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

async fn run_work(task: Task<'_>, work: Work, cancel: &CancellationToken) -> Ended {
    let inputs = match Inputs::read(task.properties) {
        Ok(inputs) => inputs,
        Err(text) => return Ended::failed(text),
    };
    let files = Files::of(&task, &without_colons(&inputs.id));
    if task.begun != Begun::No
        && let Some(end) = go_on(&task, &inputs, &files, cancel).await
    {
        return conclude(files, end);
    }
    if cancel.is_cancelled() {
        return Ended::cancelled();
    }
    let processes = Processes::new(&task);
    let (mut child, began) = match begin(&task, &work, &inputs, &files, &processes) {
        Ok(begun) => begun,
        Err(text) => {
            processes.let_go();
            return Ended::failed(text);
        }
    };
    let Some(leader) = child.id().and_then(|id| i32::try_from(id).ok()) else {
        return Ended::failed("failed to run commands: the process has no id");
    };
    let leader = Pid::from_raw(leader);
    let end = tokio::select! {
        ended = child.wait() => match ended {
            Ok(status) => end_of(status),
            Err(_) => End::Unknown("its end cannot be waited for"),
        },
        () = cancel.cancelled() => End::Cancelled,
        () = tokio::time::sleep(remaining(began, inputs.timeout)) => End::TimedOut,
    };
    if !matches!(end, End::Cancelled | End::TimedOut) {
        processes.let_go();
    } else {
        processes.kill_with(leader).await;
        // What hangs in the kernel is left to it, as the reference does at once.
        let _ = tokio::time::timeout(REAP_PATIENCE, child.wait()).await;
    }
    conclude(files, end)
}

fn end_of(status: std::process::ExitStatus) -> End {
    use std::os::unix::process::ExitStatusExt;

    match (status.code(), status.signal()) {
        (Some(code), _) => End::Code(code.into()),
        (None, Some(signal)) => End::Signal(signal),
        (None, None) => End::Unknown("its process ended in no known way"),
    }
}

/// Goes on with a script that an earlier run of the agent began; `None` if it was not begun after
/// all.
async fn go_on(
    task: &Task<'_>,
    inputs: &Inputs,
    files: &Files,
    cancel: &CancellationToken,
) -> Option<End> {
    let processes = Processes::left(task);
    if let Some(code) = noted(&files.exit) {
        processes.let_go();
        return Some(End::Code(code));
    }
    if task.begun == Begun::EarlierBoot {
        return Some(End::Unknown("the host was restarted while it ran"));
    }
    while noted(&files.pid).is_none() && is_held(&files.streams.output()) {
        // It was started, and has not come to its first line.
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = cancel.cancelled() => break,
        }
    }
    let leader = Pid::from_raw(i32::try_from(noted(&files.pid)?).ok()?);
    let began = fs::metadata(&files.pid).and_then(|metadata| metadata.modified());
    let began = began.unwrap_or_else(|_| SystemTime::now());
    if processes::is_wrapper(leader, &files.exit) {
        info!(command = %task.command, step = task.id, %leader, "going on with a step that runs");
    }
    let ended = async {
        while processes::is_wrapper(leader, &files.exit) {
            tokio::time::sleep(LOOK).await;
        }
    };
    let end = tokio::select! {
        () = ended => {
            processes.let_go();
            return Some(match noted(&files.exit) {
                Some(code) => End::Code(code),
                None => End::Unknown("its process ended while the agent was away"),
            });
        }
        () = cancel.cancelled() => End::Cancelled,
        () = tokio::time::sleep(remaining(began, inputs.timeout)) => End::TimedOut,
    };
    processes.kill_with(leader).await;
    Some(end)
}

/// Whether a process has the step's output open. The lock on it goes to the wrapper when it is made,
/// before it can write down who it is.
fn is_held(output: &Path) -> bool {
    File::open(output).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// The number in a file that the wrapper wrote.
fn noted(path: &Path) -> Option<i64> {
    let mut text = String::new();
    let file = File::open(path).ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    // Without its newline it was cut off.
    text.strip_suffix('\n')?.parse().ok()
}

fn remaining(began: SystemTime, timeout: Duration) -> Duration {
    // A clock that was set back makes it begin now.
    let elapsed = began.elapsed().unwrap_or_default();
    timeout.saturating_sub(elapsed)
}

/// Writes the script and starts the wrapper.
fn begin(
    task: &Task<'_>,
    work: &Work,
    inputs: &Inputs,
    files: &Files,
    processes: &Processes,
) -> Result<(Child, SystemTime), String> {
    let folder = &files.folder;
    let made = atomic_file::create_private_dir(folder)
        .and_then(|()| atomic_file::create_private_dir(&files.streams.folder));
    made.map_err(|error| {
        let folder = folder.display();
        format!("failed to create orchestrationDir directory, {folder}: {error}")
    })?;
    // From an earlier boot, in which the script asked for this one.
    for stale in [&files.pid, &files.exit] {
        let _ = fs::remove_file(stale);
    }
    let argv = processes::without_forks(|| work.prepare(task.settings, inputs, folder))
        .map_err(|error| format!("failed to create script file. {error}"))?;
    if let (Work::Script(Shell::Power), Some(program)) = (work, argv.first())
        && !program.exists()
    {
        // The reference's words.
        let program = program.display();
        return Err(format!(
            "failed to run commands: fork/exec {program}: no such file or directory"
        ));
    }
    let stream =
        |path| append(path).map_err(|error| format!("failed to create output file. {error}"));
    let output = stream(files.streams.output())?;
    // Where the file system has no locks, the agent that comes next sees less (`is_held`).
    let _ = output.try_lock_shared();
    let error_output = stream(files.streams.error_output())?;
    let directory = directory(task, inputs);
    let mut command = Command::new(SHELL);
    command
        .args(["-c", WRAPPER, "sh"])
        .args([&files.pid, &files.exit])
        .arg(processes.group_folder())
        .arg(
            task.settings
                .open_files
                .map(|limit| limit.to_string())
                .unwrap_or_default(),
        )
        .args(argv)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(error_output)
        .process_group(0);
    set_environment(&mut command, task, inputs, work);
    let began = SystemTime::now();
    match processes::spawn(&mut command) {
        Ok(child) => Ok((child, began)),
        // The reference's words; what is missing may be the working directory.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(
            "failed to run commands: fork/exec /usr/bin/sh: no such file or directory".to_owned(),
        ),
        Err(error) => Err(format!(
            "failed to run commands: fork/exec /usr/bin/sh: {error}"
        )),
    }
}

/// Written under its own name: nobody runs it before it is whole, and after a crash it is written
/// again.
fn write_script(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write;

    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o700)
        .open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o700))?;
    file.write_all(text.as_bytes())
}

fn append(path: PathBuf) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

/// An absolute folder as it is; any other below the command's downloads, if it is there.
fn directory(task: &Task<'_>, inputs: &Inputs) -> PathBuf {
    let wanted = Path::new(&inputs.directory);
    if wanted.is_absolute() {
        return wanted.to_owned();
    }
    let downloads = task.downloads().join(wanted);
    if downloads.exists() {
        downloads
    } else {
        DEFAULT_DIRECTORY.into()
    }
}

fn set_environment(command: &mut Command, task: &Task<'_>, inputs: &Inputs, work: &Work) {
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    command.envs(&inputs.environment);
    if matches!(work, Work::Script(Shell::Power)) {
        command.env_remove("TERM").env("HOME", "/");
    }
    let settings = task.settings;
    if matches!(work, Work::Script(_)) {
        command.envs(SharedCredentials::of_node(settings).variables());
    }
    command
        .env(processes::MARKER, task.mark())
        .env("SSM_COMMAND_ID", task.command.as_str())
        .env("AWS_SSM_INSTANCE_ID", &settings.node_id)
        .env("AWS_SSM_REGION_NAME", &settings.region)
        .env("AWS_SSM_PLATFORM_NAME", &settings.platform_name)
        .env("AWS_SSM_PLATFORM_VERSION", &settings.platform_version);
}

/// Reads what the script printed and says how it ended.
fn conclude(files: Files, end: End) -> Ended {
    let (status, code, why) = match end {
        End::Code(0) => (Status::Success, 0, None),
        End::Code(REBOOT) => (Status::SuccessAndReboot, REBOOT, None),
        // As the reference has it, whoever killed the script.
        End::Code(KILLED) | End::TimedOut => (Status::TimedOut, KILLED, None),
        End::Cancelled => (Status::Cancelled, KILLED, None),
        End::Code(code) => (Status::Failed, code, Some(format!("exit status {code}"))),
        End::Signal(signal) => {
            let name = nix::sys::signal::Signal::try_from(signal)
                .map_or_else(|_| signal.to_string(), signal_text);
            (Status::Failed, -1, Some(format!("signal: {name}")))
        }
        End::Unknown(why) => (Status::Failed, -1, Some(why.to_owned())),
    };
    if let Some(why) = why {
        let text = format!("failed to run commands: {why}");
        if let Err(error) = append_text(files.streams.error_output(), &text) {
            warn!(%error, "cannot note why a step failed");
        }
    }
    Ended {
        status,
        code,
        output: start_of(&files.streams.output()),
        error_output: start_of(&files.streams.error_output()),
        streams: Some(files.streams),
    }
}

/// The words of the C library for the signals that end a shell.
fn signal_text(signal: nix::sys::signal::Signal) -> String {
    use nix::sys::signal::Signal;

    match signal {
        Signal::SIGKILL => "killed".to_owned(),
        Signal::SIGTERM => "terminated".to_owned(),
        Signal::SIGHUP => "hangup".to_owned(),
        Signal::SIGINT => "interrupt".to_owned(),
        other => other.as_str().to_owned(),
    }
}

fn append_text(path: PathBuf, text: &str) -> io::Result<()> {
    use std::io::Write;

    append(path)?.write_all(text.as_bytes())
}

/// The start of a stream as text; bytes that are none are shown as such.
pub(super) fn start_of(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(READ_LIMIT).read_to_end(&mut bytes));
    if let Err(error) = read {
        warn!(path = %path.display(), %error, "the output of a step cannot be read");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests;
