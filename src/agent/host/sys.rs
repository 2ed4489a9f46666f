//! The system calls that have no safe wrapper, and below, in `pam`, those of a library that is loaded:
//! the only two files with `unsafe`.
//!
//! One small function per call. Everything else goes through `nix` or the standard library.

mod pam;

use std::ffi::{CStr, c_char};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{ForkResult, Pid, fork};

use tokio::io::unix::AsyncFd;

pub(super) use pam::{Pam, PamStatus, PamStep};

use crate::protocol::wire::TerminalSize;

/// Sets the size of a terminal; the kernel tells its foreground job by SIGWINCH.
#[expect(
    unsafe_code,
    reason = "nix has no wrapper for the window size of a terminal"
)]
pub(super) fn set_terminal_size(terminal: BorrowedFd<'_>, size: TerminalSize) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: size.rows,
        ws_col: size.cols,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCSWINSZ reads one `winsize`; `size` is one and outlives the call. The borrow keeps
    // the descriptor open.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    Errno::result(result)?;
    Ok(())
}

/// How many bytes can be read at once. Unlike a read it does not wait for what the kernel is bringing.
#[expect(unsafe_code, reason = "nix has no wrapper for the unread bytes")]
pub(super) fn unread(terminal: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one `int`; `count` is one and outlives the call. The borrow keeps the
    // descriptor open.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::FIONREAD, &raw mut count) };
    Errno::result(result)?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Makes `terminal` the controlling terminal of this process, which leads a session without one.
#[expect(
    unsafe_code,
    reason = "nix has no wrapper for taking a controlling terminal"
)]
pub(super) fn take_terminal(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes a number, no pointer. The borrow keeps the descriptor open.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) };
    Errno::result(result)?;
    Ok(())
}

/// Lets an exec close every descriptor but the three standard ones: whoever started the agent may
/// have left it some of its own.
#[expect(unsafe_code, reason = "nix has no wrapper for a range of descriptors")]
pub(super) fn close_others_on_exec() -> io::Result<()> {
    const FIRST: libc::c_uint = 3;
    // The C library's own function is younger than some of the hosts that the agent runs on.
    // SAFETY: close_range takes numbers, no pointer; with this flag it closes nothing now.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    match Errno::result(result) {
        Ok(_) => Ok(()),
        // A kernel before 5.9 does not know the call, one before 5.11 not the flag.
        Err(Errno::ENOSYS | Errno::EINVAL) => mark_others(FIRST),
        Err(error) => Err(error.into()),
    }
}

/// The same, one descriptor at a time.
#[expect(
    unsafe_code,
    reason = "the descriptors belong to nobody in this process"
)]
fn mark_others(first: libc::c_uint) -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.parse::<RawFd>().ok());
        let Some(number) = number.filter(|&number| number.cast_unsigned() >= first) else {
            continue;
        };
        // SAFETY: F_SETFD takes numbers, no pointer, and closes nothing now.
        let result = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        match Errno::result(result) {
            // It was closed meanwhile.
            Ok(_) | Err(Errno::EBADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Registers a non-blocking descriptor for reading and writing with the runtime.
///
/// # Panics
/// Outside of a tokio runtime.
#[expect(
    unsafe_code,
    reason = "tokio cannot check how a type keeps its descriptor"
)]
pub(super) fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` gives the same descriptor all its life and closes it only when dropped;
    // the `AsyncFd` owns it and deregisters first.
    let watched = unsafe { AsyncFd::register(descriptor) };
    Ok(watched?)
}

/// Gives every signal its default disposition and unblocks all of them. Meant for a process that is
/// about to exec.
///
/// Dispositions of "ignore" survive an exec; a shell must not inherit the agent's.
#[expect(unsafe_code, reason = "changing a signal's disposition")]
pub(super) fn default_signals() -> io::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator() {
        if matches!(signal, Signal::SIGKILL | Signal::SIGSTOP) {
            continue;
        }
        // SAFETY: `SIG_DFL` installs no handler, so no code of ours can run in signal context.
        unsafe { sigaction(signal, &default) }?;
    }
    SigSet::empty().thread_set_mask()?;
    Ok(())
}

/// Makes this process two; the one that was there is given the other, which is given nothing.
///
/// Meant for the login step, which has one thread: in the copy of a process with more, a lock that
/// another thread held would be held forever.
#[expect(unsafe_code, reason = "a copy of a process with threads is not sound")]
pub(super) fn fork_process() -> io::Result<Option<Pid>> {
    debug_assert_eq!(
        std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count),
        1
    );
    // SAFETY: the login step is called first in `main` and starts no thread, so no lock is held.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// Somebody at a terminal, as `who` and `last` know them.
pub(super) struct Presence<'a> {
    /// The terminal's name without `/dev/`.
    pub(super) line: &'a str,
    /// Who it is; empty for somebody who has left.
    pub(super) user: &'a str,
    /// Where they come from.
    pub(super) origin: &'a str,
    /// The process that stays as long as they do.
    pub(super) process: Pid,
}

/// Writes down who is at a terminal now, or that nobody is, in the two files of the C library, which
/// know how it looks on this processor. A file that is not there is not made.
#[expect(
    unsafe_code,
    reason = "nix has no wrapper for the records of who is there"
)]
pub(super) fn record_presence(presence: &Presence<'_>, since_epoch: std::time::Duration) {
    const WTMP: &CStr = c"/var/log/wtmp";
    unsafe extern "C" {
        fn updwtmpx(file: *const c_char, record: *const libc::utmpx);
    }
    // SAFETY: the structure has numbers and characters only, for which zero is a value.
    let mut record: libc::utmpx = unsafe { std::mem::zeroed() };
    record.ut_type = match presence.user {
        "" => libc::DEAD_PROCESS,
        _ => libc::USER_PROCESS,
    };
    record.ut_pid = presence.process.as_raw();
    copy_text(&mut record.ut_line, presence.line);
    // By convention the end of the name, which is as unique.
    let id = presence.line.len().saturating_sub(record.ut_id.len());
    copy_text(
        &mut record.ut_id,
        presence.line.get(id..).unwrap_or_default(),
    );
    copy_text(&mut record.ut_user, presence.user);
    copy_text(&mut record.ut_host, presence.origin);
    record.ut_tv.tv_sec = since_epoch.as_secs().try_into().unwrap_or_default();
    record.ut_tv.tv_usec = since_epoch.subsec_micros().try_into().unwrap_or_default();
    // SAFETY: the calls read the record and the name, which outlive them, and this process has no
    // other thread that could use the C library's one position in the file.
    unsafe {
        libc::setutxent();
        libc::pututxline(&raw const record);
        libc::endutxent();
        updwtmpx(WTMP.as_ptr(), &raw const record);
    }
}

/// Fills a field of characters, which needs no zero at its end if it is full.
fn copy_text(field: &mut [c_char], text: &str) {
    for (place, byte) in field.iter_mut().zip(text.bytes()) {
        *place = c_char::from_ne_bytes([byte]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_marked_on_old_kernels_too() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let number = file.as_raw_fd();
        nix::fcntl::fcntl(
            &file,
            nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()),
        )
        .unwrap();

        mark_others(number.cast_unsigned()).unwrap();

        let flags = nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags, libc::FD_CLOEXEC);
    }
}
