//! The process that stays beside a session which PAM has begun: it waits for the session's end as root,
//! has PAM end it, and ends as it did.
//!
//! ```text
//! ssm-login (root, leads the session of processes) --fork--> -bash (the user's, foreground of the terminal)
//! ```
//!
//! Whatever the agent, the terminal or systemd tell the leader is meant for the shell and passed on.

use std::fs::File;
use std::io::{self, IsTerminal as _};

use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal, killpg, raise};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, getppid, setpgid, setsid, tcsetpgrp};

use super::detach::Report;
use super::pam::Login;
use super::presence::Presence;
use crate::agent::host::sys;
use crate::runtime::exit;

/// What it is called in lists of processes: it is no agent. At most 15 bytes, by the kernel's rule.
const NAME: &str = "ssm-login";
/// What is passed on.
const PASSED_ON: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCONT,
];
/// The first process of the host, which ends sessions too: systemd by order of its login manager.
const INIT: u32 = 1;
/// Number a shell adds to the signal that killed a command.
const SIGNAL_EXIT_BASE: i32 = 128;

/// Becomes two processes and returns in that of the user, with signals blocked, in a process group of
/// its own in the foreground. The other one stays; when the user's has ended it ends `login` and
/// `presence`, and then likewise.
///
/// # Errors
/// What the kernel says.
pub(super) fn leave_behind(
    login: Login,
    presence: Option<Presence>,
    report: &mut Option<Report>,
) -> io::Result<()> {
    SigSet::all().thread_block()?;
    match sys::fork_process() {
        Ok(None) => {
            login.leave();
            come_forward()
        }
        Ok(Some(user)) => {
            // From now on the user's process tells of a failure.
            drop(report.take());
            let status = attend(user);
            if let Some(presence) = presence {
                presence.end();
            }
            end(login);
            end_like(status)
        }
        Err(error) => {
            if let Some(presence) = presence {
                presence.end();
            }
            login.end();
            Err(error)
        }
    }
}

/// Ends the login in a process that is none of the session's: what PAM's modules start for it must not
/// be taken for what the user has left behind.
fn end(login: Login) {
    match sys::fork_process() {
        Ok(None) => {
            let _ = setsid();
            // Modules expect what they start to hear signals.
            let _ = SigSet::all().thread_unblock();
            login.end();
            std::process::exit(0);
        }
        Ok(Some(ending)) => {
            login.leave();
            while waitpid(ending, None) == Err(Errno::EINTR) {}
        }
        Err(_) => login.end(),
    }
}

/// Makes the user's process the leader of the terminal's foreground group.
fn come_forward() -> io::Result<()> {
    let own = Pid::this();
    setpgid(own, own)?;
    let input = io::stdin();
    if input.is_terminal() {
        tcsetpgrp(&input, own)?;
    }
    Ok(())
}

fn attend(user: Pid) -> WaitStatus {
    // Whichever of the two is first; the other one finds it done.
    let _ = setpgid(user, user);
    // Only people read it.
    let _ = std::fs::write("/proc/self/comm", NAME);
    if let Err(error) = let_go() {
        eprintln!("warning: cannot let go of the session's streams: {error}");
    }
    let signals = SignalFd::new(&SigSet::all());
    loop {
        match waitpid(user, Some(WaitPidFlag::WNOHANG)) {
            Ok(status @ (WaitStatus::Exited(..) | WaitStatus::Signaled(..))) => return status,
            Ok(_) | Err(Errno::EINTR) => {}
            // It was nobody's child: there is nothing to wait for.
            Err(_) => return WaitStatus::StillAlive,
        }
        match signals.as_ref().map(SignalFd::read_signal) {
            Ok(Ok(Some(told))) => {
                let signal = i32::try_from(told.ssi_signo)
                    .ok()
                    .and_then(|number| Signal::try_from(number).ok());
                if let Some(signal) = signal.filter(|signal| is_for_the_user(*signal, told.ssi_pid))
                {
                    let _ = killpg(user, signal);
                }
            }
            Ok(Ok(None) | Err(Errno::EINTR)) => {}
            // Without signals there is still an end to wait for.
            Ok(Err(_)) | Err(_) => return waitpid(user, None).unwrap_or(WaitStatus::StillAlive),
        }
    }
}

/// When the host goes down, whoever carries the session ends it with that reason; systemd, which would
/// end what the login manager calls a session at the same moment, must not come first.
fn is_for_the_user(signal: Signal, sender: u32) -> bool {
    let is_shutdown = || sender == INIT && getppid().as_raw() != 1 && host_is_going_down();
    PASSED_ON.contains(&signal) && !is_shutdown()
}

/// Whether systemd, if it is there, is on its way down.
fn host_is_going_down() -> bool {
    let asked = std::process::Command::new("systemctl")
        .arg("is-system-running")
        .output();
    asked.is_ok_and(|said| said.stdout.trim_ascii() == b"stopping")
}

/// Nobody must wait for the end of the session's output until this process ends, too.
fn let_go() -> io::Result<()> {
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&nothing)?;
    dup2_stdout(&nothing)?;
    dup2_stderr(&nothing)?;
    Ok(())
}

/// Ends as the user's process did, for who asks how the session ended.
fn end_like(status: WaitStatus) -> ! {
    let code = match status {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => {
            // The user's process may have left a core; there is nothing to see in this one's.
            let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
            let _ = sys::default_signals();
            let _ = raise(signal);
            SIGNAL_EXIT_BASE + signal as i32
        }
        _ => exit::FAILURE.into(),
    };
    std::process::exit(code)
}
