//! From the clone to the destination: links that lead out are refused, files can be run by their
//! owner, and what is at the destination already stays unless it has the same name.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use super::super::DownloadError;
use super::super::tree::{Budget, Folder};

/// Most links that one name may lead over, as the kernel has it.
const LINKS: usize = 40;

/// Checks a tree and sets the modes of its files.
pub(super) fn look_through(root: &Path, budget: &mut Budget) -> Result<(), DownloadError> {
    look(root, root, budget)
}

fn look(root: &Path, folder: &Path, budget: &mut Budget) -> Result<(), DownloadError> {
    let failed = |path: &Path, cause| DownloadError::Write {
        path: path.display().to_string(),
        cause,
    };
    let entries = fs::read_dir(folder).map_err(|cause| failed(folder, cause))?;
    for entry in entries {
        let entry = entry.map_err(|cause| failed(folder, cause))?;
        let path = entry.path();
        let found = entry.metadata().map_err(|cause| failed(&path, cause))?;
        if found.is_dir() {
            look(root, &path, budget)?;
            continue;
        }
        budget.take_file()?;
        if found.is_symlink() {
            if !stays_within(root, &path) {
                let within = path.strip_prefix(root).unwrap_or(&path);
                return Err(DownloadError::Input(format!(
                    "{} is a symbolic link that leads out of the repository",
                    within.display()
                )));
            }
            continue;
        }
        budget.take_bytes(found.len())?;
        let runnable = Permissions::from_mode(0o700);
        fs::set_permissions(&path, runnable).map_err(|cause| failed(&path, cause))?;
    }
    Ok(())
}

/// Whether following `link` never leaves `root`, whether or not something is there.
fn stays_within(root: &Path, link: &Path) -> bool {
    let Ok(within) = link.strip_prefix(root) else {
        return false;
    };
    let mut at: Vec<PathBuf> = Vec::new();
    let mut ahead: Vec<PathBuf> = parts(within);
    let mut links = 0;
    while let Some(part) = ahead.pop() {
        if part == Path::new("..") {
            if at.pop().is_none() {
                return false;
            }
            continue;
        }
        at.push(part);
        let mut path = root.to_owned();
        path.extend(&at);
        let Ok(target) = fs::read_link(&path) else {
            continue;
        };
        links += 1;
        if target.is_absolute() || links > LINKS {
            return false;
        }
        at.pop();
        ahead.extend(parts(&target));
    }
    true
}

/// The parts of a relative path, the last one first.
fn parts(path: &Path) -> Vec<PathBuf> {
    let parts = path.components().rev();
    parts
        .filter(|part| !matches!(part, Component::CurDir))
        .map(|part| PathBuf::from(part.as_os_str()))
        .collect()
}

/// Moves everything in `source` to `folder`.
pub(super) fn move_tree(source: &Path, folder: &Folder) -> Result<(), DownloadError> {
    let failed = |path: &Path, cause| DownloadError::Write {
        path: path.display().to_string(),
        cause,
    };
    let entries = fs::read_dir(source).map_err(|cause| failed(source, cause))?;
    for entry in entries {
        let entry = entry.map_err(|cause| failed(source, cause))?;
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry.file_type().map_err(|cause| failed(&path, cause))?;
        if kind.is_dir() {
            let inner = folder.enter(&name).map_err(|cause| failed(&path, cause))?;
            move_tree(&path, &inner)?;
        } else {
            move_one(&path, folder, &name).map_err(|cause| failed(&path, cause))?;
        }
    }
    Ok(())
}

fn move_one(source: &Path, folder: &Folder, name: &OsStr) -> io::Result<()> {
    match folder.take_in(source, name) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {}
        done => return done,
    }
    // The destination is on another file system.
    match fs::read_link(source) {
        Ok(target) => folder.link(&target, name),
        Err(_) => folder.copy(&mut File::open(source)?, name),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/file"), "x").unwrap();
        (folder, root)
    }

    #[test]
    fn links_within_the_tree_are_taken_and_those_that_leave_it_refused() {
        for (link, target, stays) in [
            ("a/l", "file", true),
            ("a/b/l", "../file", true),
            ("l", "a/b/../file", true),
            ("l", "./nothing/there", true),
            ("l", ".", true),
            ("l", "/etc/passwd", false),
            ("l", "..", false),
            ("a/l", "../../x", false),
            ("a/b/l", "../../../root/a", false),
            ("l", "l", false),
        ] {
            let (_folder, root) = tree();
            symlink(target, root.join(link)).unwrap();

            let looked = look_through(&root, &mut Budget::default());

            assert_eq!(looked.is_ok(), stays, "{link} -> {target}");
        }
    }

    #[test]
    fn links_that_leave_together_are_refused() {
        let (_folder, root) = tree();
        symlink("../..", root.join("a/b/up")).unwrap();
        symlink("a/b/up/../secret", root.join("l")).unwrap();

        let refused = look_through(&root, &mut Budget::default()).unwrap_err();

        assert_eq!(
            refused.to_string(),
            "l is a symbolic link that leads out of the repository"
        );
    }

    #[tokio::test]
    async fn tree_is_merged_into_what_is_there() {
        let (folder, root) = tree();
        symlink("file", root.join("a/link")).unwrap();
        let to = folder.path().join("to");
        fs::create_dir_all(to.join("a")).unwrap();
        fs::write(to.join("a/old"), "old").unwrap();
        fs::write(to.join("a/file"), "old").unwrap();
        let place = super::super::super::destination::Place {
            base: to.clone(),
            below: vec![],
        };
        let destination = Folder::open(place).await.unwrap();

        look_through(&root, &mut Budget::default()).unwrap();
        move_tree(&root, &destination).unwrap();

        assert_eq!(fs::read_to_string(to.join("a/old")).unwrap(), "old");
        assert_eq!(fs::read_to_string(to.join("a/link")).unwrap(), "x");
        let mode = fs::metadata(to.join("a/file"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
        assert!(to.join("a/b").is_dir());
    }

    #[tokio::test]
    async fn files_and_links_can_be_copied_to_another_file_system() {
        let (folder, root) = tree();
        let to = folder.path().join("to");
        let place = super::super::super::destination::Place {
            base: to.clone(),
            below: vec![],
        };
        let destination = Folder::open(place).await.unwrap();
        fs::write(to.join("f"), "old").unwrap();
        fs::write(to.join("l"), "old").unwrap();

        let mut file = File::open(root.join("a/file")).unwrap();
        destination.copy(&mut file, OsStr::new("f")).unwrap();
        destination.link(Path::new("f"), OsStr::new("l")).unwrap();

        assert_eq!(fs::read_to_string(to.join("l")).unwrap(), "x");
        let mode = fs::metadata(to.join("f")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert_eq!(fs::read_dir(&to).unwrap().count(), 2);
    }
}
