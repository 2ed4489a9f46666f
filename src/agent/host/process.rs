//! The processes of one session: waiting for the leader and ending all of them.
//!
//! The leader stays unreaped (a zombie once it exited) until the clean-up is over, so that its
//! process id, which is the session's id in the kernel, cannot be given to anyone else meanwhile.

use std::time::Duration;

use super::control_group::ControlGroup;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, getsid};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

/// Number a shell adds to the signal that killed a command.
const SIGNAL_EXIT_BASE: i32 = 128;
/// First wait between two looks at what is left of a session; doubles up to [`LONGEST_LOOK`].
const FIRST_LOOK: Duration = Duration::from_millis(2);
/// Longest wait between two looks.
const LONGEST_LOOK: Duration = Duration::from_millis(50);
/// How long killed processes may take to vanish; only uninterruptible system calls take longer.
const KILL_PATIENCE: Duration = Duration::from_millis(500);
/// How long a login that PAM began may take to end once nobody is left in it but who attends it. Modules
/// may ask a directory service or the login manager.
const ATTENDANT_PATIENCE: Duration = Duration::from_secs(3);
/// How long a dropped session may block its thread until its killed processes are gone.
const DROP_PATIENCE: Duration = Duration::from_millis(50);

/// How a leader ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// By itself, with this code.
    Exited(i32),
    /// Killed by this signal.
    Signaled(Signal),
}

impl ExitStatus {
    /// The status as a shell gives it: the exit code, or 128 plus the signal's number.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(signal) => SIGNAL_EXIT_BASE + signal as i32,
        }
    }
}

/// A session of processes that was started by us: the leader and all that did not leave its session, or
/// its control group if it has one.
///
/// Dropping it kills what is left without grace.
#[derive(Debug)]
pub struct Processes {
    leader: Pid,
    child_signals: Option<SignalStream>,
    group: Option<ControlGroup>,
    /// The leader is none of the user's processes, but who ends their login after them.
    is_attended: bool,
    reaped: bool,
}

impl Processes {
    /// Takes over a child of this process that is a session leader, or is about to become one, and
    /// that nobody else waits for.
    pub fn led_by(leader: Pid) -> Self {
        Self {
            leader,
            child_signals: None,
            group: None,
            is_attended: false,
            reaped: false,
        }
    }

    /// The leader enters this group of its own: whoever is in it ends with the session.
    pub fn within(mut self, group: Option<ControlGroup>) -> Self {
        self.group = group;
        self
    }

    /// Whether the leader stays outside of the group to end the login when all others are gone: it is
    /// left the time for that.
    pub fn attended(mut self, is_attended: bool) -> Self {
        self.is_attended = is_attended;
        self
    }

    /// The leader's process id, also the kernel's session id.
    pub fn leader(&self) -> Pid {
        self.leader
    }

    /// Waits until the leader has ended. Cancel-safe; once it ended, every further call returns at
    /// once.
    ///
    /// It wakes by SIGCHLD, which works on every kernel, and costs neither thread nor descriptor.
    pub async fn exited(&mut self) -> ExitStatus {
        let signals = match &mut self.child_signals {
            Some(signals) => signals,
            none => {
                // Listening begins before the first look, so that no exit falls between the two.
                let signals = signal(SignalKind::child())
                    .expect("SIGCHLD may be listened to, and a session runs on a tokio runtime");
                let signals = none.insert(signals);
                if let Some(status) = peek(self.leader) {
                    self.child_signals = None;
                    return status;
                }
                signals
            }
        };
        loop {
            signals.recv().await;
            if let Some(status) = peek(self.leader) {
                self.child_signals = None;
                return status;
            }
        }
    }

    /// Signals the leader and its process group, as a terminal does with its foreground job.
    pub fn signal(&self, signal: Signal) {
        match killpg(self.leader, signal) {
            Ok(()) => {}
            // It has not made its group yet, or the group is gone.
            Err(Errno::ESRCH) => send(self.leader, signal),
            Err(error) => debug!(leader = %self.leader, %signal, %error, "cannot signal a group"),
        }
    }

    /// Ends all processes of the session: SIGHUP, and SIGKILL for those that are left after `grace`.
    /// Close the master of their terminal first.
    pub async fn end(mut self, grace: Duration) {
        for member in self.members() {
            send(member, Signal::SIGHUP);
            // A stopped process takes the signal only once it continues.
            send(member, Signal::SIGCONT);
        }
        if !self.gone_within(grace).await {
            debug!(leader = %self.leader, "processes survived the hang-up and are killed");
            let patience = match self.is_attended {
                true => KILL_PATIENCE + ATTENDANT_PATIENCE,
                false => KILL_PATIENCE,
            };
            if !self.killed_within(patience).await {
                let left = self.members();
                warn!(leader = %self.leader, ?left, "processes of the session cannot be ended");
            }
        }
        if let Some(group) = self.group.take() {
            let _ = tokio::task::spawn_blocking(move || group.remove()).await;
        }
        self.reap();
    }

