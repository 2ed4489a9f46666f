//! What a host's hardware looks like: properties that tell one machine from another.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest, Md5};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{LinkAddr, SockaddrIn};
use tokio::process::Command;
use tracing::debug;

/// Property that must be equal for hardware to be the same.
pub(super) const MACHINE_ID: &str = "machine-id";
/// Property that settles it when it and the machine id are equal.
pub(super) const IP_ADDRESS: &str = "ipaddress-info";

/// systemd's id of the machine, and the older one of D-Bus.
const MACHINE_ID_FILES: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];
const DMIDECODE: &str = "/usr/sbin/dmidecode";
/// A command that takes longer, on a machine whose firmware or disks hang, counts as failed.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the properties come from.
pub(super) trait Hardware: Send + Sync {
    /// The machine id and the IP address, which cost nothing.
    fn quick(&self) -> Quick;

    /// All properties, for which commands run.
    fn properties(&self) -> impl Future<Output = BTreeMap<String, String>> + Send;
}

/// The properties that mostly suffice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Quick {
    pub(super) machine_id: String,
    pub(super) ip_address: String,
}

/// This host.
#[derive(Debug, Clone, Copy)]
pub(super) struct ThisHost;

impl Hardware for ThisHost {
    fn quick(&self) -> Quick {
        Quick {
            machine_id: machine_id(),
            ip_address: first_ipv4(),
        }
    }

    async fn properties(&self) -> BTreeMap<String, String> {
        let (processor, memory, bios, system, disks) = tokio::join!(
            hash_of_command(DMIDECODE, &["-t", "processor"]),
            hash_of_command(DMIDECODE, &["-t", "memory"]),
            hash_of_command(DMIDECODE, &["-t", "bios"]),
            hash_of_command(DMIDECODE, &["-t", "system"]),
            hash_of_command("ls", &["-l", "/dev/disk/by-uuid"]),
        );
        let Quick {
            machine_id,
            ip_address,
        } = self.quick();
        let properties = [
            (MACHINE_ID, machine_id),
            ("processor-hash", processor),
            ("memory-hash", memory),
            ("bios-hash", bios),
            ("system-hash", system),
            ("hostname-info", hostname()),
            (IP_ADDRESS, ip_address),
            ("macaddr-info", first_mac()),
            ("disk-info", disks),
        ];
        properties
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

/// The whole text of the file, with its line end: so does the reference.
fn machine_id() -> String {
    let text = MACHINE_ID_FILES
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok());
    text.unwrap_or_default()
}

fn hostname() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_default()
}

fn first_ipv4() -> String {
    let Ok(interfaces) = getifaddrs() else {
        return String::new();
    };
    let mut addresses = interfaces
        .filter_map(|interface| interface.address)
        .filter_map(|address| address.as_sockaddr_in().map(SockaddrIn::ip));
    addresses
        .find(|address| !address.is_loopback())
        .map_or_else(String::new, |address| address.to_string())
}

fn first_mac() -> String {
    let Ok(interfaces) = getifaddrs() else {
        return String::new();
    };
    let mut addresses = interfaces
        .filter_map(|interface| interface.address)
        .filter_map(|address| address.as_link_addr().and_then(LinkAddr::addr));
    let found = addresses.find(|mac| mac.iter().any(|&byte| byte != 0));
    let bytes = found.map(|mac| mac.map(|byte| format!("{byte:02x}")));
    bytes.map_or_else(String::new, |bytes| bytes.join(":"))
}

/// The base64 of the MD5 of what a command prints; empty if it fails. MD5 guards nothing here: it
/// only has to give what the reference agent stored.
async fn hash_of_command(program: &str, arguments: &[&str]) -> String {
    let running = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(COMMAND_TIMEOUT, running).await {
        Ok(Ok(output)) if output.status.success() => BASE64.encode(Md5::digest(&output.stdout)),
        Ok(Ok(output)) => {
            debug!(program, ?arguments, status = %output.status, "hardware property is left out");
            String::new()
        }
        Ok(Err(error)) => {
            debug!(program, ?arguments, %error, "hardware property is left out");
            String::new()
        }
        Err(_) => {
            debug!(
                program,
                ?arguments,
                "hardware property is left out: no answer in time"
            );
            String::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn properties_have_the_names_of_the_reference() {
        let properties = ThisHost.properties().await;

        let names: Vec<&str> = properties.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "bios-hash",
                "disk-info",
                "hostname-info",
                "ipaddress-info",
                "macaddr-info",
                "machine-id",
                "memory-hash",
                "processor-hash",
                "system-hash"
            ]
        );
    }

    #[tokio::test]
    async fn hash_is_base64_of_md5() {
        assert_eq!(
            hash_of_command("printf", &["abc"]).await,
            "kAFQmDzST7DWlj99KOF/cg=="
        );
    }

    #[tokio::test]
    async fn command_that_fails_or_is_missing_gives_nothing() {
        assert_eq!(hash_of_command("false", &[]).await, "");
        assert_eq!(hash_of_command("/no/such/program", &[]).await, "");
    }
}
