//! Whether there is room for state and logs: bytes, inodes, and leave to write.

use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, Statvfs, statvfs};

use super::subject::Subject;
use super::verdict::Verdict;

/// Less than that is filled by one busy hour of recording and logging.
const BYTES: u64 = 64 << 20;
/// Less than that is used up by one busy day of commands.
const INODES: u64 = 1000;

/// Looks at the file systems of the state and log folders.
pub(super) fn check(subject: &Subject) -> Verdict {
    let mut notes = Vec::new();
    for (name, folder) in [
        ("state", &subject.places.state),
        ("logs", &subject.places.logs),
    ] {
        let place = nearest(folder);
        let room = match statvfs(&place) {
            Ok(facts) => Room::of(&facts),
            Err(error) => {
                return Verdict::failed(
                    format!("{} cannot be looked at: {error}", place.display()),
                    "run it as root",
                );
            }
        };
        match room.problem() {
            Some((problem, hint)) => {
                return Verdict::failed(format!("{} ({name}) {problem}", place.display()), hint);
            }
            None => notes.push(format!("{name}: {room}")),
        }
    }
    Verdict::success(notes.join("; "))
}

/// The folder, or the one that it would be made in.
pub(super) fn nearest(folder: &Path) -> PathBuf {
    let exists = |path: &&Path| path.exists();
    folder
        .ancestors()
        .find(exists)
        .unwrap_or(Path::new("/"))
        .to_owned()
}

/// What a file system has left for us.
#[derive(Debug, Clone, Copy)]
struct Room {
    bytes: u64,
    inodes: u64,
    /// Some file systems make inodes as they need them.
    counts_inodes: bool,
    read_only: bool,
}

impl Room {
    fn of(facts: &Statvfs) -> Self {
        Self {
            bytes: facts
                .blocks_available()
                .saturating_mul(facts.fragment_size()),
            inodes: facts.files_available(),
            counts_inodes: facts.files() > 0,
            read_only: facts.flags().contains(FsFlags::ST_RDONLY),
        }
    }

    fn problem(self) -> Option<(String, &'static str)> {
        if self.read_only {
            return Some((
                "is mounted read-only".to_owned(),
                "look for a damaged disk with `dmesg`, then mount it for writing; sessions work until then, recordings do not",
            ));
        }
        if self.bytes < BYTES {
            return Some((
                format!("has {} MiB left", self.bytes >> 20),
                "free some space; sessions work until then, recordings may be incomplete",
            ));
        }
        if self.counts_inodes && self.inodes < INODES {
            return Some((
                format!("has {} inodes left", self.inodes),
                "delete files; `find / -xdev -type f | cut -d/ -f2-4 | sort | uniq -c` tells where they are",
            ));
        }
        None
    }
}

impl std::fmt::Display for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} MiB", self.bytes >> 20)?;
        if self.counts_inodes {
            write!(f, " and {} inodes", self.inodes)?;
        }
        f.write_str(" free")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOMY: Room = Room {
        bytes: BYTES,
        inodes: INODES,
        counts_inodes: true,
        read_only: false,
    };

    #[test]
    fn full_and_read_only_file_systems_are_told() {
        let problem = |room: Room| room.problem().map(|(problem, _)| problem);

        assert_eq!(problem(ROOMY), None);
        for (room, text) in [
            (
                Room {
                    bytes: BYTES - 1,
                    ..ROOMY
                },
                "has 63 MiB left",
            ),
            (Room { inodes: 9, ..ROOMY }, "has 9 inodes left"),
            (
                Room {
                    read_only: true,
                    ..ROOMY
                },
                "is mounted read-only",
            ),
        ] {
            assert_eq!(problem(room).as_deref(), Some(text));
        }
    }

    #[test]
    fn file_system_without_a_count_of_inodes_is_not_out_of_them() {
        let room = Room {
            inodes: 0,
            counts_inodes: false,
            ..ROOMY
        };

        assert_eq!(room.problem(), None);
    }

    #[test]
    fn folder_that_is_not_there_is_looked_for_above() {
        let folder = tempfile::tempdir().unwrap();

        assert_eq!(nearest(&folder.path().join("a/b")), folder.path());
    }
}
