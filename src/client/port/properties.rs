//! What the agent says about a port session in the handshake.

use std::path::PathBuf;

use serde_json::Value;

use crate::protocol::wire::PeerFeatures;
use crate::protocol::wire::features::FEATURES_PROPERTY;

/// Type of a session that forwards local connections; others are raw streams.
const LOCAL_FORWARDING: &str = "LocalPortForwarding";
/// Type of the local end of a session that listens on a Unix socket.
const UNIX: &str = "unix";

/// What to do at this end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Forward {
    /// Standard input and output are the stream.
    Raw,
    /// Local programs connect here.
    Listen(Local),
}

/// Where local programs connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Local {
    /// A port of the loopback addresses; 0 for any.
    Tcp(u16),
    /// A Unix socket.
    Unix(PathBuf),
}

/// What the agent said makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PropertiesError {
    /// A property has another type.
    #[error("property {0} of the session must be a string")]
    NoString(&'static str),
    /// The port is none.
    #[error("property localPortNumber of the session must be 0 to 65535, got {0:?}")]
    Port(String),
    /// A Unix socket without a path.
    #[error("property localUnixSocket of the session is empty")]
    NoPath,
}

impl Forward {
    /// Reads the properties of the handshake.
    ///
    /// # Errors
    /// [`PropertiesError`].
    pub(super) fn read(properties: &Value) -> Result<Self, PropertiesError> {
        let text = |name: &'static str| match properties.get(name) {
            None | Some(Value::Null) => Ok(""),
            Some(Value::String(text)) => Ok(text.as_str()),
            Some(_) => Err(PropertiesError::NoString(name)),
        };
        if text("type")? != LOCAL_FORWARDING {
            return Ok(Self::Raw);
        }
        if text("localConnectionType")? == UNIX {
            return match text("localUnixSocket")? {
                "" => Err(PropertiesError::NoPath),
                path => Ok(Self::Listen(Local::Unix(path.into()))),
            };
        }
        let port = match text("localPortNumber")? {
            "" => 0,
            number => number
                .trim()
                .parse()
                .map_err(|_| PropertiesError::Port(number.to_owned()))?,
        };
        Ok(Self::Listen(Local::Tcp(port)))
    }
}

/// Whether the agent understands that one direction of a stream has ended while the other goes on.
/// Only our own does, and says so.
pub(super) fn agent_half_closes(properties: &Value) -> bool {
    let announced = properties.get(FEATURES_PROPERTY).and_then(Value::as_str);
    announced.is_some_and(|text| PeerFeatures::parse(text).is_ok_and(|it| it.half_close))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn agent_half_closes_only_if_it_says_so() {
        let ours = PeerFeatures::ours().to_string();
        assert!(agent_half_closes(&json!({ FEATURES_PROPERTY: ours })));
        for other in [json!(null), json!("x"), json!(7), json!("max-payload=many")] {
            assert!(!agent_half_closes(&json!({ FEATURES_PROPERTY: other })));
        }
        assert!(!agent_half_closes(&json!(null)));
    }

    #[test]
    fn local_forwarding_listens_and_everything_else_is_raw() {
        let cases = [
            (json!({"portNumber": "22"}), Forward::Raw),
            (json!(null), Forward::Raw),
            (json!({"type": "Other"}), Forward::Raw),
            (
                json!({"type": "LocalPortForwarding", "localPortNumber": "8080"}),
                Forward::Listen(Local::Tcp(8080)),
            ),
            (
                json!({"type": "LocalPortForwarding", "localPortNumber": ""}),
                Forward::Listen(Local::Tcp(0)),
            ),
            (
                json!({"type": "LocalPortForwarding"}),
                Forward::Listen(Local::Tcp(0)),
            ),
            (
                json!({"type": "LocalPortForwarding", "localConnectionType": "unix", "localUnixSocket": "/tmp/s"}),
                Forward::Listen(Local::Unix("/tmp/s".into())),
            ),
        ];
        for (properties, expected) in cases {
            assert_eq!(Forward::read(&properties), Ok(expected), "{properties}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let cases = [
            (
                json!({"type": 1}),
                "property type of the session must be a string",
            ),
            (
                json!({"type": "LocalPortForwarding", "localPortNumber": "70000"}),
                "property localPortNumber of the session must be 0 to 65535, got \"70000\"",
            ),
            (
                json!({"type": "LocalPortForwarding", "localPortNumber": "http"}),
                "property localPortNumber of the session must be 0 to 65535, got \"http\"",
            ),
            (
                json!({"type": "LocalPortForwarding", "localConnectionType": "unix"}),
                "property localUnixSocket of the session is empty",
            ),
        ];
        for (properties, expected) in cases {
            assert_eq!(
                Forward::read(&properties).unwrap_err().to_string(),
                expected
            );
        }
    }
}
