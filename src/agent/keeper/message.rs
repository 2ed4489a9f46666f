//! What agent and keeper tell each other. They may be of different versions: a member that is missing
//! has its default, one that is not known is ignored, and so is a message of an unknown type.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::agent::status::Sight;
use crate::aws::{Credentials, Secret};
use crate::protocol::wire::SessionId;
use crate::protocol::wire::control::StartSession;
use crate::protocol::wire::task::TaskComplete;

/// From the agent to a keeper.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "Type", rename_all_fields = "PascalCase")]
pub(super) enum ToKeeper {
    /// Whose sessions they are; the first message.
    Node {
        /// The node.
        node_id: String,
        /// Its region.
        region: String,
        /// Whether it is an instance of EC2, with metadata.
        #[serde(default)]
        is_instance: bool,
        /// Soft limit on open files for sessions.
        #[serde(default)]
        open_files: Option<u64>,
    },
    /// Credentials to sign with.
    Credentials(Lease),
    /// What the gateway announced on the control channel.
    Features {
        /// In their text form.
        features: String,
    },
    /// Start this session.
    Start {
        /// What is asked for.
        start: Box<StartSession>,
    },
    /// End this session.
    Terminate {
        /// The session.
        session_id: SessionId,
    },
    /// The result of this session was taken.
    Taken {
        /// The session.
        session_id: String,
    },
    /// End as soon as there is no session left: another keeper takes the next ones.
    Retire,
    /// End all sessions: the host shuts down.
    End,
    /// Of a later version.
    #[serde(other)]
    Unknown,
}

/// From a keeper to the agent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "Type", rename_all_fields = "PascalCase")]
pub(super) enum ToAgent {
    /// Who it is, and what it has; its first message.
    Greeting {
        /// Its program.
        program: ProgramFile,
        /// The digest of what its sessions are configured by.
        #[serde(default)]
        settings: String,
        /// Its sessions.
        sessions: Vec<SessionId>,
    },
    /// This session is the keeper's now.
    Accepted {
        /// The session.
        session_id: SessionId,
    },
    /// A session is over. Told again to each agent until it says that it has the result.
    Ended {
        /// Its result.
        result: Box<TaskComplete>,
    },
    /// What there is to see of its sessions.
    Shows {
        /// All of it.
        sight: Sight,
    },
    /// It takes no more sessions.
    Retiring,
    /// Of a later version.
    #[serde(other)]
    Unknown,
}

/// Temporary credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Lease {
    access_key_id: String,
    secret_access_key: Secret,
    #[serde(default)]
    session_token: Option<Secret>,
    /// Seconds since 1970.
    #[serde(default)]
    expires: Option<u64>,
}

impl Lease {
    /// Of these credentials.
    pub(super) fn of(credentials: &Credentials) -> Self {
        let seconds = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).ok();
        Self {
            access_key_id: credentials.access_key_id().to_owned(),
            secret_access_key: Secret::new(credentials.secret_access_key()),
            session_token: credentials.session_token().map(Secret::new),
            expires: credentials
                .expiry()
                .and_then(seconds)
                .map(|since| since.as_secs()),
        }
    }

    /// The credentials.
    pub(super) fn credentials(&self) -> Credentials {
        let expires = self.expires.map(Duration::from_secs);
        let expires = expires.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
        let token = self.session_token.as_ref();
        Credentials::new(
            &self.access_key_id,
            self.secret_access_key.expose(),
            token.map(|token| token.expose().to_owned()),
            expires,
            "agent",
        )
    }
}

/// Which file a process runs: an upgrade puts another one in its place, whatever its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ProgramFile {
    device: u64,
    inode: u64,
}

impl ProgramFile {
    /// This process's.
    pub(super) fn of_this_process() -> io::Result<Self> {
        let metadata = std::fs::metadata("/proc/self/exe")?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_come_out_as_they_went_in_and_do_not_show() {
        let expires = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
        let token = Some("token-text".to_owned());
        let credentials = Credentials::new("AKID", "secret-text", token, Some(expires), "test");

        let message = ToKeeper::Credentials(Lease::of(&credentials));
        let text = serde_json::to_string(&message).unwrap();
        let shown = format!("{message:?}");
        let ToKeeper::Credentials(lease) = serde_json::from_str(&text).unwrap() else {
            panic!("{text}")
        };

        let back = lease.credentials();
        assert_eq!(back.access_key_id(), "AKID");
        assert_eq!(back.secret_access_key(), "secret-text");
        assert_eq!(back.session_token(), Some("token-text"));
        assert_eq!(back.expiry(), Some(expires));
        assert!(!shown.contains("secret-text") && !shown.contains("token-text"));
    }

    #[test]
    fn messages_of_a_later_version_are_read_as_far_as_they_are_known() {
        let novelty = r#"{"Type":"Novelty","Member":1}"#;
        assert!(matches!(
            serde_json::from_str(novelty),
            Ok(ToKeeper::Unknown)
        ));
        assert!(matches!(
            serde_json::from_str(novelty),
            Ok(ToAgent::Unknown)
        ));
        let longer = r#"{"Type":"Terminate","SessionId":"alice-1","Novelty":{}}"#;
        assert!(matches!(
            serde_json::from_str(longer),
            Ok(ToKeeper::Terminate { session_id }) if session_id.as_str() == "alice-1"
        ));
    }
}
