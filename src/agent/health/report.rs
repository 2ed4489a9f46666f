//! What `UpdateInstanceInformation` says about this host.

use std::net::IpAddr;
use std::process::Stdio;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{SockaddrIn, SockaddrIn6};
use serde::Serialize;
use tokio::process::Command;

use super::platform::Platform;
use crate::aws::{AGENT_NAME, PLATFORM_TYPE};
use crate::protocol::wire::version::AGENT_WIRE_VERSION;

/// A resolver that does not answer does not hold up the report.
const HOSTNAME_TIMEOUT: Duration = Duration::from_secs(3);

/// The zone of an instance of EC2; empty elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zone {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
}

/// The full form.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Report<'a> {
    agent_name: &'static str,
    agent_status: &'static str,
    agent_version: &'static str,
    /// Known on EC2 only.
    availability_zone: &'a str,
    availability_zone_id: &'a str,
    computer_name: String,
    #[serde(rename = "IPAddress", skip_serializing_if = "Option::is_none")]
    ip_address: Option<IpAddr>,
    instance_id: &'a str,
    platform_name: String,
    platform_type: &'static str,
    platform_version: String,
    #[serde(rename = "SSMConnectionChannel")]
    channel: &'static str,
}

impl<'a> Report<'a> {
    /// Looks at this host.
    pub(super) async fn gather(node_id: &'a str, zone: &'a Zone, channel: &'static str) -> Self {
        Self::new(
            node_id,
            zone,
            channel,
            computer_name().await,
            best_address(addresses()),
            Platform::of_this_host(),
        )
    }

    fn new(
        node_id: &'a str,
        zone: &'a Zone,
        channel: &'static str,
        computer_name: String,
        ip_address: Option<IpAddr>,
        platform: Platform,
    ) -> Self {
        Self {
            agent_name: AGENT_NAME,
            agent_status: "Active",
            agent_version: AGENT_WIRE_VERSION,
            availability_zone: &zone.name,
            availability_zone_id: &zone.id,
            computer_name,
            ip_address,
            instance_id: node_id,
            platform_name: platform.name,
            platform_type: PLATFORM_TYPE,
            platform_version: platform.version,
            channel,
        }
    }
}

/// What `hostname --fqdn` says, else the host name.
async fn computer_name() -> String {
    let running = Command::new("/bin/hostname")
        .arg("--fqdn")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let full = match tokio::time::timeout(HOSTNAME_TIMEOUT, running).await {
        Ok(Ok(output)) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => String::new(),
    };
    if !full.is_empty() {
        return full;
    }
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().trim().to_owned()
}

fn addresses() -> impl Iterator<Item = IpAddr> {
    let interfaces = getifaddrs().into_iter().flatten();
    interfaces.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(SockaddrIn::ip);
        let v6 = || address.as_sockaddr_in6().map(SockaddrIn6::ip);
        v4.map(IpAddr::V4).or_else(|| v6().map(IpAddr::V6))
    })
}

/// The first address of the best sort: reachable from elsewhere before local, IPv4 before IPv6.
fn best_address(addresses: impl Iterator<Item = IpAddr>) -> Option<IpAddr> {
    addresses.min_by_key(|address| (is_local(address), address.is_ipv6()))
}

fn is_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_form_is_the_one_of_the_reference() {
        let zone = Zone {
            name: "eu-west-1b".into(),
            id: "euw1-az2".into(),
        };
        let report = Report::new(
            "i-1",
            &zone,
            "ssmmessages",
            "host.fqdn".into(),
            Some("10.0.0.5".parse().unwrap()),
            Platform {
                name: "Debian GNU/Linux".into(),
                version: "12".into(),
            },
        );

        let json = serde_json::to_string(&report).unwrap();

        assert_eq!(
            json,
            format!(
                concat!(
                    r#"{{"AgentName":"amazon-ssm-agent","AgentStatus":"Active","AgentVersion":"{}","#,
                    r#""AvailabilityZone":"eu-west-1b","AvailabilityZoneId":"euw1-az2","ComputerName":"host.fqdn","#,
                    r#""IPAddress":"10.0.0.5","InstanceId":"i-1","PlatformName":"Debian GNU/Linux","#,
                    r#""PlatformType":"Linux","PlatformVersion":"12","SSMConnectionChannel":"ssmmessages"}}"#
                ),
                AGENT_WIRE_VERSION
            )
        );
    }

    #[test]
    fn best_address_can_be_reached_and_is_ipv4_and_first() {
        let table: [(&[&str], Option<&str>); 6] = [
            (&["127.0.0.1", "10.0.0.5", "10.0.0.6"], Some("10.0.0.5")),
            (&["2001:db8::1", "10.0.0.5"], Some("10.0.0.5")),
            (
                &["169.254.1.1", "fe80::1", "2001:db8::1"],
                Some("2001:db8::1"),
            ),
            (&["::1", "127.0.0.1"], Some("127.0.0.1")),
            (&["fe80::1", "::1"], Some("fe80::1")),
            (&[], None),
        ];

        for (addresses, expected) in table {
            let addresses = addresses.iter().map(|address| address.parse().unwrap());
            let expected = expected.map(|address| address.parse().unwrap());
            assert_eq!(best_address(addresses), expected);
        }
    }

    #[tokio::test]
    async fn this_host_has_a_name() {
        assert!(!computer_name().await.is_empty());
    }
}
