//! The content of a document of type Package: the manifest of a package.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::super::super::answer::ApiError;
use super::content::invalid;
use super::refusal;
use super::schema::platforms;

const SCHEMA_VERSION: &str = "2.0";
/// Most files of a package, and most bytes of one; AWS's limits are 20 and 1 GB.
const FILES: usize = 100;
const SIZE: u64 = 20 << 30;
/// Digits of a SHA-256.
const DIGITS: usize = 64;

/// A file of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) name: String,
    /// SHA-256 of its content, in lower-case hexadecimal digits.
    pub(super) sha256: String,
    /// Its length, if the manifest says.
    pub(super) size: Option<u64>,
}

/// Checks a content and tells the platforms it is for.
///
/// # Errors
/// `InvalidDocumentContent`, `InvalidDocumentSchemaVersion`.
pub(super) fn check(
    schema_version: &str,
    members: &Map<String, Value>,
) -> Result<Vec<String>, ApiError> {
    if schema_version != SCHEMA_VERSION {
        return Err(refusal::schema_version(schema_version, &[SCHEMA_VERSION]));
    }
    match members.get("version") {
        Some(Value::String(version)) if !version.is_empty() => {}
        _ => return Err(invalid("version must be a text.".into())),
    }
    let files = files(members)?;
    let names: BTreeSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let packages = members.get("packages").and_then(Value::as_object);
    let packages = packages.filter(|packages| !packages.is_empty());
    let packages =
        packages.ok_or_else(|| invalid("packages must name at least one platform.".into()))?;
    for versions in packages.values() {
        let versions = object(versions, "A platform")?;
        for architectures in versions.values() {
            for choice in object(architectures, "A version of a platform")?.values() {
                let file = choice["file"].as_str().unwrap_or_default();
                if !names.contains(file) {
                    return Err(invalid(format!(
                        "packages names the file {file:?}, which files does not have."
                    )));
                }
            }
        }
    }
    Ok(platforms_of(packages))
}

/// The files that a manifest names.
///
/// # Errors
/// `InvalidDocumentContent`.
pub(super) fn files(members: &Map<String, Value>) -> Result<Vec<File>, ApiError> {
    let files = members.get("files").and_then(Value::as_object);
    let files = files.filter(|files| (1..=FILES).contains(&files.len()));
    let files = files.ok_or_else(|| invalid(format!("files must name 1 to {FILES} files.")))?;
    files.iter().map(|(name, file)| read(name, file)).collect()
}

fn read(name: &str, file: &Value) -> Result<File, ApiError> {
    let is_name = !name.is_empty()
        && name.len() <= 255
        && !name.starts_with('.')
        && !name.contains(['/', '\\'])
        && !name.chars().any(char::is_control);
    if !is_name {
        return Err(invalid(format!("{name:?} is no name of a file.")));
    }
    let sha256 = file["checksums"]["sha256"].as_str().unwrap_or_default();
    if sha256.len() != DIGITS || !sha256.chars().all(|c| c.is_ascii_hexdigit()) {
        return Err(invalid(format!(
            "File {name} must have a checksum sha256 of {DIGITS} hexadecimal digits."
        )));
    }
    let size = match &file["size"] {
        Value::Null => None,
        size => {
            let size = size.as_u64().filter(|size| *size <= SIZE);
            Some(size.ok_or_else(|| {
                invalid(format!(
                    "The size of file {name} must be a number of bytes up to {SIZE}."
                ))
            })?)
        }
    };
    Ok(File {
        name: name.to_owned(),
        sha256: sha256.to_ascii_lowercase(),
        size: size.filter(|size| *size > 0),
    })
}

fn object<'a>(value: &'a Value, what: &str) -> Result<&'a Map<String, Value>, ApiError> {
    value
        .as_object()
        .ok_or_else(|| invalid(format!("{what} in packages must be an object.")))
}

fn platforms_of(packages: &Map<String, Value>) -> Vec<String> {
    let has = |wanted: fn(&str) -> bool| packages.keys().any(|name| wanted(name));
    if has(|name| name == "_any") {
        return platforms(&["Windows", "Linux", "MacOS"]);
    }
    let mut found = Vec::new();
    if has(|name| name == "windows") {
        found.push("Windows");
    }
    if has(|name| !matches!(name, "windows" | "mac_os_x")) {
        found.push("Linux");
    }
    if has(|name| name == "mac_os_x") {
        found.push("MacOS");
    }
    platforms(&found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest() -> Value {
        json!({
            "schemaVersion": "2.0", "version": "1.0",
            "packages": {"ubuntu": {"_any": {"x86_64": {"file": "a.zip"}}}, "windows": {"_any": {"_any": {"file": "a.zip"}}}},
            "files": {"a.zip": {"checksums": {"sha256": "AB".repeat(32)}, "size": 7}},
        })
    }

    fn checked(content: &Value) -> Result<Vec<String>, ApiError> {
        let version = content["schemaVersion"].as_str().unwrap_or_default();
        check(version, content.as_object().unwrap())
    }

    #[test]
    fn manifest_is_taken_with_its_platforms_and_files() {
        let manifest = manifest();

        assert_eq!(checked(&manifest).unwrap(), ["Windows", "Linux"]);
        let files = files(manifest.as_object().unwrap()).unwrap();
        assert_eq!((files[0].name.as_str(), files[0].size), ("a.zip", Some(7)));
        assert_eq!(files[0].sha256, "ab".repeat(32));
        let mut any = manifest;
        any["packages"] = json!({"_any": {"_any": {"_any": {"file": "a.zip"}}}});
        assert_eq!(checked(&any).unwrap(), ["Windows", "Linux", "MacOS"]);
    }

    #[test]
    fn manifest_that_no_agent_could_use_is_refused() {
        for (pointer, value, code) in [
            (
                "/schemaVersion",
                json!("1.0"),
                "InvalidDocumentSchemaVersion",
            ),
            ("/version", json!(""), "InvalidDocumentContent"),
            ("/packages", json!({}), "InvalidDocumentContent"),
            ("/packages/ubuntu", json!([]), "InvalidDocumentContent"),
            (
                "/packages/ubuntu/_any/x86_64/file",
                json!("b.zip"),
                "InvalidDocumentContent",
            ),
            ("/files", json!({}), "InvalidDocumentContent"),
            (
                "/files/a.zip/checksums/sha256",
                json!("ab"),
                "InvalidDocumentContent",
            ),
            ("/files/a.zip/size", json!(-1), "InvalidDocumentContent"),
            ("/files/a.zip/size", json!("7"), "InvalidDocumentContent"),
        ] {
            let mut content = manifest();
            *content.pointer_mut(pointer).unwrap() = value;
            let refused = checked(&content).unwrap_err();
            assert_eq!(refused.code(), code, "{pointer}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", "../a", "a/b", ".a", "a\nb"] {
            let file = json!({"checksums": {"sha256": "ab".repeat(32)}});
            assert!(read(name, &file).is_err(), "{name:?}");
        }
    }
}
