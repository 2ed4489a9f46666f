//! Whether sessions can be recorded where the configuration wants it.

use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::disk::nearest;
use super::subject::Subject;
use super::verdict::Verdict;
use crate::agent::setup;

/// Looks at the folder of recordings and at the spool of uploads.
pub(super) fn check(subject: &Subject) -> Verdict {
    let Ok(settings) = &subject.settings else {
        return Verdict::skipped("the configuration cannot be read");
    };
    let recordings = setup::transcript(settings, &subject.places.logs);
    let spool = setup::journal(settings, &subject.places.state).directory;
    let folders: Vec<PathBuf> = recordings
        .map(|recordings| recordings.directory)
        .into_iter()
        .chain([spool])
        .collect();
    for folder in &folders {
        if let Err(problem) = is_writable(folder) {
            return Verdict::failed(
                format!("{} cannot be written: {problem}", folder.display()),
                "run it as the agent's user, and check owner, mode and mount of the folder; sessions work without, but their recordings are lost",
            );
        }
    }
    let names: Vec<String> = folders
        .iter()
        .map(|folder| folder.display().to_string())
        .collect();
    Verdict::success(format!("{} can be written", names.join(" and ")))
}

/// Whether this user may make files in `folder`, or make the folder.
fn is_writable(folder: &Path) -> Result<(), String> {
    let place = nearest(folder);
    if !place.is_dir() {
        return Err(format!("{} is no folder", place.display()));
    }
    access(&place, AccessFlags::W_OK | AccessFlags::X_OK).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_that_is_there_or_can_be_made_is_writable_and_a_file_in_the_way_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();

        assert_eq!(is_writable(folder.path()), Ok(()));
        assert_eq!(is_writable(&folder.path().join("a/b")), Ok(()));
        assert!(is_writable(&file.join("sessions")).is_err());
        assert!(is_writable(Path::new("/proc/self/sessions")).is_err());
    }
}
