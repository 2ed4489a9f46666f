//! What a message of the control channel asks for.

use crate::protocol::wire::control::{ChannelClosed, StartRefused, StartSession};
use crate::protocol::wire::task::TaskAcknowledge;
use crate::protocol::wire::{DecodeError, Message, MessageType, SessionId};

/// What the gateway wants from the agent's sessions.
#[derive(Debug, Clone, PartialEq)]
pub enum Instruction {
    /// Start this session, or report that it cannot be started.
    Start(Result<Box<StartSession>, StartRefused>),
    /// End this session.
    Terminate(SessionId),
}

/// What to do with a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Dispatch {
    /// Pass it on to the sessions.
    Instruct(Instruction),
    /// A result was taken.
    Acknowledged(TaskAcknowledge),
    /// It is about a command: pass it on as it is.
    Command,
    /// Nothing: it is not for an agent.
    Ignore,
}

/// Reads a message from the gateway.
///
/// # Errors
/// [`DecodeError`] if its payload is not what its type promises. A start message that cannot be
/// understood is no error here: the session it names gets to know.
pub fn dispatch(message: &Message) -> Result<Dispatch, DecodeError> {
    let payload = &message.payload;
    Ok(match &message.message_type {
        MessageType::InteractiveShell => {
            let start = StartSession::decode(payload).map(Box::new);
            Dispatch::Instruct(Instruction::Start(start))
        }
        MessageType::ChannelClosed => {
            let closed = ChannelClosed::decode(payload)?;
            let session = SessionId::new(closed.session_id)?;
            Dispatch::Instruct(Instruction::Terminate(session))
        }
        MessageType::AgentTaskAcknowledge => {
            Dispatch::Acknowledged(TaskAcknowledge::decode(payload)?)
        }
        MessageType::AgentJob | MessageType::AgentJobReplyAck => Dispatch::Command,
        MessageType::InputStreamData
        | MessageType::OutputStreamData
        | MessageType::Acknowledge
        | MessageType::AgentSessionState
        | MessageType::StartPublication
        | MessageType::PausePublication
        | MessageType::AgentTaskComplete
        | MessageType::AgentJobAck
        | MessageType::AgentJobReply
        | MessageType::AgentTelemetry
        | MessageType::AgentUpdateResult
        | MessageType::Unknown(_) => Dispatch::Ignore,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::protocol::wire::{MessageId, PayloadType};

    #[test]
    fn start_message_becomes_an_instruction() {
        let content = r#"{"SessionId":"alice-1","DocumentContent":{"schemaVersion":"1.0","sessionType":"Standard_Stream"}}"#;
        let payload = serde_json::json!({"Content": content}).to_string();

        let dispatched = dispatch(&message(MessageType::InteractiveShell, &payload)).unwrap();

        let Dispatch::Instruct(Instruction::Start(Ok(start))) = dispatched else {
            panic!("{dispatched:?}");
        };
        assert_eq!(start.session_id.as_str(), "alice-1");
    }

    #[test]
    fn start_message_that_is_not_understood_still_names_its_session() {
        let payload = r#"{"Content":"{\"SessionId\":\"alice-1\"}"}"#;

        let dispatched = dispatch(&message(MessageType::InteractiveShell, payload)).unwrap();

        let Dispatch::Instruct(Instruction::Start(Err(refused))) = dispatched else {
            panic!("{dispatched:?}");
        };
        assert_eq!(refused.session_id.unwrap().as_str(), "alice-1");
    }

    #[test]
    fn channel_closed_terminates_its_session() {
        let payload = r#"{"MessageType":"channel_closed","SessionId":"alice-1","SchemaVersion":1}"#;

        let dispatched = dispatch(&message(MessageType::ChannelClosed, payload)).unwrap();

        let session = SessionId::new("alice-1").unwrap();
        assert_eq!(
            dispatched,
            Dispatch::Instruct(Instruction::Terminate(session))
        );
    }

    #[test]
    fn channel_closed_for_no_possible_session_is_refused() {
        for payload in ["{}", r#"{"SessionId":"../etc"}"#, "garbage", ""] {
            assert!(dispatch(&message(MessageType::ChannelClosed, payload)).is_err());
        }
    }

    #[test]
    fn acknowledgement_names_the_message_that_was_taken() {
        let payload = r#"{"MessageId":"id","TaskId":"alice-1","Topic":"agent_task_complete"}"#;

        let dispatched = dispatch(&message(MessageType::AgentTaskAcknowledge, payload)).unwrap();

        assert!(matches!(dispatched, Dispatch::Acknowledged(ack) if ack.message_id == "id"));
    }

    #[test]
    fn messages_for_others_are_ignored() {
        for message_type in [
            MessageType::OutputStreamData,
            MessageType::Unknown("novelty".into()),
        ] {
            assert_eq!(dispatch(&message(message_type, "?")), Ok(Dispatch::Ignore));
        }
    }

    #[test]
    fn messages_about_commands_are_passed_on_unread() {
        for message_type in [MessageType::AgentJob, MessageType::AgentJobReplyAck] {
            assert_eq!(dispatch(&message(message_type, "?")), Ok(Dispatch::Command));
        }
    }

    fn message(message_type: MessageType, payload: &str) -> Message {
        Message {
            message_type,
            created_ms: 1,
            sequence_number: 0,
            flags: 0,
            id: MessageId::from_random([1; 16]),
            payload_type: PayloadType::None,
            payload: Bytes::copy_from_slice(payload.as_bytes()),
        }
    }
}
