use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

struct World {
    folder: tempfile::TempDir,
    repository: Repository,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::new(folder.path());
        Self { folder, repository }
    }

    fn zip(&self, files: &[(&str, &str)]) -> PathBuf {
        let path = self.folder.path().join("zip");
        let mut zip = ZipWriter::new(fs::File::create(&path).unwrap());
        for (name, text) in files {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
        path
    }

    fn unpack(&self, files: &[(&str, &str)]) -> Result<(), UnpackError> {
        let zip = self.zip(files);
        self.repository.unpack("P", "1.0", &zip)
    }
}

#[test]
fn unpacked_package_is_new_in_the_references_place() {
    let world = World::new();

    world.unpack(&[("install.sh", "true")]).unwrap();

    let package = world.folder.path().join("packages/P");
    assert_eq!(
        fs::read_to_string(package.join("1.0/install.sh")).unwrap(),
        "true"
    );
    let state = world.repository.state("P");
    assert_eq!(
        (state.state, state.version.as_str(), state.name.as_str()),
        (State::New, "1.0", "P")
    );
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&package.join("installstate")), 0o600);
    assert_eq!(mode(&package), 0o700);
    assert!(world.repository.check("P", "1.0").is_ok());
}

#[test]
fn package_is_replaced_whole_and_its_state_stays() {
    let world = World::new();
    world.unpack(&[("install.sh", "1"), ("old", "")]).unwrap();
    world
        .repository
        .enter("P", "1.0", State::Installed)
        .unwrap();

    world.unpack(&[("install.sh", "2")]).unwrap();

    let version = world.repository.version("P", "1.0");
    assert_eq!(fs::read_to_string(version.join("install.sh")).unwrap(), "2");
    assert!(!version.join("old").exists());
    assert_eq!(world.repository.state("P").state, State::Installed);
}

#[test]
fn archive_that_is_no_good_leaves_what_was_there() {
    let world = World::new();
    world.unpack(&[("install.sh", "1")]).unwrap();
    let bad = world.folder.path().join("bad");
    fs::write(&bad, "no archive").unwrap();

    world.repository.unpack("P", "1.0", &bad).unwrap_err();

    assert!(world.repository.check("P", "1.0").is_ok());
    let left: Vec<_> = fs::read_dir(world.folder.path().join("packages/P"))
        .unwrap()
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn package_without_scripts_is_no_package() {
    let world = World::new();
    world.unpack(&[("readme", "")]).unwrap();

    assert!(matches!(
        world.repository.check("P", "1.0"),
        Err(PackageError::NoInstallAction)
    ));
    assert!(matches!(
        world.repository.check("P", "2.0"),
        Err(PackageError::Incomplete)
    ));
}

#[test]
fn states_that_are_missing_or_broken_are_told_apart() {
    let world = World::new();
    assert_eq!(world.repository.state("P").state, State::None);
    let package = world.folder.path().join("packages/P");
    fs::create_dir_all(package.join("1.0")).unwrap();
    fs::create_dir_all(package.join(".unpacking-x")).unwrap();
    let found = world.repository.state("P");
    assert_eq!(
        (found.state, found.version.as_str()),
        (State::Unknown, "1.0")
    );
    fs::write(package.join("installstate"), "{").unwrap();
    let broken = world.repository.state("P");
    assert_eq!(
        (broken.state, broken.version.as_str()),
        (State::Unknown, "")
    );
}

#[test]
fn manifests_are_kept_by_package_and_version() {
    let world = World::new();
    let text = "{\"version\":\"1.0\"}";

    world
        .repository
        .keep_manifest("P", "3", text, true)
        .unwrap();

    assert_eq!(
        world.repository.manifest("P", "3"),
        Some(Manifest::read(text).unwrap())
    );
    assert_eq!(world.repository.manifest("P", "4"), None);
    let manifests = world.folder.path().join("manifests");
    assert_eq!(
        fs::read_to_string(manifests.join("P_3.json")).unwrap(),
        text
    );
    assert_eq!(
        fs::read_to_string(manifests.join("P_3.txt")).unwrap().len(),
        64
    );
}

#[test]
fn traces_are_taken_once() {
    let world = World::new();
    let section = Section {
        operation: "execute action: install".into(),
        exitcode: 194,
        error: String::new(),
        start: 1,
        stop: 2,
    };

    world
        .repository
        .keep_traces("P", std::slice::from_ref(&section))
        .unwrap();

    assert_eq!(world.repository.take_traces("P"), [section]);
    assert!(world.repository.take_traces("P").is_empty());
}
