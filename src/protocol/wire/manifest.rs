//! A package's manifest: what it is, and which of its files is for which host.
//!
//! ```json
//! {"schemaVersion": "2.0", "version": "1.0",
//!  "packages": {"debian": {"12": {"x86_64": {"file": "a.zip"}}}},
//!  "files": {"a.zip": {"checksums": {"sha256": "…"}, "size": 7}}}
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// Stands for everything that nothing else stands for.
const ANY: &str = "_any";

/// A manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Manifest {
    #[serde(deserialize_with = "null_as_default")]
    schema_version: String,
    /// Name of a package that is none of a document.
    #[serde(deserialize_with = "null_as_default")]
    pub package_arn: String,
    #[serde(deserialize_with = "null_as_default")]
    /// Its version.
    pub version: String,
    /// By platform, its version, architecture.
    #[serde(deserialize_with = "null_as_default")]
    packages: BTreeMap<String, BTreeMap<String, BTreeMap<String, Choice>>>,
    #[serde(deserialize_with = "null_as_default")]
    files: BTreeMap<String, FileInfo>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Choice {
    file: String,
}

/// A file of a package.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FileInfo {
    #[serde(deserialize_with = "null_as_default")]
    checksums: BTreeMap<String, String>,
    /// Where it is; only a manifest of a package that is none of a document says so.
    #[serde(deserialize_with = "null_as_default")]
    pub download_location: String,
    #[serde(deserialize_with = "null_as_default")]
    size: u64,
}

impl FileInfo {
    /// The digest of its content, in hexadecimal digits.
    pub fn sha256(&self) -> Option<&str> {
        let found = self
            .checksums
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("sha256"));
        found
            .map(|(_, digest)| digest.as_str())
            .filter(|digest| !digest.is_empty())
    }

    /// Its length, if the manifest says.
    pub fn size(&self) -> Option<u64> {
        Some(self.size).filter(|size| *size > 0)
    }
}

/// A manifest that does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is none.
    #[error("failed to decode manifest: {0}")]
    Decode(String),
    /// It has nothing for such a host.
    #[error(
        "failed to find platform: no manifest found for platform: {platform}, version {version}, architecture {architecture}"
    )]
    NotForThisHost {
        /// The host's distribution.
        platform: String,
        /// The version of that.
        version: String,
        /// The architecture.
        architecture: String,
    },
    /// It names a file that it does not tell of.
    #[error("failed to find file for {0}")]
    NoFile(String),
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// [`ManifestError::Decode`].
    pub fn read(text: &str) -> Result<Self, ManifestError> {
        serde_json::from_str(text).map_err(|error| ManifestError::Decode(error.to_string()))
    }

    /// Name and particulars of the file for a host.
    ///
    /// # Errors
    /// [`ManifestError::NotForThisHost`], [`ManifestError::NoFile`].
    pub fn file(
        &self,
        platform: &str,
        version: &str,
        architecture: &str,
    ) -> Result<(&str, &FileInfo), ManifestError> {
        let not_for_this_host = || ManifestError::NotForThisHost {
            platform: platform.to_owned(),
            version: version.to_owned(),
            architecture: architecture.to_owned(),
        };
        let choice = exact_or_any(&self.packages, platform)
            .and_then(|versions| of_version(versions, version))
            .and_then(|architectures| exact_or_any(architectures, architecture))
            .ok_or_else(not_for_this_host)?;
        let found = self.files.get_key_value(&choice.file);
        let found = found.ok_or_else(|| ManifestError::NoFile(choice.file.clone()));
        found.map(|(name, info)| (name.as_str(), info))
    }
}

fn exact_or_any<'a, T>(choices: &'a BTreeMap<String, T>, wanted: &str) -> Option<&'a T> {
    choices.get(wanted).or_else(|| choices.get(ANY))
}

