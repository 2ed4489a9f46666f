//! Processes without a terminal: their output comes through pipes, one for both streams or one each.
//!
//! They run through the login step, whose report of a failure comes through a pipe of its own.

use std::ffi::OsString;
use std::io::{self, PipeReader};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::Pid;
use tokio::io::unix::AsyncFd;

use super::process::Processes;
use super::pty::{Output, next_burst, read_burst};
use super::sys;

/// What to spawn. The environment is the whole environment.
#[derive(Debug, Clone)]
pub struct Command {
    /// Absolute path of the program.
    pub program: PathBuf,
    /// Its arguments, without the program itself.
    pub args: Vec<OsString>,
    /// Its environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Where its output goes.
    pub streams: Streams,
}

/// Where the output of a process goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    /// Output and error output through one pipe, in the order they are written.
    Merged,
    /// Each through a pipe of its own.
    Separate,
}

/// A process that was spawned.
#[derive(Debug)]
pub struct Spawned {
    /// Its output; with [`Streams::Merged`] its error output too.
    pub output: Pipe,
    /// Its error output.
    pub error: Option<Pipe>,
    /// What it is told to say on its standard input; see [`super::login`].
    pub report: Pipe,
    /// The process, about to lead a session of its own.
    pub processes: Processes,
}

/// Why nothing was spawned.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The kernel gives no pipe.
    #[error("cannot make a pipe")]
    Pipe(#[source] io::Error),
    /// The program cannot be started.
    #[error("cannot start {}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Spawns a process that makes itself the leader of a session.
///
/// It forks, so it may take milliseconds: call it where blocking is allowed.
///
/// # Errors
/// [`SpawnError`].
///
/// # Panics
/// Outside of a tokio runtime.
pub fn spawn(command: &Command) -> Result<Spawned, SpawnError> {
    let (report, reported) = pipe()?;
    let (output, written) = pipe()?;
    let (error, error_written) = match command.streams {
        Streams::Merged => (None, written.try_clone().map_err(SpawnError::Pipe)?),
        Streams::Separate => {
            let (error, written) = pipe()?;
            (Some(error), written)
        }
    };
    // It holds the writing ends, so it must be gone before the pipes are read to their end.
    let child = process::Command::new(&command.program)
        .args(&command.args)
        .env_clear()
        .envs(
            command
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        )
        .current_dir("/")
        .stdin(reported)
        .stdout(written)
        .stderr(error_written)
        .spawn()
        .map_err(|source| SpawnError::Start {
            program: command.program.clone(),
            source,
        })?;
    let leader = i32::try_from(child.id()).expect("the kernel's process ids are positive i32");
    Ok(Spawned {
        output,
        error,
        report,
        processes: Processes::led_by(Pid::from_raw(leader)),
    })
}

fn pipe() -> Result<(Pipe, io::PipeWriter), SpawnError> {
    let (reader, writer) = io::pipe().map_err(SpawnError::Pipe)?;
    let reader = Pipe::new(reader).map_err(SpawnError::Pipe)?;
    Ok((reader, writer))
}

/// The reading end of a pipe.
#[derive(Debug)]
pub struct Pipe {
    reader: AsyncFd<OwnedFd>,
}

impl Pipe {
    fn new(reader: PipeReader) -> io::Result<Self> {
        let reader = OwnedFd::from(reader);
        // The two ends of a pipe have flags of their own: the process's end keeps blocking.
        let flags = OFlag::from_bits_truncate(fcntl(&reader, FcntlArg::F_GETFL)?);
        fcntl(&reader, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self {
            reader: sys::watch(reader)?,
        })
    }

    /// Waits for bytes or the end; never gives [`Output::None`]. Cancel-safe.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn read(&self) -> io::Result<Output> {
        next_burst(&self.reader, may_have_more).await
    }

    /// Looks for bytes without waiting.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn read_now(&self) -> io::Result<Output> {
        read_burst(self.reader.get_ref(), may_have_more)
    }

    /// Most bytes that the kernel keeps in the pipe.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn capacity(&self) -> io::Result<usize> {
        let capacity = fcntl(self.reader.get_ref(), FcntlArg::F_GETPIPE_SZ)?;
        Ok(usize::try_from(capacity).unwrap_or_default())
    }
}

