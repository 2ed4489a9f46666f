//! Names of packages and versions as names of folders, the reference's way: what can be a folder's name
//! stays, everything else is made safe, short and unique.

use aws_lc_rs::digest::{SHA256, digest};

/// Longest name that stays, and longest that is made.
const LONGEST: usize = 255;
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The folder's name for a package or a version.
pub(super) fn folder_name(name: &str) -> String {
    if is_plain(name) {
        name.to_owned()
    } else {
        made_name(&name.to_lowercase())
    }
}

/// Letters, digits and some signs, with dots only between others: nothing that leads elsewhere.
fn is_plain(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || " _+=()[]{}-".contains(c);
    let mut parts = name.split('.');
    let first = parts.next().unwrap_or_default();
    name.len() <= LONGEST
        && !name.ends_with(' ')
        && first.starts_with(|c: char| c.is_ascii_alphanumeric())
        && first.chars().all(allowed)
        && parts.all(|part| !part.is_empty() && part.chars().all(allowed))
}

fn made_name(lower: &str) -> String {
    let hash = digest(&SHA256, lower.as_bytes());
    let suffix = format!("_{:X}_{}", lower.len(), base32(hash.as_ref()));
    let mut normal: String = lower
        .replace('.', "-")
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .collect();
    let room = LONGEST - suffix.len();
    if normal.len() > room {
        normal.truncate(room - 1);
    }
    format!("_{normal}{suffix}")
}

/// RFC 4648's, with padding.
fn base32(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(5) {
        let mut group = [0; 8];
        group[3..3 + chunk.len()].copy_from_slice(chunk);
        let bits = u64::from_be_bytes(group);
        let used = (chunk.len() * 8).div_ceil(5);
        for place in 0..8 {
            let index = (bits >> (35 - 5 * place)) & 31;
            text.push(if place < used {
                char::from(BASE32[usize::try_from(index).unwrap_or(0)])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_stay() {
        for name in [
            "AWSCodeDeploy",
            "1.2.3",
            "1.0.0-rc+1",
            "My Package (x)",
            "a_b=[c]{d}",
        ] {
            assert_eq!(folder_name(name), name);
        }
    }

    #[test]
    fn names_that_lead_elsewhere_or_are_too_long_are_made_safe() {
        let long = "x".repeat(300);
        for name in [
            "", "..", "../etc", "a..b", "a/b", ".hidden", "end ", "end.", "ä", &long,
        ] {
            let folder = folder_name(name);
            assert!(
                folder.starts_with('_') && folder.len() <= LONGEST,
                "{folder}"
            );
            let safe = |c: char| c.is_ascii_alphanumeric() || "_-=".contains(c);
            assert!(folder.chars().all(safe), "{folder}");
        }
        assert_ne!(folder_name("a/b"), folder_name("a:b"));
        assert_eq!(folder_name("A/b"), folder_name("a/B"));
    }

    #[test]
    fn made_names_are_the_references() {
        // SHA-256 of the text in base32, its length in hexadecimal digits.
        assert_eq!(
            folder_name("arn:aws:ssm:::package/X"),
            "_arnawsssmpackagex_17_XBOGIGJJKAMZ4ZGG3YP6VBTNNQ6N7PKZN6O5ZE4OCTF72BM46K5A===="
        );
    }

    #[test]
    fn base32_is_that_of_the_standard() {
        for (bytes, text) in [
            ("", ""),
            ("f", "MY======"),
            ("fo", "MZXQ===="),
            ("foo", "MZXW6==="),
            ("foob", "MZXW6YQ="),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI======"),
        ] {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
    }
}
