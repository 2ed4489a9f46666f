//! The registration on disk, as the reference agent keeps it.
//!
//! | below the state folder | content |
//! |---|---|
//! | `Vault/Manifest` | JSON: key → absolute path |
//! | `Vault/Store/RegistrationKey` | JSON of [`Registration`] |
//! | `Vault/Store/InstanceFingerprint` | JSON of [`StoredFingerprint`] |
//! | `Vault/EC2Manifest`, `Vault/Store/EC2RegistrationKey` | the same of an EC2 instance under Default Host Management |
//! | `registration` | JSON `{"ManagedInstanceID", "Region"}`, for people and scripts |
//!
//! Files have mode 0600. The reference gives its folders 0600 too, which only root can enter. Ours
//! get 0700: the same protection, it works for an ordinary user, and the reference reads it.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::aws::Secret;
use crate::runtime::atomic_file;

const REGISTRATION_KEY: &str = "RegistrationKey";
const FINGERPRINT_KEY: &str = "InstanceFingerprint";
const INSTANCE_KEY: &str = "EC2RegistrationKey";
const MANIFEST: &str = "Manifest";
/// The manifest of what an EC2 instance has.
const INSTANCE_MANIFEST: &str = "EC2Manifest";
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// The vault of one state folder.
#[derive(Debug, Clone)]
pub struct Vault {
    state: PathBuf,
}

/// Who this host is registered as, and the key that proves it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Registration {
    /// The node, `mi-…`; empty while a registration is under way and after it was cleared.
    #[serde(rename = "instanceID")]
    pub node_id: String,
    /// The region it is registered in.
    pub region: String,
    /// Unused on premises.
    #[serde(rename = "instanceType")]
    pub instance_type: String,
    /// Unused on premises.
    #[serde(rename = "availabilityZone")]
    pub availability_zone: String,
    /// The private key in its text form.
    #[serde(rename = "privateKey")]
    pub private_key: Secret,
    /// The public key in its text form; on EC2 only.
    #[serde(rename = "publicKey")]
    pub public_key: String,
    /// `Rsa`.
    #[serde(rename = "privateKeyType")]
    pub private_key_type: String,
    /// When the key was made, `2026-11-22 10:06:07.478227429 +0000 UTC`; empty if unknown.
    #[serde(rename = "privateKeyCreatedDate")]
    pub private_key_created: String,
}

impl Registration {
    /// Whether the node can identify itself with it.
    pub fn is_complete(&self) -> bool {
        !self.node_id.is_empty() && !self.region.is_empty() && !self.private_key.is_empty()
    }
}

/// What this host's hardware looked like when its fingerprint was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StoredFingerprint {
    /// A random UUID; empty after the registration was cleared.
    pub fingerprint: String,
    /// Property → value or hash.
    #[serde(deserialize_with = "null_as_empty")]
    pub hardware_hash: BTreeMap<String, String>,
    /// Percentage of equal properties from which hardware counts as the same; -1 for always.
    pub similarity_threshold: i32,
}

/// The `registration` file.
#[derive(Debug, Serialize)]
struct Notice<'a> {
    #[serde(rename = "ManagedInstanceID")]
    node_id: &'a str,
    #[serde(rename = "Region")]
    region: &'a str,
}

/// Why the vault cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// A file or folder cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A file or folder cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A file is not what it should be.
    #[error("{} is damaged", .path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        cause: serde_json::Error,
    },
}

impl Vault {
    /// The vault below `state`, which need not exist yet.
    pub fn new(state: &Path) -> Self {
        Self {
            state: state.to_owned(),
        }
    }

    /// Its folder.
    pub fn folder(&self) -> PathBuf {
        self.state.join("Vault")
    }

