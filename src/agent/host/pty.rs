//! A pseudo-terminal and the process session on it.
//!
//! The program is started without a fork of the agent (`posix_spawn`): a fork copies the page tables
//! of all sessions, and `portable-pty`, which forks, has the child close every descriptor that the
//! agent has open, so that each session would be started more slowly than the one before. In return
//! the program makes itself the leader of a session with the terminal; the
//! [login step](super::login) does.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::stat;
use nix::sys::termios::{LocalFlags, OutputFlags, SetArg, tcgetattr, tcsetattr};
use nix::unistd::Pid;
use tokio::io::unix::AsyncFd;

use super::process::Processes;
use super::sys;
use super::utf8::LONGEST_BEGINNING;
use crate::protocol::wire::TerminalSize;
use crate::protocol::wire::features::LARGE_PAYLOAD;

/// Most bytes of one read. The kernel hands out at most 4095 at a time; several are put together, so
/// that bulk output makes large messages. With an incomplete character before it, it is one message.
pub const READ_SIZE: usize = LARGE_PAYLOAD - LONGEST_BEGINNING;
/// Most bytes the kernel keeps between a process and the master: 64 KiB of buffers and the 4 KiB of
/// the line discipline, rounded up.
pub const KERNEL_BUFFER: usize = 128 << 10;

/// A read of as much belongs to bulk output, of which there is more to come.
const BULK: usize = 1024;
/// How long a read of bulk output looks out for more. The kernel brings it within 20 us when a
/// processor is free, and nine times of ten within this on two busy ones; a person does not notice it.
const REFILL: Duration = Duration::from_micros(60);

/// What to spawn on a terminal. The environment is the whole environment.
#[derive(Debug, Clone)]
pub struct Command {
    /// Absolute path of the program.
    pub program: PathBuf,
    /// Its arguments, without the program itself.
    pub args: Vec<OsString>,
    /// Its environment.
    pub environment: Vec<(OsString, OsString)>,
    /// What the terminal does with bytes.
    pub mode: Mode,
}

/// What a terminal does with bytes at its start; programs on it may change that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// For people: input is echoed, `\n` is put out as `\r\n`.
    #[default]
    Interactive,
    /// For programs: no echo, output is passed as it is.
    Plain,
}

/// Why there is no terminal.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The kernel gives none.
    #[error("cannot open a pseudo-terminal")]
    Open(#[source] io::Error),
    /// It cannot be set up.
    #[error("cannot set up the pseudo-terminal")]
    SetUp(#[source] io::Error),
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

/// The master of a pseudo-terminal. Dropping it hangs the terminal up.
#[derive(Debug)]
pub struct Pty {
    master: AsyncFd<OwnedFd>,
}

/// What a look at the output found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Bytes, at least one.
    Bytes(Bytes),
    /// Nothing for now.
    None,
    /// Nobody has the terminal open any more.
    End,
}

/// Opens a terminal of `size` and spawns `command` on it. The program has to make itself the leader
/// of a session with this terminal, as the [login step](super::login) does.
///
/// It may take milliseconds: call it where blocking is allowed.
///
/// # Errors
/// [`SpawnError`].
///
/// # Panics
/// Outside of a tokio runtime.
pub fn spawn(command: &Command, size: TerminalSize) -> Result<(Pty, Processes), SpawnError> {
    let (master, terminal) = open_pair().map_err(|error| SpawnError::Open(error.into()))?;
    let pty = Pty::new(master, command.mode, size).map_err(SpawnError::SetUp)?;
    let child = start(command, terminal).map_err(|source| SpawnError::Start {
        program: command.program.clone(),
        source,
    })?;
    let leader = i32::try_from(child.id()).expect("a process id is a positive pid_t");
    Ok((pty, Processes::led_by(Pid::from_raw(leader))))
}

/// Opens both ends of a pseudo-terminal; the master is non-blocking. Neither survives an exec, also
/// of a process that another thread starts meanwhile.
fn open_pair() -> nix::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = posix_openpt(flags | OFlag::O_NONBLOCK)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname_r(&master)?;
    let terminal = open(name.as_str(), flags, stat::Mode::empty())?;
    Ok((master.into(), terminal))
}

