//! Unpacks the zip archive of a package: files and folders below one folder, and nothing else.
//!
//! Refused are names that lead elsewhere, links, what is encrypted or packed otherwise than by deflate,
//! and what would fill the disk: an archive may neither be longer than it says, nor take more than the
//! limits, nor more than the disk has to spare.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use nix::sys::statvfs::statvfs;
use zip::ZipArchive;
use zip::result::ZipError;

/// Most files and folders.
const ENTRIES: usize = 100_000;
/// Most bytes that all files of an archive may have together.
const TOTAL: u64 = 16 << 30;
/// Longest name.
const NAME: usize = 4096;
/// Bytes that are left on the disk for everything else.
const RESERVE: u64 = 64 << 20;
/// Mode of folders, and of files that the archive tells none of.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// The bits of a mode that a package may choose: none that lends a user's rights.
const MODE_BITS: u32 = 0o777;

/// Why an archive is not unpacked.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnpackError {
    #[error("it is no zip archive that can be read: {0}")]
    Zip(#[from] ZipError),
    #[error("it has {got} entries, more than {ENTRIES}")]
    TooMany { got: usize },
    #[error("its entry {0:?} leads out of the package's folder")]
    LeadsElsewhere(String),
    #[error("its entry {0:?} is neither a file nor a folder")]
    NoFile(String),
    #[error("its entry {0:?} is longer than it says")]
    Longer(String),
    #[error("its files have {got} bytes, more than {TOTAL}")]
    TooLarge { got: u128 },
    #[error("its files have {got} bytes, and the disk has {free} left")]
    NoRoom { got: u128, free: u64 },
    #[error("it cannot be written: {0}")]
    Io(#[from] io::Error),
}

/// Unpacks `file` into the new folder `target`.
pub(super) fn unpack(file: &Path, target: &Path) -> Result<(), UnpackError> {
    let mut archive = ZipArchive::new(io::BufReader::new(File::open(file)?))?;
    if archive.len() > ENTRIES {
        return Err(UnpackError::TooMany { got: archive.len() });
    }
    make_folder(target)?;
    check_room(&mut archive, target)?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index)?;
        let name = entry.name()?.into_owned();
        let mode = entry.unix_mode();
        let path = target.join(inside(&name)?);
        if entry.is_dir() {
            make_folder(&path)?;
            continue;
        }
        if !is_plain_file(mode) {
            return Err(UnpackError::NoFile(name));
        }
        if let Some(folder) = path.parent() {
            make_folder(folder)?;
        }
        let size = entry.size();
        let mode = mode.map_or(FILE_MODE, |mode| mode & MODE_BITS | FILE_MODE);
        if write(&mut entry, &path, size, mode)? > size {
            return Err(UnpackError::Longer(name));
        }
    }
    Ok(())
}

/// What the archive says it will take; what it takes is held against that while it is written.
fn check_room<R: Read + io::Seek>(
    archive: &mut ZipArchive<R>,
    target: &Path,
) -> Result<(), UnpackError> {
    let mut got: u128 = 0;
    for index in 0..archive.len() {
        got += u128::from(archive.by_index_raw(index)?.size());
    }
    if got > u128::from(TOTAL) {
        return Err(UnpackError::TooLarge { got });
    }
    let status = statvfs(target).map_err(io::Error::from)?;
    let free = status
        .blocks_available()
        .saturating_mul(status.fragment_size());
    if got + u128::from(RESERVE) > u128::from(free) {
        return Err(UnpackError::NoRoom { got, free });
    }
    Ok(())
}

/// The name as a path below the target. Names that would have to be changed for that are refused.
fn inside(name: &str) -> Result<PathBuf, UnpackError> {
    let refused = || UnpackError::LeadsElsewhere(name.chars().take(200).collect());
    if name.len() > NAME || name.contains('\0') || name.starts_with('/') {
        return Err(refused());
    }
    let mut path = PathBuf::new();
    for component in Path::new(name).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::ParentDir => {
                return Err(refused());
            }
        }
    }
    if path.as_os_str().is_empty() && !matches!(name, "./" | ".") {
        return Err(refused());
    }
    Ok(path)
}

/// Whether a mode is that of a file, as far as it says.
fn is_plain_file(mode: Option<u32>) -> bool {
    const KIND: u32 = 0o170_000;
    const REGULAR: u32 = 0o100_000;
    mode.is_none_or(|mode| matches!(mode & KIND, 0 | REGULAR))
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(path)
}

