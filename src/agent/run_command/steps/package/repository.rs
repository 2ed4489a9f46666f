//! Packages on this host, in the reference's places below the state folder:
//!
//! | path | what |
//! |---|---|
//! | `packages/<package>/<version>/` | an unpacked package |
//! | `packages/<package>/installstate` | how far it is |
//! | `packages/<package>/traces` | what was done before a reboot that it asked for |
//! | `manifests/<package>_<version>.json` | its manifest, and beside it a digest of the document (`.txt`) |
//! | `locks/packages/<package>.lockfile` | who works on it |
//! | `download/` | files that are not unpacked yet |
//!
//! A package is unpacked beside its place and moved there, so that it is there whole or not at all.
//! Everything here blocks.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;

use super::archive::{self, UnpackError};
use super::lock::{Lock, Locked};
use super::names::folder_name;
use super::state::{InstallState, State};
use super::trace::Section;
use crate::protocol::wire::manifest::Manifest;
use crate::runtime::atomic_file;

/// Mode of the files, some of which have what documents give to scripts.
const FILE_MODE: u32 = 0o600;
/// Longest file that is read here.
const FILE_LIMIT: u64 = 16 << 20;
/// Begins the names of folders that are not packages.
const UNFINISHED: &str = ".unpacking-";

/// The packages of this host.
#[derive(Debug, Clone)]
pub(super) struct Repository {
    state: PathBuf,
}

/// A package that cannot be used as it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum PackageError {
    #[error("Package is incomplete")]
    Incomplete,
    #[error("Package is not supported (package is missing install action)")]
    NoInstallAction,
}

impl Repository {
    /// The packages below the state folder `state`.
    pub(super) fn new(state: &Path) -> Self {
        Self {
            state: state.to_owned(),
        }
    }

    fn root(&self, package: &str) -> PathBuf {
        self.state.join("packages").join(folder_name(package))
    }

    /// Folder of a version.
    pub(super) fn version(&self, package: &str, version: &str) -> PathBuf {
        self.root(package).join(folder_name(version))
    }

    /// Where the archive of a version is while it is downloaded and unpacked.
    pub(super) fn download(&self, package: &str, version: &str) -> io::Result<PathBuf> {
        let folder = self.state.join("download");
        atomic_file::create_private_dir(&folder)?;
        let name = digest(&SHA256, format!("{package}\n{version}").as_bytes());
        Ok(folder.join(hex(name.as_ref())))
    }

    /// Locks a package; the error is the text for the reply.
    pub(super) fn lock(&self, package: &str, action: &str) -> Result<Lock, Locked> {
        let folder = self.state.join("locks/packages");
        let path = folder.join(format!("{}.lockfile", folder_name(package)));
        Lock::take(path, package, action)
    }

    /// How far a package is.
    pub(super) fn state(&self, package: &str) -> InstallState {
        match read(&self.root(package).join("installstate")) {
            Ok(text) => {
                let state = serde_json::from_slice(&text);
                state.unwrap_or_else(|_| InstallState::unreadable(package))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                InstallState::unwritten(package, self.last_version(package))
            }
            Err(_) => InstallState::unreadable(package),
        }
    }

