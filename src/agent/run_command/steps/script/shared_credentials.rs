//! Where AWS tools in scripts find the node's credentials: what `runtimeconfig/identity_config.json` says
//! at the time, which is written anew with the credentials. On EC2 it names a file only while the
//! credentials are those of Default Host Management.

use std::fs::File;
use std::io::{self, Read};

use serde::Deserialize;
use tracing::debug;

use crate::agent::run_command::settings::Settings;

/// The file, below the folder of the agent's state.
const RUNTIME_CONFIG: &str = "runtimeconfig/identity_config.json";
/// Longest such file.
const LIMIT: u64 = 64 << 10;

/// What the file says of shared credentials; both are empty where they are not shared.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct SharedCredentials {
    share_file: String,
    share_profile: String,
}

impl SharedCredentials {
    /// Those of this node; none where the file cannot be read, as in the reference.
    pub(super) fn of_node(settings: &Settings) -> Self {
        let path = settings.state_folder().join(RUNTIME_CONFIG);
        let read = File::open(path).and_then(|file| {
            let mut text = Vec::new();
            file.take(LIMIT).read_to_end(&mut text)?;
            serde_json::from_slice(&text).map_err(io::Error::from)
        });
        read.unwrap_or_else(|error| {
            debug!(%error, "a script is not told of shared credentials");
            Self::default()
        })
    }

    /// The variables by which AWS tools find them.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let named = [
            ("AWS_PROFILE", self.share_profile.as_str()),
            ("AWS_SHARED_CREDENTIALS_FILE", self.share_file.as_str()),
        ];
        named.into_iter().filter(|(_, value)| !value.is_empty())
    }
}
