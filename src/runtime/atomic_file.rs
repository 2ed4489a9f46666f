//! Files that are written whole or not at all, and folders that only their owner can enter.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Mode of the folders made by [`create_private_dir`]: they hold keys and recordings.
const PRIVATE_DIR_MODE: u32 = 0o700;

/// Writes `content` to `path` with `mode` through a temporary file in the same folder, synced and renamed.
///
/// A reader sees the old content or the new one, never a part; so does whoever reads after a crash.
///
/// # Errors
/// The I/O error of the failing step; `path` is then untouched and no temporary file is left.
pub fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    write_in_order(path, content, mode)?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Without this the rename itself may be lost in a power cut.
    File::open(folder)?.sync_all()
}

/// The same, but a power cut may lose the file as if it had never been written. Then it also loses
/// whatever was done to the same file system afterwards: journaling file systems keep that order.
///
/// # Errors
/// Those of [`write()`].
pub fn write_in_order(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    replace(path, |temporary| {
        write_temporary(temporary, content, mode)?.sync_all()?;
        fs::rename(temporary, path)
    })
}

/// The same for a file that nobody misses before this returns, which waits for the disk once instead of
/// twice: a power cut before that may leave an empty file, or a part of it. What made the name is
/// synced with the file, as ext4, XFS and Btrfs do for a file just renamed.
///
/// # Errors
/// Those of [`write()`]; there is no file then.
pub fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    replace(path, |temporary| {
        let file = write_temporary(temporary, content, mode)?;
        fs::rename(temporary, path)?;
        // Who is told that there is no file must not find one later.
        file.sync_all().inspect_err(|_| {
            let _ = fs::remove_file(path);
        })
    })
}

/// Creates `path` and its missing parents with mode 0700 (existing folders are left alone).
///
/// # Errors
/// The I/O error of the failing step.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE_DIR_MODE)
        .create(path)
}

fn replace(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let temporary = temporary_name(path)?;
    let written = write(&temporary);
    if written.is_err() {
        // The error of the failing step matters more than that of the clean-up.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_temporary(temporary: &Path, content: &[u8], mode: u32) -> io::Result<File> {
    // Created for the owner alone: the final mode is set before the file gets its name, and the
    // process's umask takes no part in it.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary)?;
    file.write_all(content)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(file)
}

/// A name next to `path` that no other writer uses.
fn temporary_name(path: &Path) -> io::Result<PathBuf> {
    let file_name = path.file_name().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} does not name a file", path.display()),
        )
    })?;
    let mut name = OsString::from(".");
    name.push(file_name);
    name.push(format!(".{}.tmp", uuid::Uuid::new_v4().simple()));
    Ok(path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_and_mode_replace_those_of_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "old and longer").unwrap();

        write(&path, b"new", 0o640).unwrap();

        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(mode_of(&path), 0o640);
    }

    #[test]
    fn new_file_has_its_content_and_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");

        write_new(&path, b"new", 0o640).unwrap();

        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(mode_of(&path), 0o640);
    }

    #[test]
    fn no_temporary_file_is_left_after_success_or_failure() {
        let folder = tempfile::tempdir().unwrap();
        let occupied = folder.path().join("occupied");
        fs::create_dir(&occupied).unwrap();
        fs::write(occupied.join("inside"), "x").unwrap();

        write(&folder.path().join("fine"), b"1", 0o600).unwrap();
        write(&occupied, b"2", 0o600).unwrap_err();
        write_new(&occupied, b"2", 0o600).unwrap_err();

        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["fine", "occupied"]);
    }

    #[test]
    fn a_symlink_is_replaced_and_its_target_untouched() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        let link = folder.path().join("link");
        fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();

        write(&link, b"new", 0o600).unwrap();

        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
        assert_eq!(fs::read_to_string(&link).unwrap(), "new");
    }

    #[test]
    fn a_path_without_a_file_name_is_refused() {
        let error = write(Path::new("/"), b"", 0o600).unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn private_folders_are_made_with_their_parents_and_existing_ones_keep_their_mode() {
        let folder = tempfile::tempdir().unwrap();
        let outer = folder.path().join("outer");
        fs::create_dir(&outer).unwrap();
        fs::set_permissions(&outer, Permissions::from_mode(0o755)).unwrap();
        let inner = outer.join("a/b");

        create_private_dir(&inner).unwrap();
        create_private_dir(&inner).unwrap();

        assert_eq!(mode_of(&outer), 0o755);
        assert_eq!(mode_of(&outer.join("a")), 0o700);
        assert_eq!(mode_of(&inner), 0o700);
    }

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }
}
