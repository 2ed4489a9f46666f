//! Whether what the agent keeps secret is secret, and what it obeys is only root's to change.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::subject::Subject;
use super::verdict::Verdict;

const GROUP_AND_OTHERS: u32 = 0o077;
const WRITE_OF_GROUP_AND_OTHERS: u32 = 0o022;

/// Looks at owners and modes.
pub(super) fn check(subject: &Subject) -> Verdict {
    let state = &subject.places.state;
    let vault = state.join("Vault");
    let owner = fs::metadata(state).map_or(0, |metadata| metadata.uid());
    let secrets = [
        vault.clone(),
        vault.join("Manifest"),
        vault.join("Store"),
        vault.join("Store/RegistrationKey"),
        vault.join("Store/InstanceFingerprint"),
    ];
    let others = [
        state.clone(),
        subject.places.config.clone(),
        subject.places.logs.clone(),
    ];
    let secrets = secrets.iter().map(|path| (path, GROUP_AND_OTHERS));
    let others = others.iter().map(|path| (path, WRITE_OF_GROUP_AND_OTHERS));
    let mut looked = 0;
    let mut problems = Vec::new();
    for (path, forbidden) in secrets.chain(others) {
        match examine(path, forbidden, owner) {
            Ok(seen) => looked += usize::from(seen),
            Err(problem) => problems.push(problem),
        }
    }
    if !problems.is_empty() {
        return Verdict::failed(
            problems.join("; "),
            format!(
                "chown them to the agent's user, and take the rights of others: `chmod -R go-rwx {}`",
                vault.display()
            ),
        );
    }
    match looked {
        0 => Verdict::skipped("nothing is there yet"),
        _ => Verdict::success(format!("{looked} files and folders are as they should be")),
    }
}

/// Whether there is something at `path`, which is then as it should be.
fn examine(path: &Path, forbidden: u32, owner: u32) -> Result<bool, String> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(format!("{} cannot be seen: {error}", path.display())),
    };
    if ![0, owner].contains(&metadata.uid()) {
        return Err(format!(
            "{} belongs to user {}, not to root or the agent's user",
            path.display(),
            metadata.uid()
        ));
    }
    if metadata.mode() & forbidden != 0 {
        let what = match forbidden {
            GROUP_AND_OTHERS => "open to others",
            _ => "writable by others",
        };
        return Err(format!(
            "{} is {what} (mode {:04o})",
            path.display(),
            metadata.mode() & 0o7777
        ));
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn secrets_that_others_may_read_and_files_that_others_may_write_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        fs::write(&file, "k").unwrap();
        let owner = fs::metadata(&file).unwrap().uid();
        let with_mode = |mode, forbidden| {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            examine(&file, forbidden, owner)
        };

        assert_eq!(with_mode(0o600, GROUP_AND_OTHERS), Ok(true));
        assert!(
            with_mode(0o640, GROUP_AND_OTHERS)
                .unwrap_err()
                .contains("open to others (mode 0640)")
        );
        assert_eq!(with_mode(0o644, WRITE_OF_GROUP_AND_OTHERS), Ok(true));
        assert!(
            with_mode(0o666, WRITE_OF_GROUP_AND_OTHERS)
                .unwrap_err()
                .contains("writable")
        );
        assert_eq!(
            examine(&folder.path().join("none"), GROUP_AND_OTHERS, owner),
            Ok(false)
        );
    }
}
