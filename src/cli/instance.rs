//! `get-instance-information`: who this host is, from the running agent or else from its files.

use serde::Serialize;

use super::agent;
use crate::agent::{Places, config, identity, setup};
use crate::protocol::wire::version::AGENT_WIRE_VERSION;
use crate::runtime::exit::Hint;

/// What is printed, with the reference's names.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Information {
    pub(super) instance_id: String,
    region: String,
    release_version: String,
}

/// Finds it out.
///
/// # Errors
/// If this host has no identity, or it cannot be read.
pub(super) async fn find(places: &Places) -> anyhow::Result<Information> {
    if let Ok(status) = agent::status(&places.socket()).await {
        return Ok(Information {
            instance_id: status.node_id,
            region: status.region,
            release_version: status.wire_version,
        });
    }
    let (settings, _) = config::load(&places.config)?;
    let who = identity::who(&setup::identity(&settings, &places.state));
    let who = who.map_err(|error| {
        let hint = error.hint();
        Hint::with(error, hint)
    })?;
    Ok(Information {
        instance_id: who.node_id,
        region: who.region,
        release_version: AGENT_WIRE_VERSION.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_the_references() {
        let information = Information {
            instance_id: "mi-1".into(),
            region: "eu-central-1".into(),
            release_version: "3.3.1.0".into(),
        };

        assert_eq!(
            serde_json::to_string(&information).unwrap(),
            r#"{"instance-id":"mi-1","region":"eu-central-1","release-version":"3.3.1.0"}"#
        );
    }
}
