//! The documents that every gateway has: those of AWS that start sessions and run scripts, by name
//! and parameters, and two of our own. Nobody can change them.
//!
//! None for sessions has preferences of its own, so all take those of the account.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use serde_json::{Value, json};

use super::super::super::signature::hex;
use super::schema::platforms;
use super::{COMMAND, SESSION, built_in_commands, built_in_packages};
use crate::gateway::store::documents::{Document, NewVersion};

/// Who owns them; also ours, so that callers who ask for what is not theirs see them all.
pub(super) const OWNER: &str = "Amazon";

/// Platforms of session documents.
const EVERYWHERE: [&str; 3] = ["Windows", "Linux", "MacOS"];

/// When they were written, 2026-11-22.
const CREATED: Duration = Duration::from_secs(1_795_305_600);

/// A port number, and one that may be left to the system.
const PORT: &str =
    "^([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$";
const LOCAL_PORT: &str =
    "^([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$";
/// A host name or an address; of the latter also IPv6 with a zone.
const HOST: &str = "^[0-9A-Za-z._:%-]{1,255}$";
/// An absolute path that fits a socket address.
const SOCKET: &str = "^/[^\\x00]{1,106}$";

static DOCUMENTS: LazyLock<BTreeMap<&'static str, Document>> = LazyLock::new(|| {
    let contents = [
        ("AWS-StartSSHSession", ssh()),
        ("AWS-StartPortForwardingSession", port_forwarding()),
        (
            "AWS-StartPortForwardingSessionToRemoteHost",
            to_remote_host(),
        ),
        ("AWS-StartPortForwardingSessionToSocket", to_local_socket()),
        ("AWS-StartInteractiveCommand", interactive_command()),
        ("AWS-StartNonInteractiveCommand", non_interactive_command()),
        ("SSM-RunProgram", program()),
        ("SSM-StartUnixSocketForwarding", unix_socket_forwarding()),
    ];
    let session = |(name, content)| (name, document(name, SESSION, &EVERYWHERE, &content));
    let command = |(name, platforms, content): (_, &[&str], _)| {
        (name, document(name, COMMAND, platforms, &content))
    };
    let commands = built_in_commands::contents()
        .into_iter()
        .chain(built_in_packages::contents())
        .map(command);
    contents.into_iter().map(session).chain(commands).collect()
});

/// The built-in document `name`.
pub(super) fn find(name: &str) -> Option<&'static Document> {
    DOCUMENTS.get(name)
}

/// All of them, by name.
pub(super) fn all() -> impl Iterator<Item = &'static Document> {
    DOCUMENTS.values()
}

fn document(name: &str, document_type: &str, for_platforms: &[&str], content: &Value) -> Document {
    let text = format!("{content:#}");
    Document {
        name: name.to_owned(),
        document_type: document_type.into(),
        tags: Vec::new(),
        default_version: 1,
        latest_version: 1,
        number: 1,
        created: SystemTime::UNIX_EPOCH + CREATED,
        version: NewVersion {
            version_name: None,
            display_name: None,
            target_type: None,
            format: "JSON".into(),
            schema_version: content["schemaVersion"].as_str().unwrap_or_default().into(),
            platforms: platforms(for_platforms),
            description: content["description"].as_str().unwrap_or_default().into(),
            hash: hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref()),
            content: text,
            author: OWNER.into(),
            attachments: Vec::new(),
        },
    }
}

fn ssh() -> Value {
    json!({
        "schemaVersion": "1.0",
        "description": "A raw connection to a port of the node, for SSH and other programs that talk through stdin and stdout",
        "sessionType": "Port",
        "parameters": {"portNumber": port("Port of the SSH server on the node", "22")},
        "properties": {"portNumber": "{{ portNumber }}"}
    })
}

fn port_forwarding() -> Value {
    json!({
        "schemaVersion": "1.0",
        "description": "A local port that leads to a port of the node",
        "sessionType": "Port",
        "parameters": {
            "portNumber": port("Port on the node", "80"),
            "localPortNumber": local_port()
        },
        "properties": {
            "portNumber": "{{ portNumber }}",
            "type": "LocalPortForwarding",
            "localPortNumber": "{{ localPortNumber }}"
        }
    })
}

fn to_remote_host() -> Value {
    json!({
        "schemaVersion": "1.0",
        "description": "A local port that leads to a port of a host that the node reaches",
        "sessionType": "Port",
        "parameters": {
            "host": {
                "type": "String",
                "description": "Name or address of the host, as the node knows it",
                "default": "localhost",
                "allowedPattern": HOST
            },
            "portNumber": port("Port on that host", "80"),
            "localPortNumber": local_port()
        },
        "properties": {
            "host": "{{ host }}",
            "portNumber": "{{ portNumber }}",
            "type": "LocalPortForwarding",
            "localPortNumber": "{{ localPortNumber }}"
        }
    })
}

fn to_local_socket() -> Value {
    json!({
        "schemaVersion": "1.0",
        "description": "A local Unix socket that leads to a port of the node",
        "sessionType": "Port",
        "parameters": {
            "portNumber": port("Port on the node", "80"),
            "localUnixSocket": socket("Path of the socket that the client makes")
        },
        "properties": {
            "portNumber": "{{ portNumber }}",
            "type": "LocalPortForwarding",
            "localUnixSocket": "{{ localUnixSocket }}",
            "localConnectionType": "unix"
        }
    })
}

