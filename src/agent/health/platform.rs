//! Name and version of the distribution, from its release files.
//!
//! | file, in this order | counts if |
//! |---|---|
//! | `centos-release` | it names CentOS: its os-release has only the major version |
//! | `bottlerocket-release` | it exists: os-release there is the one of a container |
//! | `os-release` | it exists |
//! | `system-release` | it names a known distribution |
//! | `redhat-release` | it names Red Hat |

use std::fs;
use std::path::Path;

/// What the service shows where nothing is known.
const NOT_AVAILABLE: &str = "NotAvailable";
/// Distributions that `system-release` is believed for.
const SYSTEM_RELEASES: [&str; 7] = [
    "Amazon", "Red Hat", "CentOS", "SLES", "Raspbian", "Oracle", "Rocky",
];

/// A distribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// Its name, as `Debian GNU/Linux`.
    pub name: String,
    /// Its version, as `12`; empty for a rolling one.
    pub version: String,
}

impl Platform {
    /// The one of this host.
    pub fn of_this_host() -> Self {
        Self::read(Path::new("/etc"))
    }

    fn read(etc: &Path) -> Self {
        let text = |name: &str| fs::read_to_string(etc.join(name)).ok();
        // Where it is a link to, and what counts where somebody removed the link.
        let vendor = || text("../usr/lib/os-release");
        let sentence = |name: &str, known: &[&str]| {
            let text = text(name)?;
            let is_known = known.iter().any(|distribution| text.contains(distribution));
            is_known.then(|| parse_sentence(&text))
        };
        sentence("centos-release", &["CentOS"])
            .or_else(|| Some(parse_assignments(&text("bottlerocket-release")?)))
            .or_else(|| Some(parse_assignments(&text("os-release").or_else(vendor)?)))
            .or_else(|| sentence("system-release", &SYSTEM_RELEASES))
            .or_else(|| sentence("redhat-release", &["Red Hat"]))
            .unwrap_or_else(|| Self {
                name: NOT_AVAILABLE.to_owned(),
                version: NOT_AVAILABLE.to_owned(),
            })
    }
}

/// `CentOS Linux release 7.9.2009 (Core)`.
fn parse_sentence(text: &str) -> Platform {
    let (name, rest) = text.split_once("release").unwrap_or((text, ""));
    let version = rest.split('(').next().unwrap_or_default().trim();
    Platform {
        name: name.trim().to_owned(),
        version: match version {
            "" => NOT_AVAILABLE.to_owned(),
            version => version.to_owned(),
        },
    }
}

/// `NAME="Debian GNU/Linux"`, one assignment a line. A rolling distribution has no version.
fn parse_assignments(text: &str) -> Platform {
    let value = |name: &str| {
        let lines = text.lines().map(str::trim);
        let mut values = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        values.next_back().map(unquote).unwrap_or_default()
    };
    Platform {
        name: value("NAME"),
        version: value("VERSION_ID"),
    }
}

/// Takes off the quotes and the backslashes that a shell would.
fn unquote(value: &str) -> String {
    let value = value.trim();
    let quoted = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
    if let Some(inner) = quoted('\'') {
        return inner.to_owned();
    }
    let inner = quoted('"').unwrap_or(value);
    let mut plain = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.extend(characters.next()),
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> (String, String) {
        let etc = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(etc.path().join(name), text).unwrap();
        }
        let Platform { name, version } = Platform::read(etc.path());
        (name, version)
    }

    #[test]
    fn distributions_are_told_as_the_reference_tells_them() {
        let debian = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nVERSION=\"12\"\n";
        let arch = "NAME='Arch Linux'\nID=arch\n";
        let centos = "CentOS Linux release 7.9.2009 (Core)\n";
        type Files<'a> = &'a [(&'a str, &'a str)];
        let table: [(Files<'_>, &str, &str); 8] = [
            (&[("os-release", debian)], "Debian GNU/Linux", "12"),
            (&[("os-release", arch)], "Arch Linux", ""),
            (
                &[("os-release", debian), ("centos-release", centos)],
                "CentOS Linux",
                "7.9.2009",
            ),
            (
                &[
                    ("os-release", debian),
                    ("centos-release", "Rocky Linux release 9\n"),
                ],
                "Debian GNU/Linux",
                "12",
            ),
            (
                &[
                    ("os-release", debian),
                    (
                        "bottlerocket-release",
                        "NAME=Bottlerocket\nVERSION_ID=1.20.1\n",
                    ),
                ],
                "Bottlerocket",
                "1.20.1",
            ),
            (
                &[("system-release", "Amazon Linux AMI release 2018.03\n")],
                "Amazon Linux AMI",
                "2018.03",
            ),
            (
                &[(
                    "redhat-release",
                    "Red Hat Enterprise Linux Server release 6.10 (Santiago)\n",
                )],
                "Red Hat Enterprise Linux Server",
                "6.10",
            ),
            (&[], "NotAvailable", "NotAvailable"),
        ];

        for (files, name, version) in table {
            assert_eq!(read(files), (name.to_owned(), version.to_owned()));
        }
    }

    #[test]
    fn values_are_unquoted_as_by_a_shell() {
        for (value, plain) in [
            (r#""a \"b\" \$c""#, r#"a "b" $c"#),
            ("'a \\ b'", "a \\ b"),
            ("plain", "plain"),
            ("\"", "\""),
            ("\\", ""),
        ] {
            assert_eq!(unquote(value), plain);
        }
    }
}
