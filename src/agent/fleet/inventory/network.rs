//! `AWS:Network`: the interfaces of this host, but loopback.

use std::net::IpAddr;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{LinkAddr, SockaddrIn, SockaddrIn6};

use super::error::GatherError;
use super::item::{Item, Row};

/// The type of the item.
pub(super) const TYPE: &str = "AWS:Network";
const SCHEMA: &str = "1.0";

/// An interface; of several addresses of a kind the last one counts, as in the reference.
#[derive(Debug, Default)]
struct Interface {
    name: String,
    mac: String,
    ipv4: String,
    ipv6: String,
}

/// The item.
///
/// # Errors
/// [`GatherError::Kernel`].
pub(super) fn item() -> Result<Item, GatherError> {
    let addresses = getifaddrs().map_err(|error| GatherError::Kernel(error.to_string()))?;
    let mut interfaces: Vec<Interface> = Vec::new();
    for address in addresses {
        if address.flags.contains(InterfaceFlags::IFF_LOOPBACK) {
            continue;
        }
        let name = &address.interface_name;
        let known = interfaces.iter().position(|known| known.name == *name);
        let index = known.unwrap_or_else(|| {
            interfaces.push(Interface {
                name: name.clone(),
                ..Interface::default()
            });
            interfaces.len() - 1
        });
        note(&mut interfaces[index], &address);
    }
    Ok(item_of(&interfaces))
}

fn note(interface: &mut Interface, address: &InterfaceAddress) {
    let Some(address) = address.address else {
        return;
    };
    if let Some(mac) = address.as_link_addr().and_then(LinkAddr::addr) {
        // Tunnels have a link without an address.
        if mac != [0; 6] {
            interface.mac = mac.map(|byte| format!("{byte:02x}")).join(":");
        }
    }
    let v4 = address.as_sockaddr_in().map(SockaddrIn::ip);
    let v6 = || address.as_sockaddr_in6().map(SockaddrIn6::ip);
    match v4.map(IpAddr::V4).or_else(|| v6().map(IpAddr::V6)) {
        Some(IpAddr::V4(address)) => interface.ipv4 = address.to_string(),
        Some(IpAddr::V6(address)) => interface.ipv6 = address.to_string(),
        None => {}
    }
}

fn item_of(interfaces: &[Interface]) -> Item {
    let rows = interfaces.iter().map(|interface| {
        Row::of([
            ("Name", &interface.name),
            ("MacAddress", &interface.mac),
            ("IPV4", &interface.ipv4),
            ("IPV6", &interface.ipv6),
        ])
    });
    Item::new(TYPE, SCHEMA, rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_those_of_the_reference() {
        let interface = Interface {
            name: "eth0".into(),
            mac: "02:00:00:00:00:01".into(),
            ipv4: "10.0.0.5".into(),
            ipv6: String::new(),
        };

        assert_eq!(item_of(&[interface]).hash, "MnV2xw0yhUOoxTge4ZAq7Q==");
    }

    #[test]
    fn loopback_is_left_out() {
        let item = item().unwrap();

        assert!(item.content.iter().all(|row| row.get("Name") != "lo"));
        assert!(
            item.content
                .iter()
                .all(|row| row.get("IPV4") != "127.0.0.1")
        );
    }
}
