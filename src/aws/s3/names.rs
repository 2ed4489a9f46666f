//! Names of buckets and objects, checked before they become part of a URL.

/// Longest key, in bytes.
const KEY: usize = 1024;

/// The name of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketName(String);

/// The key of an object; its segments are not `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectKey(String);

/// A name that S3 would not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum S3NameError {
    /// Not the name of a bucket.
    #[error("bucket {0:?} is not 3 to 63 lower-case letters, digits, dots and hyphens")]
    Bucket(String),
    /// Not a key that stays the same on its way.
    #[error("key {0:?} is not 1 to {KEY} bytes without control characters and \"..\"")]
    Key(String),
}

impl BucketName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`S3NameError::Bucket`].
    pub fn new(name: &str) -> Result<Self, S3NameError> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c);
        let edge = |c: char| c.is_ascii_alphanumeric();
        let is_name = (3..=63).contains(&name.len())
            && name.chars().all(allowed)
            && name.starts_with(edge)
            && name.ends_with(edge)
            && !name.contains("..");
        is_name
            .then(|| Self(name.to_owned()))
            .ok_or_else(|| S3NameError::Bucket(name.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ObjectKey {
    /// Joins a prefix and a name as paths are joined: without empty segments and `.`.
    ///
    /// # Errors
    /// [`S3NameError::Key`], also for `..`, which clients and servers resolve in different ways.
    pub fn join(prefix: &str, name: &str) -> Result<Self, S3NameError> {
        let segments: Vec<&str> = prefix
            .split('/')
            .chain([name])
            .filter(|segment| !segment.is_empty() && *segment != ".")
            .collect();
        let key = segments.join("/");
        let is_key = (1..=KEY).contains(&key.len())
            && !segments.contains(&"..")
            && !key.chars().any(char::is_control);
        if is_key {
            Ok(Self(key))
        } else {
            Err(S3NameError::Key(key))
        }
    }

    /// A key as it is, its empty segments included.
    ///
    /// # Errors
    /// [`S3NameError::Key`], also for a segment `.` or `..`, which URLs do not keep.
    pub fn exact(key: &str) -> Result<Self, S3NameError> {
        let is_key = (1..=KEY).contains(&key.len())
            && !key.split('/').any(|segment| matches!(segment, "." | ".."))
            && !key.chars().any(char::is_control);
        if is_key {
            Ok(Self(key.to_owned()))
        } else {
            Err(S3NameError::Key(key.to_owned()))
        }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key as it stands in a URL.
    pub(super) fn encoded(&self) -> String {
        let segments: Vec<String> = self.0.split('/').map(encode).collect();
        segments.join("/")
    }
}

/// `text` as signatures want it in a URL: everything but letters, digits and `-._~` as `%XX`.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_can_be_buckets_are_taken() {
        for name in ["abc", "my-logs", "a.b.c", "1ab"] {
            assert_eq!(BucketName::new(name).unwrap().as_str(), name);
        }
        let long = "a".repeat(64);
        for name in ["", "ab", "Abc", "-ab", "ab-", "a..b", "a/b", "a_b", &long] {
            assert!(BucketName::new(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn key_is_joined_like_a_path_and_encoded() {
        let table = [
            ("", "s-1.log", "s-1.log"),
            ("pre/fix", "s-1.log", "pre/fix/s-1.log"),
            ("/pre//./fix/", "s-1.log", "pre/fix/s-1.log"),
            ("a b", "ü@=+,.log", "a%20b/%C3%BC%40%3D%2B%2C.log"),
        ];

        for (prefix, name, expected) in table {
            assert_eq!(ObjectKey::join(prefix, name).unwrap().encoded(), expected);
        }
    }

    #[test]
    fn key_of_what_is_there_already_stays_as_it_is() {
        assert_eq!(ObjectKey::exact("/a//b ").unwrap().encoded(), "/a//b%20");
        for key in ["", "a/../b", "./a", "a\nb", &"x".repeat(KEY + 1)] {
            assert!(ObjectKey::exact(key).is_err(), "{key:?}");
        }
    }

    #[test]
    fn key_that_would_change_on_its_way_is_refused() {
        for prefix in ["..", "a/../b", "a\nb", &"x".repeat(KEY)] {
            assert!(ObjectKey::join(prefix, "s.log").is_err(), "{prefix:?}");
        }
    }
}
