//! What kind of machine this is, as its firmware or hypervisor tells.

use std::fs;
use std::path::Path;

/// The vendor that instances on Nitro and bare metal name.
const VENDOR: &str = "amazon ec2";
/// The end of the hypervisor's version on the older instances.
const XEN_VERSION: &str = ".amazon";

/// A kind of machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Machine {
    /// An instance of EC2.
    Instance,
    /// Another, or it cannot be told.
    Other,
}

impl Machine {
    /// This one.
    pub(super) fn of_this_host() -> Self {
        Self::read(Path::new("/sys"))
    }

    fn read(sys: &Path) -> Self {
        let text = |name: &str| {
            let text = fs::read_to_string(sys.join(name)).unwrap_or_default();
            text.trim().to_ascii_lowercase()
        };
        // Only root may read the UUID; who may not has to believe the vendor.
        let uuid = text("class/dmi/id/product_uuid");
        let is_nitro = text("class/dmi/id/sys_vendor") == VENDOR
            && (uuid.is_empty() || is_instance_uuid(&uuid));
        let is_xen = text("hypervisor/version/extra").ends_with(XEN_VERSION)
            && is_instance_uuid(&text("hypervisor/uuid"));
        if is_nitro || is_xen {
            Self::Instance
        } else {
            Self::Other
        }
    }
}

/// UUIDs of instances begin with `ec2`, in either order of their bytes.
fn is_instance_uuid(uuid: &str) -> bool {
    let bytes = uuid.as_bytes();
    let is_uuid = uuid::Uuid::try_parse(uuid).is_ok() && bytes.len() == 36;
    is_uuid && (uuid.starts_with("ec2") || (bytes[4] == b'2' && &bytes[6..8] == b"ec"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_known_by_vendor_or_hypervisor_and_uuid() {
        let big = "EC2E1916-9099-7CAF-FD21-012345ABCDEF\n";
        let little = "45E12AEC-DCD1-B213-94ED-012345ABCDEF\n";
        let foreign = "4c4c4544-0042-3510-8056-b7c04f4e3732\n";
        let vendor = "class/dmi/id/sys_vendor";
        let uuid = "class/dmi/id/product_uuid";
        let (version, xen) = ("hypervisor/version/extra", "hypervisor/uuid");
        let table: [(&[(&str, &str)], Machine); 7] = [
            (&[(vendor, "Amazon EC2\n"), (uuid, big)], Machine::Instance),
            (
                &[(vendor, "Amazon EC2\n"), (uuid, little)],
                Machine::Instance,
            ),
            (&[(vendor, "Amazon EC2\n")], Machine::Instance),
            (&[(vendor, "Amazon EC2\n"), (uuid, foreign)], Machine::Other),
            (&[(version, "4.11.amazon\n"), (xen, big)], Machine::Instance),
            (
                &[(vendor, "Xen\n"), (version, "4.11\n"), (xen, big)],
                Machine::Other,
            ),
            (&[], Machine::Other),
        ];

        for (files, expected) in table {
            let sys = tempfile::tempdir().unwrap();
            for (name, text) in files {
                let path = sys.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            assert_eq!(Machine::read(sys.path()), expected, "{files:?}");
        }
    }
}
