//! An identity that the configuration states, with credentials of the default AWS chain.

use tracing::warn;

/// The only credentials provider there is.
const DEFAULT_PROVIDER: &str = "DEFAULT";

/// An entry of `Identity.CustomIdentities`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CustomIdentity {
    /// The node.
    pub node_id: String,
    /// Its region.
    pub region: String,
    /// The credentials provider; empty means the default one.
    pub credentials_provider: String,
}

/// The first entry that can be used.
pub(super) fn first_usable(entries: &[CustomIdentity]) -> Option<&CustomIdentity> {
    let usable = |entry: &&CustomIdentity| !entry.node_id.is_empty() && !entry.region.is_empty();
    let entry = entries.iter().find(usable)?;
    let provider = entry.credentials_provider.as_str();
    if !provider.is_empty() && provider != DEFAULT_PROVIDER {
        warn!(
            provider,
            "unknown credentials provider; using the default AWS chain"
        );
    }
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(node_id: &str, region: &str) -> CustomIdentity {
        CustomIdentity {
            node_id: node_id.into(),
            region: region.into(),
            credentials_provider: String::new(),
        }
    }

    #[test]
    fn entries_without_node_or_region_are_skipped() {
        let entries = [entry("", "r"), entry("i-1", ""), entry("i-2", "r")];

        assert_eq!(first_usable(&entries), Some(&entries[2]));
        assert_eq!(first_usable(&entries[..2]), None);
    }
}