    /// The registration, complete or not, if there ever was one.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn registration(&self) -> Result<Option<Registration>, VaultError> {
        self.retrieve(REGISTRATION_KEY)
    }

    /// Stores `registration`.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn store_registration(&self, registration: &Registration) -> Result<(), VaultError> {
        self.store(REGISTRATION_KEY, registration)
    }

    /// The registration of an EC2 instance, complete or not, if there ever was one.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn instance_registration(&self) -> Result<Option<Registration>, VaultError> {
        self.retrieve(INSTANCE_KEY)
    }

    /// Stores the registration of an EC2 instance.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn store_instance_registration(
        &self,
        registration: &Registration,
    ) -> Result<(), VaultError> {
        self.store(INSTANCE_KEY, registration)
    }

    /// The fingerprint, if there ever was one.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn fingerprint(&self) -> Result<Option<StoredFingerprint>, VaultError> {
        self.retrieve(FINGERPRINT_KEY)
    }

    /// Stores `fingerprint`.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn store_fingerprint(&self, fingerprint: &StoredFingerprint) -> Result<(), VaultError> {
        self.store(FINGERPRINT_KEY, fingerprint)
    }

    /// Writes the `registration` file.
    ///
    /// # Errors
    /// [`VaultError::Write`].
    pub fn write_notice(&self, registration: &Registration) -> Result<(), VaultError> {
        let notice = Notice {
            node_id: &registration.node_id,
            region: &registration.region,
        };
        write_json(&self.notice_path(), &notice)
    }

    /// Removes the `registration` file.
    ///
    /// # Errors
    /// [`VaultError::Write`].
    pub fn remove_notice(&self) -> Result<(), VaultError> {
        let path = self.notice_path();
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                Err(VaultError::Write { path, cause })
            }
            _ => Ok(()),
        }
    }

    fn retrieve<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, VaultError> {
        let Some(manifest) = read_json::<BTreeMap<String, PathBuf>>(&self.manifest_path(key))?
        else {
            return Ok(None);
        };
        let Some(path) = manifest.get(key) else {
            return Ok(None);
        };
        match read_json(path)? {
            Some(value) => Ok(Some(value)),
            // The manifest has absolute paths, which a state folder that was moved contradicts.
            None => read_json(&self.store_path(key)),
        }
    }

    fn store<T: Serialize>(&self, key: &str, value: &T) -> Result<(), VaultError> {
        self.make_folders()?;
        let path = self.store_path(key);
        write_json(&path, value)?;
        let manifest_path = self.manifest_path(key);
        let mut manifest: BTreeMap<String, PathBuf> =
            read_json(&manifest_path)?.unwrap_or_default();
        if manifest.get(key) != Some(&path) {
            manifest.insert(key.to_owned(), path);
            write_json(&manifest_path, &manifest)?;
        }
        Ok(())
    }

    fn make_folders(&self) -> Result<(), VaultError> {
        for path in [self.folder(), self.folder().join("Store")] {
            let made = atomic_file::create_private_dir(&path)
                .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(FOLDER_MODE)));
            made.map_err(|cause| VaultError::Write { path, cause })?;
        }
        Ok(())
    }

    fn manifest_path(&self, key: &str) -> PathBuf {
        self.folder().join(match key {
            INSTANCE_KEY => INSTANCE_MANIFEST,
            _ => MANIFEST,
        })
    }

    fn store_path(&self, key: &str) -> PathBuf {
        let path = self.folder().join("Store").join(key);
        std::path::absolute(&path).unwrap_or(path)
    }

    fn notice_path(&self) -> PathBuf {
        self.state.join("registration")
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, VaultError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => {
            return Err(VaultError::Read {
                path: path.to_owned(),
                cause,
            });
        }
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|cause| VaultError::Damaged {
            path: path.to_owned(),
            cause,
        })
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), VaultError> {
    let written = serde_json::to_vec(value)
        .map_err(io::Error::from)
        .and_then(|text| atomic_file::write(path, &text, FILE_MODE));
    written.map_err(|cause| VaultError::Write {
        path: path.to_owned(),
        cause,
    })
}