/// The version itself, the longest beginning of it (`1.2.*`), anything.
fn of_version<'a, T>(choices: &'a BTreeMap<String, T>, wanted: &str) -> Option<&'a T> {
    let begins = |key: &str| {
        let beginning: Vec<&str> = key.strip_suffix(".*")?.split('.').collect();
        let parts: Vec<&str> = wanted.split('.').collect();
        parts.starts_with(&beginning).then_some(beginning.len())
    };
    let longest = || {
        let matching = choices
            .iter()
            .filter_map(|(key, choice)| Some((begins(key)?, choice)));
        matching
            .max_by_key(|(length, _)| *length)
            .map(|(_, choice)| choice)
    };
    choices
        .get(wanted)
        .or_else(longest)
        .or_else(|| choices.get(ANY))
        .or_else(|| choices.get("*"))
}

fn null_as_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest() -> Manifest {
        let files: serde_json::Map<_, _> = ["exact", "prefix", "longer", "any", "star", "arm"]
            .map(|name| (name.to_owned(), json!({"size": 1})))
            .into_iter()
            .collect();
        let text = json!({
            "schemaVersion": "2.0", "packageArn": null, "version": "1.0",
            "packages": {
                "ubuntu": {
                    "22.04": {"x86_64": {"file": "exact"}, "arm64": {"file": "arm"}},
                    "22.*": {"_any": {"file": "prefix"}},
                    "22.10.*": {"_any": {"file": "longer"}},
                },
                "debian": {"*": {"_any": {"file": "star"}}},
                "redhat": {"9": {"x86_64": {"file": "nowhere"}}},
                "_any": {"_any": {"_any": {"file": "any"}}},
            },
            "files": files,
        });
        Manifest::read(&text.to_string()).unwrap()
    }

    #[test]
    fn file_that_fits_best_is_chosen() {
        let manifest = manifest();
        for (platform, version, architecture, file) in [
            ("ubuntu", "22.04", "x86_64", "exact"),
            ("ubuntu", "22.04", "arm64", "arm"),
            ("ubuntu", "22.1", "x86_64", "prefix"),
            ("ubuntu", "22.10.1", "x86_64", "longer"),
            ("ubuntu", "22", "386", "prefix"),
            ("debian", "12", "x86_64", "star"),
            ("gentoo", "", "x86_64", "any"),
        ] {
            let found = manifest.file(platform, version, architecture).unwrap();
            assert_eq!(found.0, file, "{platform} {version} {architecture}");
        }
    }

    #[test]
    fn host_without_a_file_is_told_what_it_is() {
        let manifest = manifest();

        let version = manifest.file("ubuntu", "24.04", "x86_64").unwrap_err();
        let architecture = manifest.file("ubuntu", "22.04", "386").unwrap_err();
        let file = manifest.file("redhat", "9", "x86_64").unwrap_err();

        assert_eq!(
            version.to_string(),
            "failed to find platform: no manifest found for platform: ubuntu, version 24.04, architecture x86_64"
        );
        assert!(architecture.to_string().ends_with("architecture 386"));
        assert_eq!(file.to_string(), "failed to find file for nowhere");
    }

    #[test]
    fn text_that_is_no_manifest_is_refused() {
        for text in [
            "",
            "7",
            "{\"packages\": 7}",
            "{\"files\": {\"a\": {\"size\": -1}}}",
        ] {
            assert!(Manifest::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn digest_and_size_are_there_or_not() {
        let text = json!({"files": {
            "a": {"checksums": {"SHA256": "ab"}, "size": 5},
            "b": {"checksums": {"sha256": ""}},
        }});
        let manifest = Manifest::read(&text.to_string()).unwrap();

        assert_eq!(
            (manifest.files["a"].sha256(), manifest.files["a"].size()),
            (Some("ab"), Some(5))
        );
        assert_eq!(
            (manifest.files["b"].sha256(), manifest.files["b"].size()),
            (None, None)
        );
    }
}