fn unix_socket_forwarding() -> Value {
    json!({
        "schemaVersion": "1.0",
        "description": "A local port that leads to a Unix socket on the node, for example /run/docker.sock",
        "sessionType": "Port",
        "parameters": {
            "socket": socket("Path of the socket on the node"),
            "localPortNumber": local_port()
        },
        "properties": {
            "unixSocket": "{{ socket }}",
            "type": "LocalPortForwarding",
            "localPortNumber": "{{ localPortNumber }}"
        }
    })
}

fn interactive_command() -> Value {
    json!({
        "schemaVersion": "1.0",
        "description": "A command in a terminal",
        "sessionType": "InteractiveCommands",
        "parameters": {"command": command()},
        "properties": {"linux": {"commands": "{{ command }}", "runAsElevated": false}}
    })
}

fn non_interactive_command() -> Value {
    let prefix = |stream: &str| {
        json!({
            "type": "String",
            "description": format!("What stands before each line of {stream}"),
            "default": "",
            "allowedPattern": "^[0-9a-zA-Z\\r\\n_:-]{0,30}$"
        })
    };
    json!({
        "schemaVersion": "1.0",
        "description": "A command without a terminal",
        "sessionType": "NonInteractiveCommands",
        "parameters": {
            "command": command(),
            "separateOutputStream": {
                "type": "String",
                "description": "Whether standard output and standard error are kept apart",
                "default": "False",
                "allowedValues": ["True", "False", "true", "false"]
            },
            "stdOutSeparatorPrefix": prefix("standard output"),
            "stdErrSeparatorPrefix": prefix("standard error")
        },
        "properties": {"linux": {
            "commands": "{{ command }}",
            "runAsElevated": false,
            "separateOutputStream": "{{ separateOutputStream }}",
            "stdOutSeparatorPrefix": "{{ stdOutSeparatorPrefix }}",
            "stdErrSeparatorPrefix": "{{ stdErrSeparatorPrefix }}"
        }}
    })
}

/// The program and its arguments go to the agent as they are; no shell reads them.
fn program() -> Value {
    json!({
        "schemaVersion": "1.0",
        "description": "A program on a plain terminal",
        "sessionType": "Standard_Stream",
        "parameters": {"command": {
            "type": "StringList",
            "description": "The program and its arguments",
            "minItems": 1
        }},
        "properties": {"command": "{{ command }}"}
    })
}

fn port(description: &str, default: &str) -> Value {
    json!({
        "type": "String",
        "description": description,
        "default": default,
        "allowedPattern": PORT
    })
}

fn local_port() -> Value {
    json!({
        "type": "String",
        "description": "Port at the client; 0 takes a free one",
        "default": "0",
        "allowedPattern": LOCAL_PORT
    })
}

fn socket(description: &str) -> Value {
    json!({"type": "String", "description": description, "allowedPattern": SOCKET})
}

fn command() -> Value {
    json!({"type": "String", "description": "The command", "minChars": 1})
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::super::schema;
    use super::*;
    use crate::protocol::wire::session_document::SessionDocument;

    #[test]
    fn every_built_in_document_is_in_order() {
        for document in all() {
            let content: Value = serde_json::from_str(&document.version.content).unwrap();
            let outline = schema::check(&document.name, &document.document_type, &content);
            assert!(outline.is_ok(), "{}: {outline:?}", document.name);
            assert!(content.get("inputs").is_none(), "{}", document.name);
        }
    }

    #[test]
    fn ports_hosts_and_sockets_are_taken_in_their_form_only() {
        for (name, parameter, good, bad) in [
            (
                "AWS-StartSSHSession",
                "portNumber",
                &["22", "1", "65535"][..],
                &["0", "65536", "022", "22 ", "ssh", "-1"][..],
            ),
            (
                "AWS-StartPortForwardingSession",
                "localPortNumber",
                &["0", "8080", "65535"],
                &["65536", "x", ""],
            ),
            (
                "AWS-StartPortForwardingSessionToRemoteHost",
                "host",
                &["db.internal", "10.0.0.1", "fe80::1%eth0", "a_b"],
                &["a b", "$(id)", "a;b", "{{ x }}", ""],
            ),
            (
                "SSM-StartUnixSocketForwarding",
                "socket",
                &["/run/docker.sock"],
                &["run/docker.sock", "/", "/a\0b"],
            ),
            (
                "AWS-StartNonInteractiveCommand",
                "stdErrSeparatorPrefix",
                &["err: ", "", "E\n"][1..],
                &["no spaces", "$"],
            ),
        ] {
            let content = &find(name).unwrap().version.content;
            let document: SessionDocument = serde_json::from_str(content).unwrap();
            let definition = &document.parameters[parameter];
            for value in good {
                assert_eq!(definition.check(parameter, &json!(value)), Ok(()), "{name}");
            }
            for value in bad {
                let checked = definition.check(parameter, &json!(value));
                assert!(checked.is_err(), "{name} {value}");
            }
        }
    }

    #[test]
    fn values_reach_the_properties_as_strings() {
        let content = &find("SSM-StartUnixSocketForwarding")
            .unwrap()
            .version
            .content;
        let document: SessionDocument = serde_json::from_str(content).unwrap();
        let values = Map::from_iter([("socket".to_owned(), json!("/run/docker.sock"))]);

        let resolved = document.resolve(&values).unwrap();

        assert_eq!(
            resolved.properties,
            json!({
                "unixSocket": "/run/docker.sock", "type": "LocalPortForwarding",
                "localPortNumber": "0"
            })
        );
    }
}
