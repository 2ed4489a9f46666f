use std::collections::BTreeSet;

use super::*;
use crate::agent::transcript::file_sink::tests::settings;

const MINUTE: Duration = Duration::from_mins(1);

#[test]
fn recordings_beyond_the_retention_are_deleted() {
    let folder = Folder::new();
    folder.put("old.cast", 10, 61 * MINUTE);
    folder.put("old.log", 10, 61 * MINUTE);
    folder.put("young.cast", 10, 59 * MINUTE);

    folder.shelf(1000).sweep();

    assert_eq!(folder.names(), ["young.cast"]);
}

#[test]
fn oldest_recordings_are_deleted_until_the_rest_fits_the_quota() {
    let folder = Folder::new();
    for (name, age) in [("c.log", 1), ("a.log", 3), ("d.log", 0), ("b.log", 2)] {
        folder.put(name, 100, age * MINUTE);
    }

    folder.shelf(250).sweep();

    assert_eq!(folder.names(), ["c.log", "d.log"]);
}

#[test]
fn running_sessions_keep_their_files_and_count_against_the_quota() {
    let folder = Folder::new();
    let shelf = folder.shelf(150);
    let session = SessionId::new("running").unwrap();
    let (path, file) = shelf.create(&session, Format::Log).unwrap();
    folder.put("running.log", 100, 90 * MINUTE);
    folder.put("a.log", 100, MINUTE);
    folder.put("b.log", 50, MINUTE / 2);

    shelf.sweep();
    assert_eq!(folder.names(), ["b.log", "running.log"]);

    drop(file);
    shelf.close(&path);
    shelf.sweep();
    assert_eq!(folder.names(), ["b.log"]);
}

#[test]
fn file_that_another_process_records_to_is_kept() {
    let folder = Folder::new();
    let session = SessionId::new("running").unwrap();
    let (_path, file) = folder.shelf(100).create(&session, Format::Log).unwrap();
    folder.put("running.log", 200, 90 * MINUTE);

    // Another shelf knows as little of the session as another process does.
    folder.shelf(100).sweep();
    assert_eq!(folder.names(), ["running.log"]);

    drop(file);
    folder.shelf(100).sweep();
    assert!(folder.names().is_empty());
}

#[test]
fn files_that_are_no_recordings_are_left_alone() {
    let folder = Folder::new();
    folder.put("notes.txt", 100, 90 * MINUTE);
    fs::create_dir(folder.path().join("folder.log")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link.log")).unwrap();

    folder.shelf(0).sweep();

    assert_eq!(folder.names(), ["folder.log", "link.log", "notes.txt"]);
}

#[test]
fn recordings_of_before_the_clock_stepped_back_are_young_and_go_last() {
    let folder = Folder::new();
    let shelf = folder.shelf(25);
    folder.put("before.log", 10, Duration::ZERO);
    let file = File::options()
        .write(true)
        .open(folder.path().join("before.log"));
    let future = SystemTime::now() + 1000 * MINUTE;
    file.unwrap().set_modified(future).unwrap();
    folder.put("old.log", 10, 30 * MINUTE);
    folder.put("young.log", 10, MINUTE);

    shelf.sweep();
    assert_eq!(folder.names(), ["before.log", "young.log"]);

    folder.put("younger.log", 20, Duration::ZERO);
    shelf.sweep();
    assert_eq!(folder.names(), ["before.log"]);
}

#[test]
fn probe_leaves_nothing_behind_and_tells_of_a_folder_that_cannot_be_made() {
    let folder = Folder::new();
    let session = SessionId::new("alice-1").unwrap();

    folder.shelf(100).probe(&session).unwrap();

    assert_eq!(folder.names(), Vec::<String>::new());
    fs::remove_dir(folder.path()).unwrap();
    fs::write(folder.path(), "in the way").unwrap();
    folder.shelf(100).probe(&session).unwrap_err();
}

#[test]
fn folder_that_is_not_there_is_no_trouble() {
    let folder = Folder::new();
    fs::remove_dir(folder.path()).unwrap();

    folder.shelf(100).sweep();

    assert!(!folder.path().exists());
}

#[test]
fn session_ends_do_not_sweep_again_soon() {
    let folder = Folder::new();
    let shelf = folder.shelf(100);
    assert!(shelf.is_sweep_due());

    shelf.sweep();

    assert!(!shelf.is_sweep_due());
}

#[test]
fn running_sessions_make_room_when_they_have_written_much() {
    let folder = Folder::new();
    let shelf = folder.shelf(800);
    folder.put("old.log", 10, 90 * MINUTE);

    shelf.count_written(100);
    assert_eq!(folder.names(), ["old.log"]);

    shelf.count_written(1);
    assert_eq!(folder.names(), Vec::<String>::new());
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::create_dir(folder.path()).unwrap();
        folder
    }

    fn path(&self) -> PathBuf {
        settings(self.0.path()).directory
    }

    /// Retention is an hour.
    fn shelf(&self, quota: u64) -> Shelf {
        Shelf::new(&Settings {
            quota,
            ..settings(self.0.path())
        })
    }

    fn put(&self, name: &str, size: u64, age: Duration) {
        let file = File::create(self.path().join(name)).unwrap();
        file.set_len(size).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).unwrap();
        let names: BTreeSet<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.into_iter().collect()
    }
}
