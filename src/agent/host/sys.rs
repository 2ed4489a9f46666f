//! The system calls that have no safe wrapper: the only file with `unsafe`.
//!
//! One small function per call. Everything else goes through `nix` or the standard library.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use tokio::io::unix::AsyncFd;

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

/// Duplicates a descriptor that `_owner` keeps open; the duplicate is closed on exec.
#[expect(
    unsafe_code,
    reason = "portable-pty shows its master as a bare number only"
)]
pub(super) fn duplicate<T: ?Sized>(descriptor: RawFd, _owner: &T) -> io::Result<OwnedFd> {
    // SAFETY: the caller got the number from `_owner`, whose borrow keeps it open for this call.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    borrowed.try_clone_to_owned()
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