/// Writes an entry, and one byte more than it says if there is one; returns how many that were. There
/// are no links below the target, so that the path is what it looks like.
fn write(entry: &mut impl Read, path: &Path, size: u64, mode: u32) -> Result<u64, UnpackError> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)?;
    let length = io::copy(&mut entry.take(size.saturating_add(1)), &mut file)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(length)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Seek as _, SeekFrom, Write as _};

    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    use super::*;

    struct World {
        folder: tempfile::TempDir,
    }

    impl World {
        /// A folder with the archive `zip`.
        fn new(fill: impl FnOnce(&mut ZipWriter<File>)) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let file = File::create(folder.path().join("zip")).unwrap();
            let mut zip = ZipWriter::new(file);
            fill(&mut zip);
            zip.finish().unwrap();
            Self { folder }
        }

        fn of_bytes(bytes: &[u8]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("zip"), bytes).unwrap();
            Self { folder }
        }

        fn bytes(&self) -> Vec<u8> {
            fs::read(self.folder.path().join("zip")).unwrap()
        }

        fn target(&self) -> PathBuf {
            self.folder.path().join("a/target")
        }

        fn unpack(&self) -> Result<(), UnpackError> {
            unpack(&self.folder.path().join("zip"), &self.target())
        }
    }

    fn deflated(mode: u32) -> SimpleFileOptions {
        SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .unix_permissions(mode)
    }

    fn add(zip: &mut ZipWriter<File>, name: &str, mode: u32, content: &[u8]) {
        zip.start_file(name, deflated(mode)).unwrap();
        zip.write_all(content).unwrap();
    }

    #[test]
    fn files_and_folders_are_unpacked_with_their_modes() {
        let world = World::new(|zip| {
            zip.add_directory("conf/", deflated(0o755)).unwrap();
            add(zip, "install.sh", 0o755, b"echo hi\n");
            add(zip, "conf/deep/a.txt", 0o640, &vec![7; 100_000]);
            add(zip, "suid", 0o4755, b"");
            add(zip, "unreadable", 0o000, b"");
        });

        world.unpack().unwrap();

        let mode = |name: &str| {
            let path = world.target().join(name);
            fs::metadata(path).unwrap().permissions().mode() & 0o7777
        };
        assert_eq!(
            fs::read(world.target().join("install.sh")).unwrap(),
            b"echo hi\n"
        );
        assert_eq!(
            fs::read(world.target().join("conf/deep/a.txt"))
                .unwrap()
                .len(),
            100_000
        );
        for (name, expected) in [
            ("install.sh", 0o755),
            ("conf/deep/a.txt", 0o640),
            ("suid", 0o755),
            ("unreadable", 0o600),
            ("conf", 0o700),
            ("conf/deep", 0o700),
        ] {
            assert_eq!(mode(name), expected, "{name}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["../evil", "a/../../evil", "/etc/evil", "a/../b"] {
            // The writer would not write such a name.
            let harmless = "x".repeat(name.len());
            let world = World::new(|zip| add(zip, &harmless, 0o644, b"y"));
            let mut bytes = world.bytes();
            replace(&mut bytes, harmless.as_bytes(), name.as_bytes());

            let world = World::of_bytes(&bytes);
            let refused = world.unpack().unwrap_err();

            assert!(
                matches!(refused, UnpackError::LeadsElsewhere(_)),
                "{name}: {refused}"
            );
            assert!(!world.folder.path().join("a/evil").exists());
            assert!(!world.folder.path().join("evil").exists());
        }
    }

    #[test]
    fn links_are_refused() {
        let world = World::new(|zip| {
            zip.add_symlink("link", "/etc", SimpleFileOptions::default())
                .unwrap();
            add(zip, "link/passwd", 0o644, b"x");
        });

        let refused = world.unpack().unwrap_err();

        assert!(matches!(refused, UnpackError::NoFile(name) if name == "link"));
    }

    #[test]
    fn two_names_of_one_file_are_refused() {
        let world = World::new(|zip| {
            add(zip, "aaaa", 0o644, b"1");
            add(zip, "bbbbbb", 0o644, b"2");
        });
        let mut bytes = world.bytes();
        replace(&mut bytes, b"bbbbbb", b"./aaaa");

        assert!(World::of_bytes(&bytes).unpack().is_err());
    }

    #[test]
    fn archive_that_is_longer_than_it_says_is_refused() {
        let world = World::new(|zip| add(zip, "big", 0o644, &vec![0; 5_000_000]));
        let mut bytes = world.bytes();
        // Both headers.
        assert_eq!(
            replace(
                &mut bytes,
                &5_000_000_u32.to_le_bytes(),
                &10_u32.to_le_bytes()
            ),
            2
        );

        let refused = World::of_bytes(&bytes);
        let error = refused.unpack().unwrap_err();

        assert!(
            matches!(error, UnpackError::Longer(_) | UnpackError::Io(_)),
            "{error}"
        );
        let written = fs::metadata(refused.target().join("big")).map_or(0, |found| found.len());
        assert!(written <= 11, "{written}");
    }

    #[test]
    fn bomb_is_refused_before_anything_is_written() {
        let world = World::new(|zip| {
            let large = deflated(0o644).large_file(true);
            zip.start_file("bomb", large).unwrap();
            let zeroes = vec![0; 1 << 20];
            for _ in 0..8 {
                zip.write_all(&zeroes).unwrap();
            }
        });
        let mut bytes = world.bytes();
        replace(
            &mut bytes,
            &(8_u64 << 20).to_le_bytes(),
            &(TOTAL + 1).to_le_bytes(),
        );
        replace(
            &mut bytes,
            &(8_u32 << 20).to_le_bytes(),
            &u32::MAX.to_le_bytes()[..],
        );

        let bomb = World::of_bytes(&bytes);
        let refused = bomb.unpack();

        assert!(refused.is_err());
        assert!(!bomb.target().join("bomb").exists());
    }

    #[test]
    fn what_is_no_archive_is_refused() {
        let whole = World::new(|zip| add(zip, "a", 0o644, &vec![7; 1000]));
        let bytes = whole.bytes();
        for broken in [&b""[..], b"not a zip", &bytes[..bytes.len() / 2]] {
            assert!(World::of_bytes(broken).unpack().is_err());
        }
        let mut damaged = File::options()
            .write(true)
            .open(whole.folder.path().join("zip"))
            .unwrap();
        damaged.seek(SeekFrom::Start(34)).unwrap();
        damaged.write_all(&[0xff; 4]).unwrap();
        assert!(whole.unpack().is_err());
    }

    /// Replaces all of one text by another of the same length; returns how many there were.
    fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) -> usize {
        let mut count = 0;
        for at in 0..=bytes.len() - from.len() {
            if &bytes[at..at + from.len()] == from {
                bytes[at..at + from.len()].copy_from_slice(to);
                count += 1;
            }
        }
        count
    }
}
