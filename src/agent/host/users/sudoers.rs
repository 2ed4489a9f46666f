//! The file that lets `ssm-user` use sudo.
//!
//! It is never half there: it is written under another name and renamed, and the right is taken by
//! renaming the file to a name that sudo does not read (one with a dot), so that rules an operator
//! has put there come back unchanged when the right is given again.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tracing::info;

use crate::runtime::atomic_file;

/// The file, inside the sudoers folder.
const FILE: &str = "ssm-agent-users";
/// Its name while the right is taken.
const FILE_WHEN_OFF: &str = "ssm-agent-users.off";
/// Its content, as the reference agent writes it.
const RULES: &str = "# User rules for ssm-user\nssm-user ALL=(ALL) NOPASSWD:ALL\n";
/// Its mode; sudo refuses files that others may write.
const MODE: u32 = 0o440;

/// The file that lets `ssm-user` use sudo.
#[derive(Debug)]
pub(super) struct Sudoers {
    folder: PathBuf,
}

impl Sudoers {
    pub(super) fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// Puts the file in its place unless it is there; either way it gets its mode. A host without
    /// the folder has no sudo and needs no file.
    pub(super) fn give(&self) -> io::Result<()> {
        let path = self.folder.join(FILE);
        let given = if path.try_exists()? {
            Ok(())
        } else {
            match fs::rename(self.folder.join(FILE_WHEN_OFF), &path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    atomic_file::write(&path, RULES.as_bytes(), MODE)
                }
                other => other,
            }
        };
        match given.and_then(|()| fs::set_permissions(&path, Permissions::from_mode(MODE))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Takes the file out of its place, if it is there.
    pub(super) fn take(&self) -> io::Result<()> {
        let path = self.folder.join(FILE);
        let away = self.folder.join(FILE_WHEN_OFF);
        match fs::rename(&path, &away) {
            Ok(()) => {
                info!(file = %path.display(), kept_as = %away.display(), "sudo is off");
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn file_has_the_reference_s_rules_and_mode() {
        let (folder, sudoers) = empty();

        sudoers.give().unwrap();

        assert_eq!(content(folder.path()), RULES);
        assert_eq!(mode(folder.path()), MODE);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn existing_file_keeps_its_content_and_gets_the_mode() {
        let (folder, sudoers) = empty();
        fs::write(folder.path().join(FILE), "# mine\n").unwrap();

        sudoers.give().unwrap();

        assert_eq!(content(folder.path()), "# mine\n");
        assert_eq!(mode(folder.path()), MODE);
    }

    #[test]
    fn rules_that_were_taken_come_back_unchanged() {
        let (folder, sudoers) = empty();
        fs::write(folder.path().join(FILE), "# mine\n").unwrap();

        sudoers.take().unwrap();
        sudoers.take().unwrap();
        assert!(!folder.path().join(FILE).exists());
        sudoers.give().unwrap();

        assert_eq!(content(folder.path()), "# mine\n");
        assert!(!folder.path().join(FILE_WHEN_OFF).exists());
    }

    #[test]
    fn name_of_the_file_that_is_off_is_one_that_sudo_does_not_read() {
        // sudoers(5): files in an included folder that end in `~` or contain a `.` are skipped.
        assert!(FILE_WHEN_OFF.contains('.') && !FILE.contains('.'));
    }

    #[test]
    fn host_without_sudo_needs_no_file() {
        let (folder, _) = empty();
        let sudoers = Sudoers::in_folder(folder.path().join("missing"));

        sudoers.give().unwrap();
        sudoers.take().unwrap();

        assert!(!folder.path().join("missing").exists());
    }

    fn empty() -> (TempDir, Sudoers) {
        let folder = tempfile::tempdir().unwrap();
        let sudoers = Sudoers::in_folder(folder.path());
        (folder, sudoers)
    }

    fn content(folder: &Path) -> String {
        fs::read_to_string(folder.join(FILE)).unwrap()
    }

    fn mode(folder: &Path) -> u32 {
        fs::metadata(folder.join(FILE))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    }
}
