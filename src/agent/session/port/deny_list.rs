//! Addresses that no port session may forward to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::network::Network;

/// The reference's default for `Mgs.DeniedPortForwardingRemoteIPs`: the services that every EC2
/// instance reaches on its link. Whoever asked instance metadata would have the host's credentials.
const DEFAULT: [IpAddr; 9] = [
    link_local(254),
    link_local(253),
    link_local(123),
    link_local(250),
    link_local(251),
    unique_local(0x254),
    unique_local(0x253),
    unique_local(0x123),
    unique_local(0x240),
];

/// Addresses that no port session may forward to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DenyList(Vec<IpAddr>);

impl DenyList {
    /// A list of these addresses alone.
    pub fn new(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let addresses = addresses.into_iter();
        Self(addresses.map(|address| address.to_canonical()).collect())
    }

    /// This list, and the own addresses of these networks.
    pub(super) fn with(&self, networks: &[Network]) -> Self {
        let own = networks.iter().flat_map(|network| network.own_addresses());
        Self::new(self.0.iter().copied().chain(own))
    }

    /// Whether a connection to this address would reach one of the list.
    pub(super) fn denies(&self, address: IpAddr) -> bool {
        let inner = match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => embedded(address).map(IpAddr::V4),
        };
        self.0.contains(&address) || inner.is_some_and(|inner| self.0.contains(&inner))
    }
}

impl Default for DenyList {
    fn default() -> Self {
        Self::new(DEFAULT)
    }
}

/// The IPv4 address that a connection to this IPv6 address may end up at.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let (high, low) = match address.segments() {
        // IPv4-compatible, IPv4-mapped and IPv4-translated addresses.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => (high, low),
        // NAT64 with the well-known prefix.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => (high, low),
        // 6to4.
        [0x2002, high, low, ..] => (high, low),
        _ => return None,
    };
    Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
}

const fn link_local(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, last))
}

const fn unique_local(last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_name_and_time_services_are_denied_by_default() {
        for address in [
            "169.254.169.254",
            "169.254.169.253",
            "169.254.169.123",
            "169.254.169.250",
            "169.254.169.251",
            "fd00:ec2::254",
            "fd00:ec2::253",
            "fd00:ec2::123",
            "fd00:ec2::240",
        ] {
            assert!(DenyList::default().denies(ip(address)), "{address}");
        }
        for address in [
            "127.0.0.1",
            "::1",
            "169.254.169.1",
            "10.0.0.2",
            "fd00:ec2::1",
        ] {
            assert!(!DenyList::default().denies(ip(address)), "{address}");
        }
    }

    #[test]
    fn denied_address_is_denied_in_every_wrapping() {
        for address in [
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "::ffff:0:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
        ] {
            assert!(DenyList::default().denies(ip(address)), "{address}");
        }
        assert!(!DenyList::default().denies(ip("2001:db8::a9fe:a9fe")));
    }

    #[test]
    fn own_addresses_of_networks_are_denied_beside_the_list() {
        let networks = [Network::parse("10.0.0.0/16").unwrap()];

        let list = DenyList::default().with(&networks);

        for address in ["10.0.0.2", "::ffff:10.0.255.255", "169.254.169.254"] {
            assert!(list.denies(ip(address)), "{address}");
        }
        for address in ["10.0.0.4", "10.0.255.254", "127.0.0.1"] {
            assert!(!list.denies(ip(address)), "{address}");
        }
    }

    #[test]
    fn list_may_name_addresses_in_their_ipv6_form() {
        let list = DenyList::new([ip("::ffff:10.0.0.2")]);

        assert!(list.denies(ip("10.0.0.2")));
        assert!(list.denies(ip("::ffff:10.0.0.2")));
        assert!(!list.denies(ip("169.254.169.254")));
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }
}
