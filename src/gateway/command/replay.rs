//! Playing a cast in this terminal.
//!
//! What a session printed goes to the terminal as it is: a recording can do here whatever the
//! session could do to the terminal of the person who had it. The terminal's answers to questions in
//! it are neither shown nor left for the shell, and its modes are brought back at the end.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::termios::{FlushArg, LocalFlags, SetArg, Termios, tcflush, tcgetattr, tcsetattr};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::tail::Tail;

/// Longest line that is taken for one. An event is one read from a terminal or pipe, escaped.
const LINE: usize = 16 << 20;
/// What brings a terminal back from whatever a program that was cut off had set: colours, cursor,
/// mouse, pasting, keypad, scroll region, character set.
const RESTORE: &[u8] = b"\x1b[0m\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\
    \x1b[?1l\x1b>\x1b7\x1b[r\x1b8\x1b(B\x0f";
/// Leaves the second screen, which full-screen programs use.
const LEAVE_SCREEN: &[u8] = b"\x1b[?1049l";

/// When events are shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pace {
    /// At once.
    AsItComes,
    /// At the times of the recording.
    Recorded {
        /// How many times as fast.
        speed: f64,
        /// Longest pause in seconds.
        max_pause: Option<f64>,
    },
}

/// Reads a speed.
pub(super) fn speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|_| "must be a number".to_owned())?;
    if (0.01..=1000.0).contains(&speed) {
        Ok(speed)
    } else {
        Err("must be 0.01 to 1000".into())
    }
}

/// Reads a number of seconds.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "must be a number".to_owned())?;
    if (0.0..=86_400.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err("must be 0 to 86400".into())
    }
}

/// Plays until the end or the first signal.
///
/// # Errors
/// If the recording cannot be read or is no cast, or standard output takes no more.
pub(super) async fn play(tail: Tail, pace: Pace) -> anyhow::Result<()> {
    let mut signals = Signals::watch().context("cannot watch signals")?;
    let quiet = Quiet::enter();
    let mut player = Player::new(pace);
    let played = tokio::select! {
        played = player.run(tail) => played,
        () = signals.next() => Ok(()),
    };
    let restored = player.restore();
    drop(quiet);
    match played.and(restored.context("cannot write to standard output")) {
        Err(error) if is_broken_pipe(&error) => Ok(()),
        played => played,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// What ends a replay early: ^C, a kill, a terminal that goes away. Ending it is no event to log.
struct Signals([Signal; 3]);

impl Signals {
    fn watch() -> io::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Keeps what the terminal says from the screen and, at the end, from the shell.
struct Quiet {
    before: Option<Termios>,
}

impl Quiet {
    /// Does nothing where standard input is no terminal.
    fn enter() -> Self {
        let input = io::stdin();
        let Ok(before) = tcgetattr(input.as_fd()) else {
            return Self { before: None };
        };
        let mut quiet = before.clone();
        // Signals stay, for ^C.
        quiet.local_flags -= LocalFlags::ECHO | LocalFlags::ICANON;
        // A terminal that refuses is left as it is.
        let _ = tcsetattr(input.as_fd(), SetArg::TCSANOW, &quiet);
        Self {
            before: Some(before),
        }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let input = io::stdin();
            // A terminal that hung up has nothing left to restore.
            let _ = tcflush(input.as_fd(), FlushArg::TCIFLUSH);
            let _ = tcsetattr(input.as_fd(), SetArg::TCSANOW, before);
        }
    }
}

/// An event: seconds, code, text.
type Event = (f64, String, String);

struct Player {
    pace: Pace,
    /// The beginning of a line.
    cut: Vec<u8>,
    has_header: bool,
    /// Time of the event before.
    at: f64,
    /// The recording is on the terminal's second screen.
    on_second_screen: bool,
}

impl Player {
    fn new(pace: Pace) -> Self {
        Self {
            pace,
            cut: Vec::new(),
            has_header: false,
            at: 0.0,
            on_second_screen: false,
        }
    }

    async fn run(&mut self, mut tail: Tail) -> anyhow::Result<()> {
        while let Some(bytes) = tail.next().await? {
            for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
                self.cut.extend_from_slice(piece);
                if self.cut.ends_with(b"\n") {
                    let line = std::mem::take(&mut self.cut);
                    self.line(&line).await?;
                } else if self.cut.len() > LINE {
                    bail!("the recording has a line of more than {LINE} bytes");
                }
            }
        }
        Ok(())
    }

    async fn line(&mut self, line: &[u8]) -> anyhow::Result<()> {
        if !self.has_header {
            self.has_header = true;
            return Ok(());
        }
        let (at, code, text): Event =
            serde_json::from_slice(line).context("the recording has a line that is no event")?;
        let pause = self.pause(at);
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        if code == "o" {
            self.note_screen(&text);
            let mut out = io::stdout();
            out.write_all(text.as_bytes())?;
            out.flush()?;
        }
        Ok(())
    }

    /// How long to wait before an event at `at`.
    fn pause(&mut self, at: f64) -> Duration {
        let since = (at - self.at).max(0.0);
        self.at = self.at.max(at);
        match self.pace {
            Pace::AsItComes => Duration::ZERO,
            Pace::Recorded { speed, max_pause } => {
                let pause = (since / speed).min(max_pause.unwrap_or(f64::MAX));
                Duration::try_from_secs_f64(pause).unwrap_or_default()
            }
        }
    }

    fn note_screen(&mut self, text: &str) {
        match (text.rfind("\x1b[?1049h"), text.rfind("\x1b[?1049l")) {
            (None, None) => {}
            (entered, left) => self.on_second_screen = entered > left,
        }
    }

    /// Brings the terminal back, wherever the recording was.
    fn restore(&self) -> io::Result<()> {
        let mut out = io::stdout();
        if !io::IsTerminal::is_terminal(&out) {
            return Ok(());
        }
        if self.on_second_screen {
            out.write_all(LEAVE_SCREEN)?;
        }
        out.write_all(RESTORE)?;
        out.write_all(b"\r\n")?;
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_those_of_the_recording_scaled_and_cut() {
        let mut player = Player::new(Pace::Recorded {
            speed: 2.0,
            max_pause: Some(1.5),
        });

        let pauses = [1.0, 1.5, 0.5, 21.5].map(|at| player.pause(at).as_secs_f64());

        assert_eq!(pauses, [0.5, 0.25, 0.0, 1.5]);
        let mut live = Player::new(Pace::AsItComes);
        assert_eq!(live.pause(100.0), Duration::ZERO);
    }

    #[test]
    fn second_screen_is_left_only_if_the_recording_was_on_it() {
        let mut player = Player::new(Pace::AsItComes);

        for (text, expected) in [
            ("plain", false),
            ("\x1b[?1049hvim", true),
            ("text", true),
            ("\x1b[?1049l$ \x1b[?1049h", true),
            ("\x1b[?1049h\x1b[?1049l$ ", false),
        ] {
            player.note_screen(text);
            assert_eq!(player.on_second_screen, expected, "{text:?}");
        }
    }

    #[test]
    fn speeds_and_pauses_have_limits() {
        assert_eq!(speed("2.5"), Ok(2.5));
        assert_eq!(seconds("0"), Ok(0.0));
        for text in ["", "x", "0", "-1", "inf", "NaN", "1001"] {
            assert!(speed(text).is_err(), "{text}");
        }
        for text in ["-1", "inf", "NaN", "86401"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
