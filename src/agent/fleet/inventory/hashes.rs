//! The hashes of what the service was sent last: `<node>/inventory/contentHash`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tracing::debug;

use crate::runtime::atomic_file;

const FILE: &str = "contentHash";
const FILE_MODE: u32 = 0o600;

/// Hashes by the types of items.
#[derive(Debug, Default)]
pub(super) struct Hashes {
    path: PathBuf,
    known: BTreeMap<String, String>,
}

impl Hashes {
    /// Those in `folder`; a file that is no use costs no more than a larger message.
    pub(super) fn load(folder: &Path) -> Self {
        let path = folder.join(FILE);
        let known = fs::read(&path)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        debug!(path = %path.display(), found = known.is_some(), "hashes of the last inventory");
        Self {
            known: known.unwrap_or_default(),
            path,
        }
    }

    /// Whether the service has this content of a type.
    pub(super) fn is_known(&self, type_name: &str, hash: &str) -> bool {
        self.known.get(type_name).is_some_and(|known| known == hash)
    }

    /// Notes what the service has.
    pub(super) fn note(&mut self, type_name: &str, hash: &str) {
        self.known.insert(type_name.to_owned(), hash.to_owned());
    }

    /// Writes them.
    ///
    /// # Errors
    /// The I/O error of the failing step.
    pub(super) fn save(&self) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            atomic_file::create_private_dir(folder)?;
        }
        let text = serde_json::to_vec(&self.known)?;
        atomic_file::write(&self.path, &text, FILE_MODE)
    }
}
