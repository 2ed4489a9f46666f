//! Networks of the instance that the agent runs on, whose own addresses no port session may lead to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::sync::watch;

/// Addresses at the beginning of a network that are the network's own: its name, the router, the
/// resolver, and one that is reserved.
const FIRST: u8 = 4;

/// A network, as an address and the length of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    /// Reads `10.0.0.0/16` and the like.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.trim().split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let longest = match address {
            IpAddr::V4(_) => Ipv4Addr::BITS,
            IpAddr::V6(_) => Ipv6Addr::BITS,
        };
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= longest)?;
        Some(Self { address, prefix })
    }

    /// The addresses that are the network's own: the first four, which the reference counts from the
    /// address as it is written, and the last.
    pub(super) fn own_addresses(self) -> Vec<IpAddr> {
        let steps = 0..FIRST;
        match self.address {
            IpAddr::V4(address) => {
                let hosts = u32::MAX.checked_shr(self.prefix).unwrap_or(0);
                let first = steps.filter_map(|step| address.to_bits().checked_add(step.into()));
                let all = first.chain([address.to_bits() | hosts]);
                all.map(|bits| Ipv4Addr::from_bits(bits).into()).collect()
            }
            IpAddr::V6(address) => {
                let hosts = u128::MAX.checked_shr(self.prefix).unwrap_or(0);
                let first = steps.filter_map(|step| address.to_bits().checked_add(step.into()));
                let all = first.chain([address.to_bits() | hosts]);
                all.map(|bits| Ipv6Addr::from_bits(bits).into()).collect()
            }
        }
    }
}

/// The instance's networks, once they are known; on other hosts there are none.
#[derive(Debug, Clone, Default)]
pub struct Networks(Option<watch::Receiver<Option<Vec<Network>>>>);

impl Networks {
    /// Those that are told by the other end of `told`. Port sessions to other hosts wait for the first
    /// word, so it has to come, or the other end has to go.
    pub fn told_by(told: watch::Receiver<Option<Vec<Network>>>) -> Self {
        Self(Some(told))
    }

    /// Those that are known, once it was asked for them.
    pub(super) async fn known(&self) -> Vec<Network> {
        let Some(mut told) = self.0.clone() else {
            return Vec::new();
        };
        // It fails where nobody will tell any more.
        let _ = told.wait_for(Option::is_some).await;
        let known = told.borrow();
        known.clone().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_four_addresses_and_the_last_are_the_network_s_own() {
        for (network, own) in [
            (
                "10.0.0.0/16",
                vec![
                    "10.0.0.0",
                    "10.0.0.1",
                    "10.0.0.2",
                    "10.0.0.3",
                    "10.0.255.255",
                ],
            ),
            (
                "10.0.255.254/16",
                vec![
                    "10.0.255.254",
                    "10.0.255.255",
                    "10.1.0.0",
                    "10.1.0.1",
                    "10.0.255.255",
                ],
            ),
            (
                "2600:1f16:a:b00::/56",
                vec![
                    "2600:1f16:a:b00::",
                    "2600:1f16:a:b00::1",
                    "2600:1f16:a:b00::2",
                    "2600:1f16:a:b00::3",
                    "2600:1f16:a:bff:ffff:ffff:ffff:ffff",
                ],
            ),
            (
                "255.255.255.255/32",
                vec!["255.255.255.255", "255.255.255.255"],
            ),
            (
                "::/0",
                vec![
                    "::",
                    "::1",
                    "::2",
                    "::3",
                    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                ],
            ),
        ] {
            let own: Vec<IpAddr> = own.iter().map(|text| text.parse().unwrap()).collect();

            assert_eq!(
                Network::parse(network).unwrap().own_addresses(),
                own,
                "{network}"
            );
        }
    }

    #[test]
    fn what_is_no_network_is_none() {
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "10.0.0.0/-1",
            "vpc/16",
        ] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn networks_are_waited_for_until_they_are_told_or_nobody_can_tell_them() {
        let network = Network::parse("10.0.0.0/16").unwrap();
        let (tell, told) = watch::channel(None);
        let networks = Networks::told_by(told);
        let asked = networks.clone();
        let known = tokio::spawn(async move { asked.known().await });
        tokio::task::yield_now().await;
        assert!(!known.is_finished());

        tell.send_replace(Some(vec![network]));

        assert_eq!(known.await.unwrap(), [network]);
        drop(tell);
        assert_eq!(networks.known().await, [network]);
        let (_, told) = watch::channel(None);
        assert_eq!(Networks::told_by(told).known().await, []);
        assert_eq!(Networks::default().known().await, []);
    }
}