/// A pipe is read until it is empty: what was written to it can be read at once.
fn may_have_more(_reader: &OwnedFd) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::sys::signal::Signal;
    use tokio::time::timeout;

    use super::*;
    use crate::agent::host::process::ExitStatus;

    #[tokio::test]
    async fn streams_come_apart_or_in_the_order_they_were_written() {
        const SCRIPT: &str = "printf one; printf two >&2; printf three";
        let apart = sh(SCRIPT, Streams::Separate);
        let merged = sh(SCRIPT, Streams::Merged);

        assert_eq!(all(&apart.output).await, b"onethree");
        assert_eq!(all(apart.error.as_ref().unwrap()).await, b"two");
        assert_eq!(all(&merged.output).await, b"onetwothree");
        assert!(merged.error.is_none());
    }

    #[tokio::test]
    async fn report_comes_through_the_standard_input() {
        let mut spawned = sh("echo no good >&0; exit 3", Streams::Merged);

        assert_eq!(all(&spawned.report).await, b"no good\n");
        assert_eq!(
            soon(spawned.processes.exited()).await,
            ExitStatus::Exited(3)
        );
    }

    #[tokio::test]
    async fn what_was_written_before_the_end_is_found_without_waiting() {
        let mut spawned = session("sleep 1000 & printf left");
        soon(spawned.processes.exited()).await;

        let found = spawned.output.read_now().unwrap();

        assert_eq!(found, Output::Bytes("left".into()));
        assert_eq!(spawned.output.read_now().unwrap(), Output::None);
        assert!(spawned.output.capacity().unwrap() >= 4096);
        spawned.processes.end(Duration::from_secs(10)).await;
    }

    #[tokio::test]
    async fn signal_reaches_the_whole_group() {
        let mut spawned = session("sleep 1000 & printf ready; wait; printf never");
        assert_eq!(
            soon(spawned.output.read()).await.unwrap(),
            Output::Bytes("ready".into())
        );

        spawned.processes.signal(Signal::SIGTERM);

        let status = soon(spawned.processes.exited()).await;
        assert_eq!(status, ExitStatus::Signaled(Signal::SIGTERM));
        // Its end shows that the sleep is gone too.
        assert_eq!(all(&spawned.output).await, b"");
    }

    #[tokio::test]
    async fn process_that_leads_no_session_yet_is_ended() {
        let spawned = sh("exec sleep 1000", Streams::Merged);
        let leader = spawned.processes.leader();

        spawned.processes.end(Duration::from_secs(10)).await;

        assert!(!std::path::Path::new(&format!("/proc/{leader}")).exists());
    }

    #[tokio::test]
    async fn program_that_cannot_be_started_is_named() {
        let command = Command {
            program: "/nonexistent/agent".into(),
            args: Vec::new(),
            environment: Vec::new(),
            streams: Streams::Merged,
        };

        let error = spawn(&command).unwrap_err();

        assert_eq!(error.to_string(), "cannot start /nonexistent/agent");
    }

    /// A shell that leads a session of its own.
    fn session(script: &str) -> Spawned {
        sh(&format!("exec setsid sh -c '{script}'"), Streams::Merged)
    }

    fn sh(script: &str, streams: Streams) -> Spawned {
        let command = Command {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            environment: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())],
            streams,
        };
        spawn(&command).unwrap()
    }

    async fn all(pipe: &Pipe) -> Vec<u8> {
        let mut all = Vec::new();
        while let Output::Bytes(bytes) = soon(pipe.read()).await.unwrap() {
            all.extend_from_slice(&bytes);
        }
        all
    }

    async fn soon<F: Future>(future: F) -> F::Output {
        timeout(Duration::from_secs(20), future)
            .await
            .expect("it should have happened long ago")
    }
}
