//! What a health report says about the host.

use std::net::IpAddr;
use std::process::Stdio;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use tokio::process::Command;
use tokio::time::timeout;

/// `hostname --fqdn` asks DNS; without an answer in this time the plain host name does.
const FQDN_PATIENCE: Duration = Duration::from_secs(2);
/// What the reference reports for a platform it does not know.
const UNKNOWN: &str = "NotAvailable";

/// What a health report says about the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Fully qualified host name, or the plain one.
    pub computer_name: String,
    /// The address others most likely reach the host at; empty if there is none.
    pub ip_address: String,
    /// `NAME` of os-release.
    pub platform_name: String,
    /// `VERSION_ID` of os-release.
    pub platform_version: String,
}

impl Facts {
    /// Looks at the host. What cannot be found is said to be unknown.
    pub async fn gather() -> Self {
        let (platform_name, platform_version) = ["/etc/os-release", "/usr/lib/os-release"]
            .iter()
            .find_map(|path| std::fs::read_to_string(path).ok())
            .map_or_else(|| (UNKNOWN.into(), UNKNOWN.into()), |text| platform(&text));
        Self {
            computer_name: computer_name().await,
            ip_address: best(addresses())
                .map(|ip| ip.to_string())
                .unwrap_or_default(),
            platform_name,
            platform_version,
        }
    }
}

async fn computer_name() -> String {
    let asked = Command::new("/bin/hostname")
        .arg("--fqdn")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    if let Ok(Ok(output)) = timeout(FQDN_PATIENCE, asked).await
        && output.status.success()
        && let Ok(name) = String::from_utf8(output.stdout)
        && !name.trim().is_empty()
    {
        return name.trim().to_owned();
    }
    let plain = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok());
    plain.unwrap_or_else(|| UNKNOWN.into())
}

fn addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = getifaddrs() else {
        return Vec::new();
    };
    interfaces
        .filter_map(|interface| interface.address)
        .filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .collect()
}

/// Neither loopback nor link-local first, then IPv4 before IPv6, then the first; as the reference.
fn best(addresses: Vec<IpAddr>) -> Option<IpAddr> {
    let is_local = |ip: &IpAddr| match ip {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local(),
    };
    addresses
        .into_iter()
        .min_by_key(|ip| (is_local(ip), ip.is_ipv6()))
}

fn platform(os_release: &str) -> (String, String) {
    let value = |key: &str| {
        let line = os_release
            .lines()
            .find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
        let text = line.map(|text| text.trim().trim_matches(['"', '\'']));
        text.filter(|text| !text.is_empty())
            .unwrap_or(UNKNOWN)
            .to_owned()
    };
    (value("NAME"), value("VERSION_ID"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platform_is_read_from_os_release() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\n";

        assert_eq!(platform(text), ("Debian GNU/Linux".into(), "12".into()));
        assert_eq!(platform("NAME=Alpine\n"), ("Alpine".into(), UNKNOWN.into()));
    }

    #[test]
    fn reachable_ipv4_address_is_preferred() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let all = [
            "127.0.0.1",
            "::1",
            "fe80::1",
            "2001:db8::1",
            "10.0.0.5",
            "10.0.0.6",
        ];

        assert_eq!(
            best(all.iter().map(|text| ip(text)).collect()),
            Some(ip("10.0.0.5"))
        );
        assert_eq!(
            best(vec![ip("127.0.0.1"), ip("2001:db8::1")]),
            Some(ip("2001:db8::1"))
        );
        assert_eq!(
            best(vec![ip("fe80::1"), ip("127.0.0.1")]),
            Some(ip("127.0.0.1"))
        );
        assert_eq!(best(Vec::new()), None);
    }

    #[tokio::test]
    async fn facts_of_this_host_are_found() {
        let facts = Facts::gather().await;

        assert!(!facts.computer_name.is_empty());
        assert!(!facts.platform_name.is_empty());
    }
}
