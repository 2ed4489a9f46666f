//! One action on a package at a time: within this agent, and beside a reference agent, by its lock file.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::{Pid, getgid};

use crate::runtime::atomic_file;

/// How long a lock file of another process is respected, as in the reference.
const EXPIRY: Duration = Duration::from_secs(30 * 60 + 1);

/// What this process works on, by lock file, and the action.
static HELD: LazyLock<Mutex<BTreeMap<PathBuf, String>>> = LazyLock::new(Mutex::default);

/// A locked package; unlocked when dropped.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
}

/// Why a package cannot be locked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Locked {
    #[error("Package \"{package}\" is already in the process of action \"{action}\"")]
    Here { package: String, action: String },
    #[error("Package \"{package}\" is already in the process of other action")]
    Elsewhere { package: String },
    #[error("Error locking package \"{package}\": \"{cause}\"")]
    File {
        package: String,
        #[source]
        cause: io::Error,
    },
}

impl Lock {
    /// Takes the lock of `package` with the file `path`.
    pub(super) fn take(path: PathBuf, package: &str, action: &str) -> Result<Self, Locked> {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(action) = held.get(&path) {
            return Err(Locked::Here {
                package: package.to_owned(),
                action: action.clone(),
            });
        }
        let taken = take_file(&path).map_err(|cause| Locked::File {
            package: package.to_owned(),
            cause,
        })?;
        if !taken {
            return Err(Locked::Elsewhere {
                package: package.to_owned(),
            });
        }
        held.insert(path.clone(), action.to_owned());
        Ok(Self { path })
    }

    /// Shows others that it is still held.
    pub(super) fn touch(&self) {
        let now = SystemTime::now();
        let _ = File::options()
            .append(true)
            .open(&self.path)
            .and_then(|file| file.set_modified(now));
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(&self.path);
        // If it expired meanwhile, it is somebody else's.
        if fs::read_to_string(&self.path).is_ok_and(|text| text.trim() == own_id()) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn own_id() -> String {
    format!("pid-{}-gid-{}", std::process::id(), getgid())
}

fn take_file(path: &Path) -> io::Result<bool> {
    if let Some(folder) = path.parent() {
        atomic_file::create_private_dir(folder)?;
    }
    if is_over(path) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Ok(mut file) => file.write_all(own_id().as_bytes()).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the lock of a file does not count any more: its owner died, or it is too old. One with our
/// own id that we do not hold is of an earlier process.
fn is_over(path: &Path) -> bool {
    let Ok(text) = fs::read_to_string(path) else {
        return false;
    };
    let owner = text
        .trim()
        .strip_prefix("pid-")
        .and_then(|rest| rest.split('-').next()?.parse().ok())
        .map(Pid::from_raw);
    let is_dead = owner.is_some_and(|pid| {
        pid == Pid::this() || pid.as_raw() > 0 && kill(pid, None) == Err(Errno::ESRCH)
    });
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    is_dead || modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > EXPIRY))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(folder: &tempfile::TempDir) -> PathBuf {
        folder.path().join("locks/p.lockfile")
    }

    #[test]
    fn second_action_is_told_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(path(&folder), "P", "Install").unwrap();

        let refused = Lock::take(path(&folder), "P", "Uninstall").unwrap_err();

        assert_eq!(
            refused.to_string(),
            "Package \"P\" is already in the process of action \"Install\""
        );
        assert_eq!(fs::read_to_string(path(&folder)).unwrap(), own_id());
        drop(first);
        assert!(!path(&folder).exists());
        assert!(Lock::take(path(&folder), "P", "Uninstall").is_ok());
    }

    #[test]
    fn lock_of_a_living_process_counts_until_it_expires() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(path(&folder).parent().unwrap()).unwrap();
        fs::write(path(&folder), "pid-1-gid-0").unwrap();

        let refused = Lock::take(path(&folder), "P", "Install").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "Package \"P\" is already in the process of other action"
        );
        let file = File::options().append(true).open(path(&folder)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(31 * 60))
            .unwrap();
        assert!(Lock::take(path(&folder), "P", "Install").is_ok());
    }

    #[test]
    fn lock_of_a_dead_process_or_an_earlier_one_of_our_id_is_taken_over() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let dead = child.id();
        child.wait().unwrap();
        for owner in [format!("pid-{dead}-gid-0"), own_id()] {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir_all(path(&folder).parent().unwrap()).unwrap();
            fs::write(path(&folder), owner).unwrap();

            assert!(Lock::take(path(&folder), "P", "Install").is_ok());
        }
    }

    #[test]
    fn lock_that_somebody_else_took_over_stays() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock::take(path(&folder), "P", "Install").unwrap();
        fs::write(path(&folder), "pid-1-gid-0").unwrap();

        drop(lock);

        assert!(path(&folder).exists());
    }
}
