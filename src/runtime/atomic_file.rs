//! Files that are written whole or not at all (contract stub).

use std::io;
use std::path::Path;

/// Writes `content` to `path` with `mode` through a temporary file in the same folder, synced and renamed.
///
/// # Errors
/// The I/O error of the failing step.
#[expect(clippy::todo, unused_variables, reason = "contract")]
pub fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    todo!()
}

/// Creates `path` and its missing parents with mode 0700 (existing folders are left alone).
///
/// # Errors
/// The I/O error of the failing step.
#[expect(clippy::todo, unused_variables, reason = "contract")]
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    todo!()
}