    /// The last version that is there, by name.
    fn last_version(&self, package: &str) -> Option<String> {
        let entries = fs::read_dir(self.root(package)).ok()?.flatten();
        entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| !name.starts_with('.'))
            .max()
    }

    /// Notes how far a package is.
    pub(super) fn enter(&self, package: &str, version: &str, state: State) -> io::Result<()> {
        let mut noted = self.state(package);
        noted.enter(version, state, Timestamp::now());
        let root = self.root(package);
        atomic_file::create_private_dir(&root)?;
        let text = serde_json::to_vec(&noted).map_err(io::Error::other)?;
        atomic_file::write(&root.join("installstate"), &text, FILE_MODE)
    }

    /// Checks that a version is there and can be installed.
    pub(super) fn check(&self, package: &str, version: &str) -> Result<(), PackageError> {
        let folder = self.version(package, version);
        let mut entries = fs::read_dir(&folder).map_err(|_| PackageError::Incomplete)?;
        if entries.next().is_none() {
            return Err(PackageError::Incomplete);
        }
        let has = |name: &str| folder.join(name).exists();
        if has("install.sh") || has("install.ps1") {
            Ok(())
        } else {
            Err(PackageError::NoInstallAction)
        }
    }

    /// Unpacks `file` as a version, in the place of what is there.
    pub(super) fn unpack(
        &self,
        package: &str,
        version: &str,
        file: &Path,
    ) -> Result<(), UnpackError> {
        let place = self.version(package, version);
        let root = self.root(package);
        atomic_file::create_private_dir(&root)?;
        self.remove_unfinished(package);
        let is_first = self.state(package).state == State::None;
        let unfinished = root.join(format!("{UNFINISHED}{}", uuid::Uuid::new_v4()));
        let unpacked = archive::unpack(file, &unfinished).and_then(|()| {
            remove_folder(&place)?;
            fs::rename(&unfinished, &place)?;
            Ok(())
        });
        if unpacked.is_err() {
            let _ = fs::remove_dir_all(&unfinished);
            return unpacked;
        }
        if is_first {
            self.enter(package, version, State::New)?;
        }
        Ok(())
    }

    /// What an agent left that died while it unpacked.
    fn remove_unfinished(&self, package: &str) {
        let entries = fs::read_dir(self.root(package)).into_iter().flatten();
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Deletes a version.
    pub(super) fn remove(&self, package: &str, version: &str) -> io::Result<()> {
        remove_folder(&self.version(package, version))
    }

    fn manifest_path(&self, package: &str, version: &str, kind: &str) -> PathBuf {
        let (package, version) = (folder_name(package), folder_name(version));
        self.state
            .join("manifests")
            .join(format!("{package}_{version}.{kind}"))
    }

    /// The manifest that was seen last.
    pub(super) fn manifest(&self, package: &str, version: &str) -> Option<Manifest> {
        let text = read(&self.manifest_path(package, version, "json")).ok()?;
        Manifest::read(std::str::from_utf8(&text).ok()?).ok()
    }

    /// Keeps a manifest, and the digest of the document that it is from.
    pub(super) fn keep_manifest(
        &self,
        package: &str,
        version: &str,
        text: &str,
        is_document: bool,
    ) -> io::Result<()> {
        atomic_file::create_private_dir(&self.state.join("manifests"))?;
        if is_document {
            let path = self.manifest_path(package, version, "txt");
            let hash = digest(&SHA256, text.as_bytes());
            atomic_file::write(&path, hex(hash.as_ref()).as_bytes(), FILE_MODE)?;
        }
        let path = self.manifest_path(package, version, "json");
        atomic_file::write(&path, text.as_bytes(), FILE_MODE)
    }

    /// Takes what was done before a reboot.
    pub(super) fn take_traces(&self, package: &str) -> Vec<Section> {
        let path = self.root(package).join("traces");
        let text = read(&path);
        // A file that cannot be read is of no more use next time.
        let _ = fs::remove_file(&path);
        text.ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }

    /// Keeps what was done until after a reboot.
    pub(super) fn keep_traces(&self, package: &str, traces: &[Section]) -> io::Result<()> {
        let root = self.root(package);
        atomic_file::create_private_dir(&root)?;
        let text = serde_json::to_vec(traces).map_err(io::Error::other)?;
        atomic_file::write(&root.join("traces"), &text, FILE_MODE)
    }
}

/// `bytes` in hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read as _;

    let mut text = Vec::new();
    fs::File::open(path)?
        .take(FILE_LIMIT)
        .read_to_end(&mut text)?;
    Ok(text)
}

fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
