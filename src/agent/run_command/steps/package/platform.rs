//! What this host is, in the words of manifests and of package scripts, which are Ohai's.
//!
//! Nothing is run to find out. Where the reference gives up on a host that it does not know, the words
//! are left empty here: a package for any host has a file for it.

use std::fs;
use std::path::Path;

/// An operating system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct OperatingSystem {
    pub(super) platform: String,
    pub(super) version: String,
    pub(super) family: &'static str,
    pub(super) architecture: &'static str,
    pub(super) init_system: &'static str,
    pub(super) package_manager: &'static str,
}

impl OperatingSystem {
    /// The one of this host; the error is the text for the reply.
    pub(super) fn of_this_host() -> Result<Self, String> {
        Self::read(Path::new("/"))
    }

    fn read(root: &Path) -> Result<Self, String> {
        let (platform, version) = distribution(root);
        if matches!(platform.as_str(), "bottlerocket" | "flatcar") {
            return Err(format!(
                "failed to collect data: configure package is not supported on {platform}"
            ));
        }
        let (family, package_manager) = family(&platform);
        Ok(Self {
            platform,
            version,
            family,
            architecture: architecture(std::env::consts::ARCH),
            init_system: init_system(root),
            package_manager,
        })
    }
}

/// Go's words, but for the most frequent one.
fn architecture(ours: &'static str) -> &'static str {
    match ours {
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// Name and version.
fn distribution(root: &Path) -> (String, String) {
    let read = |name: &str| fs::read_to_string(root.join(name)).ok();
    let release = read("etc/os-release").or_else(|| read("usr/lib/os-release"));
    if let Some(found) = release.as_deref().and_then(of_os_release) {
        return found;
    }
    if let Some(version) = read("etc/debian_version") {
        return ("debian".into(), version.trim().to_owned());
    }
    let sentence = ["etc/redhat-release", "etc/system-release"];
    sentence
        .iter()
        .find_map(|name| of_sentence(&read(name)?))
        .or_else(|| {
            Some((
                "alpine".into(),
                read("etc/alpine-release")?.trim().to_owned(),
            ))
        })
        .unwrap_or_default()
}

fn of_os_release(text: &str) -> Option<(String, String)> {
    let value = |name: &str| {
        let lines = text.lines();
        let mut values = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let value = values.next_back().unwrap_or_default();
        value.trim().trim_matches(['"', '\'']).to_owned()
    };
    let (id, version) = (value("ID"), value("VERSION_ID"));
    let platform = match id.as_str() {
        "" if version.is_empty() => return None,
        "rhel" => "redhat".to_owned(),
        "ol" => "oracle".to_owned(),
        "amzn" => "amazon".to_owned(),
        "sles" => "suse".to_owned(),
        "opensuse" | "opensuse-leap" if value("NAME").to_ascii_lowercase().contains("leap") => {
            "opensuseleap".to_owned()
        }
        _ => id,
    };
    Some((platform, version))
}

/// `CentOS release 6.10 (Final)`.
fn of_sentence(text: &str) -> Option<(String, String)> {
    const NAMES: [(&str, &str); 7] = [
        ("red hat enterprise linux", "redhat"),
        ("oracle linux", "oracle"),
        ("centos", "centos"),
        ("rocky", "rocky"),
        ("fedora", "fedora"),
        ("amazon linux", "amazon"),
        ("almalinux", "almalinux"),
    ];
    let lower = text.to_ascii_lowercase();
    let (_, platform) = NAMES.iter().find(|(name, _)| lower.contains(name))?;
    let is_version = |word: &&str| word.chars().all(|c| c.is_ascii_digit() || c == '.');
    let version = lower.split_whitespace().rfind(is_version)?;
    Some(((*platform).to_owned(), version.to_owned()))
}

/// Family and package manager.
fn family(platform: &str) -> (&'static str, &'static str) {
    match platform {
        "ubuntu" | "debian" | "raspbian" => ("debian", "apt"),
        "redhat" | "centos" | "amazon" | "oracle" | "rocky" | "almalinux" => ("rhel", "yum"),
        "fedora" => ("fedora", "dnf"),
        "alpine" => ("alpine", "alpine"),
        "suse" | "opensuse" | "opensuseleap" => ("suse", "zypper"),
        "gentoo" => ("gentoo", "emerge"),
        "arch" => ("arch", "pacman"),
        _ => ("", ""),
    }
}

fn init_system(root: &Path) -> &'static str {
    let has = |name: &str, word: &str| {
        fs::read_to_string(root.join(name)).is_ok_and(|text| text.contains(word))
    };
    let exists = |names: &[&str]| names.iter().any(|name| root.join(name).exists());
    if has("proc/1/comm", "systemd") {
        "systemd"
    } else if has("proc/1/cgroup", "docker") {
        "docker"
    } else if exists(&["run/openrc"]) {
        "openrc"
    } else if exists(&["sbin/initctl"]) {
        "upstart"
    } else if exists(&["bin/systemctl", "usr/bin/systemctl"]) {
        "systemd"
    } else if exists(&["sbin/update-rc.d", "usr/sbin/update-rc.d"]) {
        "updatercd"
    } else if exists(&["sbin/chkconfig", "usr/bin/chkconfig"]) {
        "chkconfig"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> Result<OperatingSystem, String> {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        OperatingSystem::read(root.path())
    }

    #[test]
    fn distributions_have_ohais_names() {
        for (id, name, version, platform, family, manager) in [
            ("amzn", "Amazon Linux", "2023", "amazon", "rhel", "yum"),
            ("\"rhel\"", "RHEL", "9.4", "redhat", "rhel", "yum"),
            ("ol", "Oracle", "8", "oracle", "rhel", "yum"),
            ("sles", "SLES", "15.5", "suse", "suse", "zypper"),
            (
                "opensuse-leap",
                "openSUSE Leap",
                "15.5",
                "opensuseleap",
                "suse",
                "zypper",
            ),
            ("ubuntu", "Ubuntu", "24.04", "ubuntu", "debian", "apt"),
            ("fedora", "Fedora", "40", "fedora", "fedora", "dnf"),
            ("novelty", "Novelty", "1", "novelty", "", ""),
        ] {
            let text = format!("NAME=\"{name}\"\nID={id}\nVERSION_ID=\"{version}\"\n");
            let host = read(&[("etc/os-release", &text)]).unwrap();
            assert_eq!(
                (host.platform.as_str(), host.version.as_str()),
                (platform, version)
            );
            assert_eq!(
                (host.family, host.package_manager),
                (family, manager),
                "{platform}"
            );
        }
    }

    #[test]
    fn older_distributions_are_known_by_their_own_files() {
        for (file, text, platform, version) in [
            ("etc/debian_version", "10.3\n", "debian", "10.3"),
            (
                "etc/redhat-release",
                "CentOS release 6.10 (Final)\n",
                "centos",
                "6.10",
            ),
            (
                "etc/system-release",
                "Amazon Linux AMI release 2018.03\n",
                "amazon",
                "2018.03",
            ),
            ("etc/alpine-release", "3.20.1\n", "alpine", "3.20.1"),
            ("etc/nothing", "", "", ""),
        ] {
            let host = read(&[(file, text)]).unwrap();
            assert_eq!(
                (host.platform.as_str(), host.version.as_str()),
                (platform, version)
            );
        }
    }

    #[test]
    fn systems_that_take_no_packages_say_so() {
        let refused = read(&[("etc/os-release", "ID=flatcar\nVERSION_ID=1\n")]).unwrap_err();

        assert!(refused.ends_with("configure package is not supported on flatcar"));
    }

    #[test]
    fn init_system_is_found_without_running_anything() {
        for (file, text, name) in [
            ("proc/1/comm", "systemd\n", "systemd"),
            ("proc/1/cgroup", "0::/docker/x\n", "docker"),
            ("sbin/update-rc.d", "", "updatercd"),
            ("etc/nothing", "", ""),
        ] {
            assert_eq!(read(&[(file, text)]).unwrap().init_system, name);
        }
    }
}
