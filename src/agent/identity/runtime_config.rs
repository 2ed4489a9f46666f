//! `runtimeconfig/identity_config.json`: who the agent is, for tools that ask while it runs.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::Serialize;

use crate::runtime::atomic_file;

const SCHEMA_VERSION: &str = "1.1";
const FILE_MODE: u32 = 0o600;
/// Go's zero time, which the reference writes where there is no date.
const NO_DATE: &str = "0001-01-01T00:00:00Z";

/// Where credentials come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Systems Manager, by the node's key.
    Service,
    /// The profile of an EC2 instance.
    Profile,
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Self::Service => "SSM",
            Self::Profile => "EC2",
        }
    }
}

/// The file's content.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RuntimeConfig {
    schema_version: &'static str,
    instance_id: String,
    identity_type: &'static str,
    share_file: String,
    share_profile: String,
    credentials_expires_at: String,
    credentials_retrieved_at: String,
    credential_source: &'static str,
}

impl RuntimeConfig {
    /// Of an identity whose credentials are nobody else's business.
    pub(super) fn new(node_id: &str, identity_type: &'static str) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            instance_id: node_id.to_owned(),
            identity_type,
            share_file: String::new(),
            share_profile: String::new(),
            credentials_expires_at: NO_DATE.to_owned(),
            credentials_retrieved_at: NO_DATE.to_owned(),
            credential_source: "",
        }
    }

    /// With credentials from `source`, in the file `share` with its profile if they are shared.
    pub(super) fn with_credentials(
        mut self,
        source: Source,
        retrieved: SystemTime,
        expires: SystemTime,
        share: Option<(&Path, &str)>,
    ) -> Self {
        self.credentials_retrieved_at = rfc3339(retrieved);
        self.credentials_expires_at = rfc3339(expires);
        self.credential_source = source.name();
        if let Some((file, profile)) = share {
            self.share_file = file.display().to_string();
            profile.clone_into(&mut self.share_profile);
        }
        self
    }

    /// Writes the file below `state`.
    ///
    /// # Errors
    /// The I/O error of the failing step.
    pub(super) fn write(&self, state: &Path) -> io::Result<()> {
        let folder = state.join("runtimeconfig");
        atomic_file::create_private_dir(&folder)?;
        let text = serde_json::to_vec(self)?;
        atomic_file::write(&folder.join("identity_config.json"), &text, FILE_MODE)
    }
}

fn rfc3339(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| NO_DATE.to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn file_is_the_one_of_the_reference() {
        let state = tempfile::tempdir().unwrap();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let retrieved = at(1_795_341_923) + Duration::from_nanos(151_196_773);
        let share = Some((Path::new("/root/.aws/credentials"), ""));

        RuntimeConfig::new("mi-1", "OnPrem")
            .with_credentials(Source::Service, retrieved, at(1_795_345_523), share)
            .write(state.path())
            .unwrap();

        let path = state.path().join("runtimeconfig/identity_config.json");
        assert_eq!(
            std::fs::read_to_string(path).unwrap(),
            concat!(
                r#"{"SchemaVersion":"1.1","InstanceId":"mi-1","IdentityType":"OnPrem","#,
                r#""ShareFile":"/root/.aws/credentials","ShareProfile":"","#,
                r#""CredentialsExpiresAt":"2026-11-22T11:05:23Z","#,
                r#""CredentialsRetrievedAt":"2026-11-22T10:05:23.151196773Z","CredentialSource":"SSM"}"#
            )
        );
    }
}
