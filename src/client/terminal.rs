//! The person's terminal: its size, and raw mode that is given back on every way out.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::protocol::wire::TerminalSize;

/// Size reported when there is no terminal, as the official plugin does it: wide enough that the
/// remote shell seldom wraps what it echoes.
pub const SIZE_WITHOUT_TERMINAL: TerminalSize = TerminalSize {
    cols: 300,
    rows: 100,
};

/// Size assumed for a terminal that does not know its own (a serial line, a fresh pseudo-terminal).
pub const UNKNOWN_SIZE: TerminalSize = TerminalSize { cols: 80, rows: 24 };

/// The size of the terminal behind `fd`.
pub fn size_of(fd: &OwnedFd) -> TerminalSize {
    // None also for a terminal that says it has no columns or rows.
    terminal_size::terminal_size_of(fd).map_or(UNKNOWN_SIZE, |(width, height)| TerminalSize {
        cols: width.0,
        rows: height.0,
    })
}

/// Raw mode, for as long as this value lives: every key reaches the remote side as its byte, `^C`
/// included, and nothing is echoed here.
///
/// The modes from before come back when it is dropped, be it at the end of the session, by a panic,
/// or because a signal cancelled the session.
#[derive(Debug)]
pub struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Switches the terminal behind `fd` to raw mode. What was typed ahead is kept.
    ///
    /// # Errors
    /// The error of the terminal, for instance that `fd` is none.
    pub fn enter(fd: &OwnedFd) -> io::Result<Self> {
        let terminal = fd.try_clone()?;
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        let guard = Self { terminal, before };
        set_modes(&guard.terminal, &raw)?;
        Ok(guard)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that hung up has no modes left to restore.
        if let Err(error) = set_modes(&self.terminal, &self.before) {
            tracing::debug!(%error, "cannot restore the terminal");
        }
    }
}

/// Changes the modes at once: waiting until all output is out could wait for ever on a stopped terminal.
fn set_modes(terminal: impl AsFd, modes: &Termios) -> nix::Result<()> {
    tcsetattr(terminal, SetArg::TCSANOW, modes)
}

#[cfg(test)]
mod tests {
    use nix::pty::{OpenptyResult, Winsize, openpty};
    use nix::sys::termios::{InputFlags, LocalFlags, OutputFlags};

    use super::*;

    #[test]
    fn raw_mode_takes_every_key_and_ends_with_its_guard() {
        let pair = openpty(None, None).unwrap();
        let terminal = &pair.slave;
        let before = tcgetattr(terminal).unwrap();

        let guard = RawMode::enter(terminal).unwrap();
        let raw = tcgetattr(terminal).unwrap();
        assert!(!raw.local_flags.intersects(
            LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG | LocalFlags::IEXTEN
        ));
        assert!(
            !raw.input_flags
                .intersects(InputFlags::ICRNL | InputFlags::IXON)
        );
        assert!(!raw.output_flags.contains(OutputFlags::OPOST));
        drop(guard);

        assert_eq!(tcgetattr(terminal).unwrap(), before);
    }

    #[test]
    fn panic_restores_the_terminal() {
        let pair = openpty(None, None).unwrap();
        let terminal = &pair.slave;
        let before = tcgetattr(terminal).unwrap();
        let inside = terminal.try_clone().unwrap();

        let result = std::thread::spawn(move || {
            let _guard = RawMode::enter(&inside).unwrap();
            panic!("on purpose");
        })
        .join();

        assert!(result.is_err());
        assert_eq!(tcgetattr(terminal).unwrap(), before);
    }

    #[test]
    fn terminal_that_hung_up_does_not_disturb_the_way_out() {
        let OpenptyResult { master, slave } = openpty(None, None).unwrap();
        let guard = RawMode::enter(&slave).unwrap();

        drop(master);
        drop(guard);
    }

    #[test]
    fn descriptor_that_is_no_terminal_has_no_raw_mode() {
        let file = OwnedFd::from(tempfile::tempfile().unwrap());

        assert!(RawMode::enter(&file).is_err());
    }

    #[test]
    fn size_is_that_of_the_terminal_or_the_usual_one_if_it_knows_none() {
        let known = Winsize {
            ws_row: 50,
            ws_col: 132,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(Some(&known), None).unwrap();
        let terminal = &pair.slave;
        assert_eq!(
            size_of(terminal),
            TerminalSize {
                cols: 132,
                rows: 50
            }
        );

        let pair = openpty(None, None).unwrap();
        let terminal = &pair.slave;
        assert_eq!(size_of(terminal), UNKNOWN_SIZE);
    }
}