fn start(command: &Command, terminal: OwnedFd) -> io::Result<std::process::Child> {
    std::process::Command::new(&command.program)
        .args(&command.args)
        .env_clear()
        .envs(
            command
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        )
        .current_dir("/")
        .stdin(Stdio::from(terminal.try_clone()?))
        .stdout(Stdio::from(terminal.try_clone()?))
        .stderr(Stdio::from(terminal))
        .spawn()
}

impl Pty {
    fn new(master: OwnedFd, mode: Mode, size: TerminalSize) -> io::Result<Self> {
        sys::set_terminal_size(master.as_fd(), size)?;
        match mode {
            Mode::Interactive => {}
            Mode::Plain => {
                let mut modes = tcgetattr(&master)?;
                modes.output_flags.remove(OutputFlags::OPOST);
                modes.local_flags.remove(LocalFlags::ECHO);
                tcsetattr(&master, SetArg::TCSANOW, &modes)?;
            }
        }
        Ok(Self {
            master: sys::watch(master)?,
        })
    }

    /// Waits for output; never gives [`Output::None`]. Cancel-safe.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn read(&self) -> io::Result<Output> {
        next_burst(&self.master, refills).await
    }

    /// Looks for output without waiting. What a process had written before it ended is found.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn read_now(&self) -> io::Result<Output> {
        read_burst(self.master.get_ref(), refills)
    }

    /// Writes some of `bytes` as if typed, as soon as the terminal takes any; gives their number.
    /// Cancel-safe.
    ///
    /// # Errors
    /// What the kernel says, `EIO` if nobody has the terminal open.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let mut guard = self.master.writable().await?;
            let attempt = guard.try_io(|master| Ok(nix::unistd::write(master, bytes)?));
            match attempt {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }

    /// Sets the terminal's size.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn resize(&self, size: TerminalSize) -> io::Result<()> {
        sys::set_terminal_size(self.master.as_fd(), size)
    }
}

/// Waits for something to [read](read_burst), or for the end. Cancel-safe.
pub(super) async fn next_burst(
    descriptor: &AsyncFd<OwnedFd>,
    has_more: fn(&OwnedFd) -> bool,
) -> io::Result<Output> {
    loop {
        let mut guard = descriptor.readable().await?;
        match read_burst(guard.get_inner(), has_more)? {
            Output::None => guard.clear_ready(),
            found => return Ok(found),
        }
    }
}

/// Reads until nothing is there or [`READ_SIZE`] is reached. `has_more` is asked before reading on
/// after a large read.
///
/// The buffer lives on the stack, so that an idle session keeps none, and what is returned takes
/// only the memory it needs.
pub(super) fn read_burst(
    descriptor: &OwnedFd,
    has_more: fn(&OwnedFd) -> bool,
) -> io::Result<Output> {
    let mut buffer = [0; READ_SIZE];
    let mut filled = 0;
    let stopped = loop {
        match nix::unistd::read(descriptor, &mut buffer[filled..]) {
            Ok(0) => break Output::End,
            Ok(count) => {
                filled += count;
                if filled == READ_SIZE || (count >= BULK && !has_more(descriptor)) {
                    break Output::None;
                }
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => break Output::None,
            // A terminal's way to say that the other side is closed and everything was read.
            Err(Errno::EIO) => break Output::End,
            Err(error) if filled == 0 => return Err(error.into()),
            Err(_) => break Output::None,
        }
    };
    Ok(match filled {
        0 => stopped,
        _ => Output::Bytes(Bytes::copy_from_slice(&buffer[..filled])),
    })
}

/// Whether more of the bulk output of a terminal comes within [`REFILL`].
///
/// Of a terminal's output 4 KiB can be read at a time; a thread of the kernel's, woken by each read,
/// brings the next. A read that comes before that thread is done sleeps until it is, so that every
/// 4 KiB cost two wake-ups, of processors that have gone idle meanwhile. Looking until it is there
/// more than doubles the speed and takes less processor time.
fn refills(master: &OwnedFd) -> bool {
    let began = Instant::now();
    loop {
        match sys::unread(master.as_fd()) {
            Ok(0) if began.elapsed() < REFILL => thread::yield_now(),
            Ok(count) => return count > 0,
            // The next read says what is the matter.
            Err(_) => return true,
        }
    }
}

#[cfg(test)]
mod tests;
