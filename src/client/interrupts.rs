//! Keys for a session that come as signals of this program.
//!
//! A remote command without a terminal reads no input, and neither do local connections to a remote
//! port, so the terminal here stays as it is, and its `^C` and `^\` arrive as signals. Whoever catches
//! the program's signals hands them over; while such a session runs, it takes them (a command as its
//! keys, a port session as its end), else they are for the program itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

/// Number of the signal behind `^C`, and the byte for it.
const INTERRUPT: (u8, u8) = (2, 0x03);
/// Number of the signal behind `^\`, and the byte for it.
const QUIT: (u8, u8) = (3, 0x1c);
/// Keys that may wait to be sent.
const QUEUE: usize = 8;
/// A third interrupt within this time is for the program: the command does not care, or cannot be
/// reached.
const INSISTENCE: Duration = Duration::from_secs(1);

/// Hands signals of this program to the session. A clone is the same.
#[derive(Debug, Clone, Default)]
pub struct Interrupts(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// To the session that runs.
    session: Option<mpsc::Sender<u8>>,
    /// When the last two were handed over, the latest first.
    latest: [Option<Instant>; 2],
}

impl Interrupts {
    /// Hands over the signal with this number. Returns whether the session takes it: one
    /// without a terminal runs, the signal stands for a key, and it is not the third within a second.
    pub fn hand_over(&self, signal: u8) -> bool {
        self.hand_over_at(signal, Instant::now())
    }

    fn hand_over_at(&self, signal: u8, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = [INTERRUPT, QUIT];
        let Some((_, key)) = keys.into_iter().find(|(number, _)| *number == signal) else {
            return false;
        };
        let [latest, before] = state.latest;
        let insists = before.is_some_and(|before| now.duration_since(before) < INSISTENCE);
        let session = state.session.as_ref().filter(|_| !insists);
        let is_taken = session.is_some_and(|session| session.try_send(key).is_ok());
        if is_taken {
            state.latest = [Some(now), latest];
        }
        is_taken
    }

    /// Takes the keys for a session from now on, until the receiver is dropped.
    pub(super) fn listen(&self) -> mpsc::Receiver<u8> {
        let (session, keys) = mpsc::channel(QUEUE);
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State {
            session: Some(session),
            latest: [None; 2],
        };
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_running_command_takes_signals_and_only_those_of_keys() {
        let interrupts = Interrupts::default();
        assert!(!interrupts.hand_over(2));

        let mut keys = interrupts.listen();
        assert!(interrupts.hand_over(2));
        assert!(interrupts.hand_over(3));
        assert!(!interrupts.hand_over(15));
        assert_eq!(keys.try_recv(), Ok(0x03));
        assert_eq!(keys.try_recv(), Ok(0x1c));
        drop(keys);

        assert!(!interrupts.hand_over(2));
    }

    #[test]
    fn third_interrupt_within_a_second_is_for_the_program() {
        let interrupts = Interrupts::default();
        let _keys = interrupts.listen();
        let start = Instant::now();
        let after = |ms| interrupts.hand_over_at(2, start + Duration::from_millis(ms));

        assert!(after(0));
        assert!(after(600));
        assert!(after(1100));
        assert!(!after(1500));
        assert!(after(2000));
    }

    #[test]
    fn keys_that_nobody_sends_do_not_pile_up() {
        let interrupts = Interrupts::default();
        let _keys = interrupts.listen();
        let start = Instant::now();

        let taken = (0..100)
            .filter(|&n| interrupts.hand_over_at(2, start + INSISTENCE * n))
            .count();

        assert_eq!(taken, QUEUE);
    }
}