fn null_as_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registered() -> Registration {
        Registration {
            node_id: "mi-0123456789abcdef0".into(),
            region: "us-east-1".into(),
            private_key: Secret::new("a2V5"),
            private_key_type: "Rsa".into(),
            private_key_created: "2026-11-22 10:06:07.478227429 +0000 UTC".into(),
            ..Registration::default()
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn registration_survives_the_vault() {
        let state = tempfile::tempdir().unwrap();
        let vault = Vault::new(state.path());

        vault.store_registration(&registered()).unwrap();

        assert_eq!(vault.registration().unwrap(), Some(registered()));
    }

    #[test]
    fn files_are_those_of_the_reference() {
        let state = tempfile::tempdir().unwrap();
        let vault = Vault::new(state.path());

        vault.store_registration(&registered()).unwrap();
        vault.write_notice(&registered()).unwrap();

        let folder = state.path().join("Vault");
        let store = folder.join("Store/RegistrationKey");
        assert_eq!(
            fs::read_to_string(&store).unwrap(),
            concat!(
                r#"{"instanceID":"mi-0123456789abcdef0","region":"us-east-1","instanceType":"","#,
                r#""availabilityZone":"","privateKey":"a2V5","publicKey":"","privateKeyType":"Rsa","#,
                r#""privateKeyCreatedDate":"2026-11-22 10:06:07.478227429 +0000 UTC"}"#
            )
        );
        assert_eq!(
            fs::read_to_string(folder.join("Manifest")).unwrap(),
            format!(r#"{{"RegistrationKey":"{}"}}"#, store.display())
        );
        assert_eq!(
            fs::read_to_string(state.path().join("registration")).unwrap(),
            r#"{"ManagedInstanceID":"mi-0123456789abcdef0","Region":"us-east-1"}"#
        );
        assert_eq!((mode(&folder), mode(&store)), (0o700, 0o600));
    }

    #[test]
    fn vault_of_the_reference_is_adopted() {
        let state = tempfile::tempdir().unwrap();
        let store = state.path().join("Vault/Store");
        fs::create_dir_all(&store).unwrap();
        let manifest = format!(
            r#"{{"InstanceFingerprint":"{0}/InstanceFingerprint","RegistrationKey":"{0}/RegistrationKey"}}"#,
            store.display()
        );
        fs::write(state.path().join("Vault/Manifest"), manifest).unwrap();
        let key = r#"{"instanceID":"mi-1","region":"eu-west-1","privateKey":"a2V5","privateKeyType":"Rsa"}"#;
        fs::write(store.join("RegistrationKey"), key).unwrap();
        let cleared = r#"{"fingerprint":"","hardwareHash":null,"similarityThreshold":0}"#;
        fs::write(store.join("InstanceFingerprint"), cleared).unwrap();

        let vault = Vault::new(state.path());

        let registration = vault.registration().unwrap().unwrap();
        assert!(registration.is_complete());
        assert_eq!(registration.node_id, "mi-1");
        assert_eq!(
            vault.fingerprint().unwrap(),
            Some(StoredFingerprint::default())
        );
    }

    #[test]
    fn instance_has_a_manifest_of_its_own() {
        let state = tempfile::tempdir().unwrap();
        let vault = Vault::new(state.path());

        vault.store_instance_registration(&registered()).unwrap();

        assert_eq!(vault.instance_registration().unwrap(), Some(registered()));
        assert_eq!(vault.registration().unwrap(), None);
        let folder = state.path().join("Vault");
        let store = folder.join("Store/EC2RegistrationKey");
        assert_eq!(
            fs::read_to_string(folder.join("EC2Manifest")).unwrap(),
            format!(r#"{{"EC2RegistrationKey":"{}"}}"#, store.display())
        );
        assert!(!folder.join("Manifest").exists());
    }

    #[test]
    fn other_entries_of_the_manifest_are_kept() {
        let state = tempfile::tempdir().unwrap();
        let vault = Vault::new(state.path());
        vault.make_folders().unwrap();
        fs::write(
            vault.manifest_path(REGISTRATION_KEY),
            r#"{"Other":"/elsewhere"}"#,
        )
        .unwrap();

        vault.store_registration(&registered()).unwrap();

        let manifest = fs::read_to_string(vault.manifest_path(REGISTRATION_KEY)).unwrap();
        assert!(manifest.contains(r#""Other":"/elsewhere""#));
        assert!(manifest.contains("RegistrationKey"));
    }

    #[test]
    fn state_folder_that_was_moved_is_still_read() {
        let parent = tempfile::tempdir().unwrap();
        let vault = Vault::new(&parent.path().join("old"));
        vault.store_registration(&registered()).unwrap();

        fs::rename(parent.path().join("old"), parent.path().join("new")).unwrap();

        let moved = Vault::new(&parent.path().join("new"));
        assert_eq!(moved.registration().unwrap(), Some(registered()));
    }

    #[test]
    fn key_that_is_not_in_the_manifest_does_not_exist() {
        let state = tempfile::tempdir().unwrap();
        let vault = Vault::new(state.path());
        vault.store_registration(&registered()).unwrap();
        fs::write(vault.manifest_path(REGISTRATION_KEY), "{}").unwrap();

        assert_eq!(vault.registration().unwrap(), None);
    }

    #[test]
    fn empty_state_folder_has_no_registration() {
        let state = tempfile::tempdir().unwrap();

        assert_eq!(Vault::new(state.path()).registration().unwrap(), None);
    }

    #[test]
    fn damaged_file_is_named_and_left_alone() {
        let state = tempfile::tempdir().unwrap();
        let vault = Vault::new(state.path());
        vault.store_registration(&registered()).unwrap();
        fs::write(vault.store_path(REGISTRATION_KEY), "{\"instanceID\":").unwrap();

        let error = vault.registration().unwrap_err();

        assert!(matches!(error, VaultError::Damaged { .. }));
        assert!(error.to_string().contains("Store/RegistrationKey"));
    }

    #[test]
    fn private_key_does_not_show_in_debug_output() {
        assert!(!format!("{:?}", registered()).contains("a2V5"));
    }
}
