use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;

#[test]
fn file_and_folder_are_private_and_lines_are_appended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logs/audit.log");
    let mut file = LogFile::new(settings(&path, 1000, 5));

    file.append(b"one\n").unwrap();
    file.append(b"two\nthree\n").unwrap();

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    assert_eq!(fs::read(&path).unwrap(), b"one\ntwo\nthree\n");
}

#[test]
fn full_file_is_put_aside_and_the_oldest_goes() {
    let world = World::new(10, 3);
    let mut file = world.file();

    for number in 0..7 {
        file.append(format!("line {number}\n").as_bytes()).unwrap();
    }

    assert_eq!(world.read(""), "line 6\n");
    assert_eq!(world.read(".1"), "line 5\n");
    assert_eq!(world.read(".2"), "line 4\n");
    assert_eq!(world.count(), 3);
}

#[test]
fn single_file_starts_anew_when_it_is_full() {
    let world = World::new(10, 1);
    let mut file = world.file();

    file.append(b"one two\n").unwrap();
    file.append(b"three\n").unwrap();

    assert_eq!((world.read("").as_str(), world.count()), ("three\n", 1));
}

#[test]
fn file_of_an_earlier_run_goes_on_and_counts_against_the_limit() {
    let world = World::new(10, 3);
    world.file().append(b"one\n").unwrap();
    world.file().append(b"two\n").unwrap();

    world.file().append(b"three\n").unwrap();

    assert_eq!(world.read(".1"), "one\ntwo\n");
    assert_eq!(world.read(""), "three\n");
}

#[test]
fn line_that_a_crash_cut_short_does_not_swallow_the_next() {
    let world = World::new(1000, 3);
    fs::write(&world.path, "{\"time\":\"2026").unwrap();

    let mut file = world.file();
    file.append(b"one\n").unwrap();
    file.append(b"two\n").unwrap();

    assert_eq!(world.read(""), "{\"time\":\"2026\none\ntwo\n");
}

#[test]
fn file_that_was_deleted_or_renamed_is_made_anew() {
    let world = World::new(1000, 3);
    let mut file = world.file();
    file.append(b"one\n").unwrap();

    fs::remove_file(&world.path).unwrap();
    file.append(b"two\n").unwrap();
    assert_eq!(world.read(""), "two\n");

    fs::rename(&world.path, world.folder.path().join("elsewhere")).unwrap();
    file.append(b"three\n").unwrap();
    assert_eq!(world.read(""), "three\n");

    fs::remove_dir_all(world.folder.path()).unwrap();
    file.append(b"four\n").unwrap();
    assert_eq!(world.read(""), "four\n");
}

#[test]
fn folder_that_cannot_be_made_and_link_in_the_way_are_errors_that_can_pass() {
    let world = World::new(1000, 3);
    symlink("/dev/null", &world.path).unwrap();
    let mut file = world.file();
    assert!(file.append(b"one\n").is_err());

    fs::remove_file(&world.path).unwrap();
    file.append(b"one\n").unwrap();
    assert_eq!(world.read(""), "one\n");

    let mut nowhere = LogFile::new(settings(Path::new("/proc/none/audit.log"), 1000, 3));
    assert!(nowhere.append(b"one\n").is_err());
}

#[test]
fn full_disk_is_an_error_and_what_it_tore_is_cut_off() {
    let world = World::new(1000, 3);
    let mut file = world.file();
    file.append(b"one\n").unwrap();
    let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
    let open = file.open.as_mut().unwrap();
    let sound = std::mem::replace(&mut open.file, full);

    let error = open.append(b"two\n").unwrap_err();

    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    open.file = sound;
    open.file.write_all(b"tw").unwrap();
    open.torn_at = Some(4);
    file.append(b"three\n").unwrap();
    assert_eq!(world.read(""), "one\nthree\n");
}

struct World {
    folder: TempDir,
    path: PathBuf,
    limit: u64,
    files: u32,
}

impl World {
    fn new(limit: u64, files: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            path: folder.path().join("audit.log"),
            folder,
            limit,
            files,
        }
    }

    fn file(&self) -> LogFile {
        LogFile::new(settings(&self.path, self.limit, self.files))
    }

    fn read(&self, ending: &str) -> String {
        fs::read_to_string(format!("{}{ending}", self.path.display())).unwrap()
    }

    fn count(&self) -> usize {
        fs::read_dir(self.folder.path()).unwrap().count()
    }
}

fn settings(path: &Path, limit: u64, files: u32) -> Settings {
    Settings {
        path: path.to_owned(),
        limit,
        files,
    }
}