    fn members(&self) -> Vec<Pid> {
        let mut all = members(self.leader);
        if let Some(group) = &self.group {
            let others = group.members();
            let others = others.into_iter().filter(|&pid| !is_dead(pid));
            let others: Vec<_> = others.filter(|pid| !all.contains(pid)).collect();
            all.extend(others);
        }
        all
    }

    async fn gone_within(&mut self, grace: Duration) -> bool {
        let deadline = Instant::now() + grace;
        let mut look = FIRST_LOOK;
        loop {
            if self.members().is_empty() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            // The leader's end is told at once; the others are nobody's children here.
            if peek(self.leader).is_none() {
                let _ = timeout(look, self.exited()).await;
            } else {
                sleep(look).await;
            }
            look = (look * 2).min(LONGEST_LOOK);
        }
    }

    async fn killed_within(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let leader_too = Instant::now() + ATTENDANT_PATIENCE;
        loop {
            // Again each time: a process may have forked between the look and its end.
            let left = self.members();
            if left.is_empty() {
                return true;
            }
            let now = Instant::now();
            if now >= deadline {
                return false;
            }
            self.kill(left, !self.is_attended || now >= leader_too);
            sleep(FIRST_LOOK).await;
        }
    }

    fn kill(&self, left: Vec<Pid>, leader_too: bool) {
        if let Some(group) = &self.group {
            group.kill();
        }
        for member in left {
            if leader_too || member != self.leader {
                send(member, Signal::SIGKILL);
            }
        }
    }

    fn reap(&mut self) {
        if let Some(group) = self.group.take() {
            group.remove();
        }
        if let Ok(WaitStatus::StillAlive) = waitpid(self.leader, Some(WaitPidFlag::WNOHANG)) {
            warn!(leader = %self.leader, "the leader of a session does not end");
        }
        self.reaped = true;
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        // Only a session that panicked or was aborted gets here unreaped.
        if self.reaped {
            return;
        }
        let began = std::time::Instant::now();
        loop {
            let left = self.members();
            let patience = if self.is_attended { 2 } else { 1 } * DROP_PATIENCE;
            if left.is_empty() || began.elapsed() >= patience {
                break;
            }
            self.kill(left, !self.is_attended || began.elapsed() >= DROP_PATIENCE);
            std::thread::sleep(Duration::from_millis(1));
        }
        self.reap();
    }
}

/// How the leader ended, if it has; it stays unreaped.
fn peek(leader: Pid) -> Option<ExitStatus> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    match waitid(Id::Pid(leader), flags) {
        Ok(WaitStatus::Exited(_, code)) => Some(ExitStatus::Exited(code)),
        Ok(WaitStatus::Signaled(_, signal, _)) => Some(ExitStatus::Signaled(signal)),
        Ok(_) | Err(Errno::EINTR) => None,
        Err(error) => {
            // Nobody else reaps it, so this is our own mistake; the session must end all the same.
            debug_assert!(false, "cannot wait for {leader}: {error}");
            Some(ExitStatus::Exited(SIGNAL_EXIT_BASE))
        }
    }
}

/// The living processes whose session is `session`; its leader even before it has made its session.
///
/// `getsid` costs a fraction of a microsecond where reading `/proc/PID/stat` costs about twenty, so
/// hundreds of sessions can end at once.
fn members(session: Pid) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return match peek(session) {
            // Without /proc only the leader is known.
            None => vec![session],
            Some(_) => Vec::new(),
        };
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .map(Pid::from_raw)
        .filter(|&pid| pid == session || getsid(Some(pid)) == Ok(session))
        .filter(|&pid| !is_dead(pid))
        .collect()
}

/// Whether the process is gone or only waits to be reaped.
fn is_dead(pid: Pid) -> bool {
    let Ok(stat) = std::fs::read(format!("/proc/{pid}/stat")) else {
        return true;
    };
    // The state follows the name, which stands in parentheses and may hold any byte.
    let end_of_name = stat.iter().rposition(|&byte| byte == b')');
    let state = end_of_name.and_then(|at| stat.get(at + 2));
    matches!(state, None | Some(b'Z' | b'X' | b'x'))
}

fn send(pid: Pid, signal: Signal) {
    match kill(pid, signal) {
        // It ended by itself meanwhile.
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => debug!(%pid, %signal, %error, "cannot signal a process"),
    }
}

#[cfg(test)]
mod tests;
