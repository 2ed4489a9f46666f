//! What a port document asks for.

use std::fmt;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::protocol::channel::HandshakeRole;
use crate::protocol::wire::PeerFeatures;
use crate::protocol::wire::features::FEATURES_PROPERTY;

/// `type` of documents that forward a port of the client.
const LOCAL_PORT_FORWARDING: &str = "LocalPortForwarding";
/// Longest path of a Unix socket in bytes; the kernel's structure ends it with a zero.
const SOCKET_PATH: usize = 107;

/// A port session as its document describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Port {
    /// Where to.
    pub(in super::super) target: Target,
    /// Whether local connections are forwarded, else it is one raw stream.
    pub(super) is_forwarding: bool,
    /// All properties; the client learns them in the handshake.
    properties: Value,
}

/// What connections are made to, before any name is resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Target {
    /// A port of this host.
    Local {
        /// The port.
        port: u16,
    },
    /// A port of any host that this one reaches.
    Host {
        /// Name or address, as given.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket on this host; the property `unixSocket`, ours.
    UnixSocket(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { port } => write!(f, "localhost:{port}"),
            Self::Host { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host { host, port } => write!(f, "{host}:{port}"),
            Self::UnixSocket(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Why the properties describe no port session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in super::super) enum PropertiesError {
    /// There is no target. The words are the reference's.
    #[error("Port number is empty in session properties. {properties}")]
    NoPort {
        /// All properties.
        properties: Value,
    },
    /// A property has another type or value than it needs.
    #[error("property {name} of the document must be {expected}, but is {got}")]
    Property {
        /// Its name.
        name: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        got: Value,
    },
    /// Two targets.
    #[error("property unixSocket of the document excludes {other}")]
    TwoTargets {
        /// The property that names the other one.
        other: &'static str,
    },
}

impl Port {
    /// Reads the resolved properties of a port document.
    pub(in super::super) fn of(properties: &Value) -> Result<Self, PropertiesError> {
        Ok(Self {
            target: target(properties)?,
            is_forwarding: text(properties, "type")? == LOCAL_PORT_FORWARDING,
            properties: properties.clone(),
        })
    }

    /// What the client is asked for in the handshake.
    pub(super) fn handshake(&self) -> HandshakeRole {
        let mut properties = self.properties.clone();
        if let Value::Object(members) = &mut properties {
            let features = PeerFeatures::ours().to_string();
            members.insert(FEATURES_PROPERTY.to_owned(), json!(features));
        }
        HandshakeRole::Request {
            session_type: super::SESSION_TYPE.to_owned(),
            properties,
            encryption: None,
        }
    }
}

fn target(properties: &Value) -> Result<Target, PropertiesError> {
    const PORT: &str = "portNumber";
    let socket = text(properties, "unixSocket")?;
    let host = text(properties, "host")?;
    let port = text(properties, PORT)?;
    if !socket.is_empty() {
        return match (host, port) {
            ("", "") => unix_socket(socket),
            ("", _) => Err(PropertiesError::TwoTargets { other: PORT }),
            (_, _) => Err(PropertiesError::TwoTargets { other: "host" }),
        };
    }
    if port.is_empty() {
        return Err(PropertiesError::NoPort {
            properties: properties.clone(),
        });
    }
    let number = port.parse().ok().filter(|number| *number != 0);
    let port = number.ok_or_else(|| PropertiesError::Property {
        name: PORT,
        expected: "a port number from 1 to 65535",
        got: json!(port),
    })?;
    Ok(match host {
        "" => Target::Local { port },
        host => Target::Host {
            host: host.to_owned(),
            port,
        },
    })
}

fn unix_socket(path: &str) -> Result<Target, PropertiesError> {
    if !path.starts_with('/') || path.len() > SOCKET_PATH || path.contains('\0') {
        return Err(PropertiesError::Property {
            name: "unixSocket",
            expected: "an absolute path of at most 107 bytes",
            got: json!(path),
        });
    }
    Ok(Target::UnixSocket(path.into()))
}

/// A text without the blanks around it; empty if there is none.
fn text<'a>(properties: &'a Value, name: &'static str) -> Result<&'a str, PropertiesError> {
    match properties.get(name) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text.trim()),
        Some(other) => Err(PropertiesError::Property {
            name,
            expected: "a string",
            got: other.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_without_host_is_on_this_host() {
        let port = Port::of(&json!({"portNumber": "22"})).unwrap();

        assert_eq!(port.target, Target::Local { port: 22 });
        assert!(!port.is_forwarding);
    }

    #[test]
    fn forwarding_is_told_by_its_type() {
        let properties = json!({
            "portNumber": " 3306 ", "localPortNumber": "0", "type": "LocalPortForwarding",
            "host": "db.internal", "unixSocket": "",
        });

        let port = Port::of(&properties).unwrap();

        assert!(port.is_forwarding);
        let host = "db.internal".to_owned();
        assert_eq!(port.target, Target::Host { host, port: 3306 });
    }

    #[test]
    fn socket_of_this_host_is_a_target() {
        let port = Port::of(&json!({"unixSocket": "/run/docker.sock", "portNumber": ""})).unwrap();

        assert_eq!(port.target, Target::UnixSocket("/run/docker.sock".into()));
    }

    #[test]
    fn what_describes_no_target_is_refused_in_clear_words() {
        let long = format!("/{}", "x".repeat(SOCKET_PATH));
        for (properties, expected) in [
            (
                json!({"host": "h"}),
                r#"Port number is empty in session properties. {"host":"h"}"#,
            ),
            (
                json!(null),
                "Port number is empty in session properties. null",
            ),
            (
                json!({"portNumber": 22}),
                "property portNumber of the document must be a string, but is 22",
            ),
            (
                json!({"portNumber": "22", "host": ["h"]}),
                r#"property host of the document must be a string, but is ["h"]"#,
            ),
            (
                json!({"portNumber": "{{ portNumber }}"}),
                r#"property portNumber of the document must be a port number from 1 to 65535, but is "{{ portNumber }}""#,
            ),
            (
                json!({"portNumber": "0"}),
                r#"property portNumber of the document must be a port number from 1 to 65535, but is "0""#,
            ),
            (
                json!({"portNumber": "65536"}),
                r#"property portNumber of the document must be a port number from 1 to 65535, but is "65536""#,
            ),
            (
                json!({"unixSocket": "/run/a", "portNumber": "1"}),
                "property unixSocket of the document excludes portNumber",
            ),
            (
                json!({"unixSocket": "/run/a", "host": "h", "portNumber": "1"}),
                "property unixSocket of the document excludes host",
            ),
            (
                json!({"unixSocket": "docker.sock"}),
                r#"property unixSocket of the document must be an absolute path of at most 107 bytes, but is "docker.sock""#,
            ),
            (
                json!({"unixSocket": "/a\0b"}),
                r#"property unixSocket of the document must be an absolute path of at most 107 bytes, but is "/a\u0000b""#,
            ),
        ] {
            assert_eq!(Port::of(&properties).unwrap_err().to_string(), expected);
        }
        assert!(Port::of(&json!({"unixSocket": long})).is_err());
    }

    #[test]
    fn client_is_told_the_properties_and_what_the_agent_understands() {
        let port = Port::of(&json!({"portNumber": "22"})).unwrap();

        let HandshakeRole::Request {
            session_type,
            properties,
            encryption: None,
        } = port.handshake()
        else {
            panic!("a port session begins with a handshake");
        };

        assert_eq!(session_type, "Port");
        assert_eq!(properties["portNumber"], "22");
        let features = properties[FEATURES_PROPERTY].as_str().unwrap();
        assert_eq!(PeerFeatures::parse(features), Ok(PeerFeatures::ours()));
    }
}
