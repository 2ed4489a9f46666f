//! How a session ended, and what that means for the exit status of a program.

use crate::protocol::wire::SessionId;
use crate::protocol::wire::control::ChannelClosed;
use crate::runtime::exit;

/// The end of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Why this end stopped.
    pub cause: Cause,
    /// Exit code of the remote shell or command, if it was told.
    pub exit_code: Option<i32>,
    /// Text for the person; empty if there is nothing to say.
    pub reason: String,
}

/// Who ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The other side: the shell ended, or the session was terminated.
    Closed,
    /// The person at the keyboard, by the escape sequence or by closing the terminal.
    Left,
    /// The person, by `^C`, which is the way to leave a port session.
    Stopped,
    /// The program around this client.
    Cancelled,
    /// Nobody takes the output any more.
    OutputClosed,
    /// The connection was lost and could not be made again.
    Lost,
    /// This end failed: no handshake, or no output could be written.
    Failed,
}

/// Exit status of a program whose output nobody takes any more, as if SIGPIPE had ended it.
const BROKEN_PIPE: u8 = exit::SIGNAL_BASE + 13;

impl Ending {
    pub(super) fn new(cause: Cause) -> Self {
        Self {
            cause,
            exit_code: None,
            reason: String::new(),
        }
    }

    pub(super) fn because(self, reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            ..self
        }
    }

    pub(super) fn closed(closed: ChannelClosed) -> Self {
        Self {
            cause: Cause::Closed,
            exit_code: closed.exit_code,
            reason: closed.output,
        }
    }

    /// The exit status that stands for this ending.
    ///
    /// | ending | status |
    /// |---|---|
    /// | the remote exit code is known | that code; 255 if it is not within 0 to 255 |
    /// | closed by the other side without a text | 0 |
    /// | closed by the other side with a text | 1 |
    /// | a port session was left | 0 |
    /// | cancelled, or failed at this end | 1 |
    /// | nobody takes the output | 141 |
    /// | left, or the connection was lost for good | 255 |
    pub fn exit_status(&self) -> u8 {
        match (self.exit_code, self.cause) {
            (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
            (None, Cause::Stopped) => exit::OK,
            (None, Cause::Closed) if self.reason.is_empty() => exit::OK,
            (None, Cause::Closed | Cause::Cancelled | Cause::Failed) => exit::FAILURE,
            (None, Cause::OutputClosed) => BROKEN_PIPE,
            (None, Cause::Left | Cause::Lost) => exit::DISCONNECTED,
        }
    }

    /// What to tell the person, in the words of the official plugin where it has any.
    pub fn text(&self, session: &SessionId) -> String {
        match self.cause {
            Cause::Closed | Cause::Failed if !self.reason.is_empty() => {
                format!("SessionId: {session} : {}", self.reason)
            }
            Cause::Lost if !self.reason.is_empty() => self.reason.clone(),
            Cause::Closed
            | Cause::Left
            | Cause::Stopped
            | Cause::Cancelled
            | Cause::OutputClosed
            | Cause::Lost
            | Cause::Failed => format!("Exiting session with sessionId: {session}."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_exit_code_is_the_exit_status_whatever_else_happened() {
        for (code, status) in [(0, 0), (3, 3), (255, 255), (-1, 255), (256, 255)] {
            let ending = Ending {
                exit_code: Some(code),
                ..Ending::new(Cause::Lost).because("gone")
            };

            assert_eq!(ending.exit_status(), status, "code {code}");
        }
    }

    #[test]
    fn without_exit_code_the_cause_decides() {
        let table = [
            (Ending::new(Cause::Closed), 0),
            (Ending::new(Cause::Closed).because("no such user"), 1),
            (Ending::new(Cause::Stopped), 0),
            (Ending::new(Cause::Cancelled), 1),
            (Ending::new(Cause::Failed).because("disk full"), 1),
            (Ending::new(Cause::OutputClosed), 141),
            (Ending::new(Cause::Left), 255),
            (Ending::new(Cause::Lost).because("timed out"), 255),
        ];

        for (ending, status) in table {
            assert_eq!(ending.exit_status(), status, "{ending:?}");
        }
    }

    #[test]
    fn texts_are_those_that_people_know() {
        let session = SessionId::new("ada-1").unwrap();

        assert_eq!(
            Ending::new(Cause::Closed).text(&session),
            "Exiting session with sessionId: ada-1."
        );
        assert_eq!(
            Ending::new(Cause::Closed).because("Idle.").text(&session),
            "SessionId: ada-1 : Idle."
        );
    }
}
