//! Control groups: what a session starts stays countable and can be ended, whatever it calls itself.
//!
//! ```text
//! …/ssm-agent.service                  the agent and the keeper; systemd has delegated it
//! …/ssm-agent.service/session-ID       the login step of a session enters it, and nobody leaves
//! …/ssm-agent.service/step-ID-HASH     so does a step of a command
//! ```
//!
//! A process that starts a session of its own with `setsid` leaves the session of its terminal; it does
//! not leave its control group. Groups are made only where the service manager has handed the subtree
//! over (`Delegate=yes`), which it says in an extended attribute. No controller is used, so version 1's
//! named hierarchy serves as well as version 2.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::fs::getxattr;
use tracing::{debug, warn};

/// How systemd marks a subtree that it has handed over, since its versions 236 and 251.
const DELEGATED: [&str; 2] = ["trusted.delegate", "user.delegate"];
/// Where hierarchies are mounted, in the file systems that systemd makes.
const UNIFIED: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
const NAMED: &str = "/sys/fs/cgroup/systemd";
/// The file with a group's processes; who writes 0 enters.
const PROCESSES: &str = "cgroup.procs";
/// Kills all processes of a group and those below it at once, since Linux 5.14.
const KILL: &str = "cgroup.kill";
/// How often a group is removed whose last processes are not quite gone yet, and the wait between.
const REMOVALS: u32 = 10;
const REMOVAL_WAIT: Duration = Duration::from_millis(5);

/// A group below which others may be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegated(PathBuf);

/// A group that was made for one purpose.
#[derive(Debug, PartialEq, Eq)]
pub struct ControlGroup {
    path: PathBuf,
}

impl Delegated {
    /// That of this process, if the service manager has handed it over.
    pub fn of_this_process() -> Option<Self> {
        let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = candidates(&membership).find(|path| path.join(PROCESSES).exists())?;
        let is_marked = |name: &&str| {
            let mut value = [0; 8];
            let length = getxattr(&own, *name, &mut value).unwrap_or(0);
            value.get(..length) == Some(b"1")
        };
        DELEGATED.iter().any(is_marked).then_some(Self(own))
    }

    /// Makes the group `name`; one that is there already is used.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn make(&self, name: &str) -> io::Result<ControlGroup> {
        let path = self.0.join(name);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Ok(()) | Err(_) => Ok(ControlGroup { path }),
        }
    }

    /// The group `name`, if it is there.
    pub fn find(&self, name: &str) -> Option<ControlGroup> {
        let path = self.0.join(name);
        path.join(PROCESSES)
            .exists()
            .then_some(ControlGroup { path })
    }

    /// Removes the groups whose names start with `prefix` and that nobody is in.
    pub fn remove_empty(&self, prefix: &str) {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let named = entries.filter(|entry| {
            let name = entry.file_name();
            name.to_str().is_some_and(|name| name.starts_with(prefix))
        });
        for entry in named {
            let group = ControlGroup { path: entry.path() };
            // The kernel refuses where somebody is.
            let _ = group.remove_folders();
        }
    }
}

impl ControlGroup {
    /// Its folder. A process that writes `0` to `cgroup.procs` in it enters.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its processes and those of groups below it.
    pub fn members(&self) -> Vec<Pid> {
        let folders = self.folders();
        folders.iter().flat_map(|folder| listed(folder)).collect()
    }

    /// Kills all of them at once, where the kernel can do that.
    pub fn kill(&self) {
        let _ = fs::write(self.path.join(KILL), "1");
    }

    /// Kills all that is left in it and removes it. It may take some milliseconds.
    pub fn end(self) {
        for _ in 0..REMOVALS {
            let left = self.members();
            if left.is_empty() {
                break;
            }
            self.kill();
            for member in left {
                // Who is gone meanwhile needs no signal.
                let _ = kill(member, Signal::SIGKILL);
            }
            std::thread::sleep(REMOVAL_WAIT);
        }
        self.remove();
    }

    /// Removes it, once nobody is in it. It may take some milliseconds.
    pub fn remove(self) {
        for attempt in 0..=REMOVALS {
            match self.remove_folders() {
                Ok(()) => return,
                Err(error) if attempt == REMOVALS => {
                    warn!(group = %self.path.display(), %error, "a control group cannot be removed");
                }
                Err(error) => {
                    debug!(%error, "a control group is still in use");
                    std::thread::sleep(REMOVAL_WAIT);
                }
            }
        }
    }

    /// Lets whoever is left in it go on in the group above, and removes it. It stays where somebody has
    /// made groups of their own below it and uses them.
    pub fn dissolve(self) {
        let Some(above) = self.path.parent().map(|above| above.join(PROCESSES)) else {
            return;
        };
        // One may fork between the look and its move.
        for _ in 0..REMOVALS {
            match self.remove_folders() {
                Ok(()) => return,
                Err(error) => debug!(%error, "a control group is still in use"),
            }
            for member in listed(&self.path) {
                // Who is gone meanwhile needs no other place.
                let _ = fs::write(&above, member.to_string());
            }
        }
        debug!(group = %self.path.display(), "the control group stays, as it is in use");
    }

    /// Removes it and those below, which go first. One that is not there is removed.
    fn remove_folders(&self) -> io::Result<()> {
        for folder in self.folders().iter().rev() {
            match fs::remove_dir(folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// It and all below, from the top down.
    fn folders(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.path.clone()];
        let mut next = 0;
        while let Some(folder) = folders.get(next) {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            let below: Vec<PathBuf> = entries
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path())
                .collect();
            folders.extend(below);
            next += 1;
        }
        folders
    }
}

/// The processes in the group with this folder, but for those in groups below it.
fn listed(folder: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(folder.join(PROCESSES)).unwrap_or_default();
    let ids = text.lines().filter_map(|line| line.parse().ok());
    ids.map(Pid::from_raw).collect()
}

/// Has this process enter the group with this folder.
///
/// # Errors
/// What the kernel says.
pub fn enter(group: &Path) -> io::Result<()> {
    fs::write(group.join(PROCESSES), "0")
}

/// Where the group may be found of which `/proc/PID/cgroup` says this: version 2 first, then the
/// hierarchy of version 1 that systemd names.
fn candidates(membership: &str) -> impl Iterator<Item = PathBuf> {
    let below = |root: &str, path: &str| Path::new(root).join(path.trim_start_matches('/'));
    let of = |prefix: &str| {
        let mut lines = membership.lines();
        lines.find_map(|line| line.split_once(':')?.1.strip_prefix(prefix))
    };
    let unified = of(":").into_iter();
    let unified = unified.flat_map(move |path| UNIFIED.map(|root| below(root, path)));
    let named = of("name=systemd:").map(|path| below(NAMED, path));
    unified.chain(named).collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests;
