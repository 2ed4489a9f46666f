//! The networks that an instance is in.

use super::{Metadata, MetadataError, malformed};

/// The interfaces, one a line, each with a `/` behind it.
const INTERFACES: &str = "/latest/meta-data/network/interfaces/macs/";
/// What an interface knows of its VPC: the first of its networks alone, and lists with one a line.
const BLOCKS: [&str; 3] = [
    "vpc-ipv4-cidr-block",
    "vpc-ipv4-cidr-blocks",
    "vpc-ipv6-cidr-blocks",
];

impl Metadata {
    /// The networks of the VPCs that the instance has interfaces in, each as an address, `/`, and the
    /// length of its prefix. None of them is told twice.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub async fn vpc_networks(&self) -> Result<Vec<String>, MetadataError> {
        let mut networks = Vec::new();
        for interface in self.lines(INTERFACES).await? {
            let address = interface.trim_end_matches('/');
            if !is_hardware_address(address) {
                let reason = format!("{address:?} is no interface");
                return Err(malformed(INTERFACES, &reason));
            }
            for name in BLOCKS {
                let path = format!("{INTERFACES}{address}/{name}");
                for network in self.lines(&path).await? {
                    if !networks.contains(&network) {
                        networks.push(network);
                    }
                }
            }
        }
        Ok(networks)
    }

    /// The lines at `path`; none where there is nothing.
    async fn lines(&self, path: &str) -> Result<Vec<String>, MetadataError> {
        let text = match self.get(path).await {
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            text => text?,
        };
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        Ok(lines.map(str::to_owned).collect())
    }
}

/// It becomes part of a path.
fn is_hardware_address(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_hexdigit() || c == ':')
}
