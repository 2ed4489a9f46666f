//! Writing files below one folder, whatever their names say and whoever else writes there.
//!
//! Every folder on the way is opened by its name within the one before, without following links, so
//! that nothing outside is reached. A file is written under another name first and gets its own when
//! it is whole: nobody runs half of it, and what a killed agent left is overwritten by the next one.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest;
use bytes::Bytes;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use tokio::io::AsyncWriteExt;

use super::super::super::runner::blocking;
use super::destination::{Place, segments};
use super::{BYTES, DownloadError, FILES};
use crate::aws::Download;
use crate::runtime::atomic_file;

/// Mode of downloaded files, as in the reference: whatever it is, it can be run.
const FILE_MODE: Mode = Mode::RWXU;
/// Longest piece that is written at once.
const PIECE: usize = 256 << 10;

/// A folder that is written to.
#[derive(Debug, Clone)]
pub(super) struct Folder(Arc<OwnedFd>);

/// What may still be written.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: u64,
    files: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            bytes: BYTES,
            files: FILES,
        }
    }
}

impl Budget {
    /// Takes one file of it.
    pub(super) fn take_file(&mut self) -> Result<(), DownloadError> {
        self.files = self.files.checked_sub(1).ok_or(DownloadError::TooMany)?;
        Ok(())
    }

    /// Takes some bytes of it.
    pub(super) fn take_bytes(&mut self, count: u64) -> Result<(), DownloadError> {
        self.bytes = self
            .bytes
            .checked_sub(count)
            .ok_or(DownloadError::TooLong)?;
        Ok(())
    }

    /// Says so if a file of this length has no room in it.
    fn expect(&self, length: Option<u64>) -> Result<(), DownloadError> {
        if length.is_some_and(|length| length > self.bytes) {
            return Err(DownloadError::TooLong);
        }
        Ok(())
    }
}

impl Folder {
    /// Opens a place, and makes what is missing of it.
    pub(super) async fn open(place: Place) -> Result<Self, DownloadError> {
        let shown = place.path().display().to_string();
        let opened = blocking(move || {
            atomic_file::create_private_dir(&place.base)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let mut folder = rustix::fs::open(&place.base, flags, Mode::empty())?;
            for name in &place.below {
                folder = enter(&folder, OsStr::new(name))?;
            }
            Ok(Self(Arc::new(folder)))
        });
        opened
            .await
            .map_err(|cause| DownloadError::Write { path: shown, cause })
    }

    /// The folder `name` within this one, made if it is missing.
    pub(super) fn enter(&self, name: &OsStr) -> io::Result<Self> {
        Ok(Self(Arc::new(enter(&self.0, name)?)))
    }

    /// Moves the file or link at `source` here, in the place of what has that name.
    pub(super) fn take_in(&self, source: &Path, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::renameat(
            rustix::fs::CWD,
            source,
            &self.0,
            name,
        )?)
    }

    /// Copies `source` here, in the place of what has that name.
    pub(super) fn copy(&self, source: &mut File, name: &OsStr) -> io::Result<()> {
        let temporary = temporary_name(name);
        let mut file = File::from(create(&self.0, &temporary)?);
        io::copy(source, &mut file)?;
        rustix::fs::fchmod(&file, FILE_MODE)?;
        Ok(rustix::fs::renameat(&self.0, temporary, &self.0, name)?)
    }

    /// Makes a link to `target` here, in the place of what has that name.
    pub(super) fn link(&self, target: &Path, name: &OsStr) -> io::Result<()> {
        let temporary = temporary_name(name);
        remove(&self.0, &temporary)?;
        rustix::fs::symlinkat(target, &self.0, &temporary)?;
        Ok(rustix::fs::renameat(&self.0, temporary, &self.0, name)?)
    }

    /// Writes what `download` brings to the file at `path`, which is taken from the budget.
    pub(super) async fn save(
        &self,
        path: &str,
        mut download: Download,
        budget: &mut Budget,
    ) -> Result<(), DownloadError> {
        budget.expect(download.length())?;
        let mut file = self.create(path, budget).await?;
        while let Some(bytes) = download.next().await? {
            file.write(&bytes, budget).await?;
        }
        file.finish().await
    }

    /// Writes `content` to the file at `path`, which is taken from the budget.
    pub(super) async fn write(
        &self,
        path: &str,
        content: Bytes,
        budget: &mut Budget,
    ) -> Result<(), DownloadError> {
        let mut file = self.create(path, budget).await?;
        file.write(&content, budget).await?;
        file.finish().await
    }

    async fn create(&self, path: &str, budget: &mut Budget) -> Result<NewFile, DownloadError> {
        budget.take_file()?;
        let names: Vec<String> = segments(path)?.into_iter().map(str::to_owned).collect();
        let folder = self.clone();
        let shown = path.to_owned();
        let created = blocking(move || {
            let Some((name, way)) = names.split_last() else {
                return Err(io::ErrorKind::InvalidFilename.into());
            };
            let mut folder = folder;
            for part in way {
                folder = folder.enter(OsStr::new(part))?;
            }
            let temporary = temporary_name(OsStr::new(name));
            let file = create(&folder.0, &temporary)?;
            Ok(NewFile {
                file: Some(File::from(file)),
                folder: folder.0,
                temporary: Some(temporary),
                name: name.clone(),
                path: shown,
            })
        });
        let path = path.to_owned();
        created
            .await
            .map_err(|cause| DownloadError::Write { path, cause })
    }
}

/// A file that is being written.
struct NewFile {
    file: Option<File>,
    folder: Arc<OwnedFd>,
    temporary: Option<String>,
    name: String,
    path: String,
}

impl NewFile {
    async fn write(&mut self, bytes: &Bytes, budget: &mut Budget) -> Result<(), DownloadError> {
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        budget.take_bytes(count)?;
        let Some(file) = self.file.take() else {
            return Ok(());
        };
        let mut file = tokio::fs::File::from_std(file);
        let mut written = Ok(());
        for piece in bytes.chunks(PIECE) {
            written = file.write_all(piece).await;
            if written.is_err() {
                break;
            }
        }
        let written = match written {
            Ok(()) => file.flush().await,
            failed => failed,
        };
        self.file = Some(file.into_std().await);
        written.map_err(|cause| self.failed(cause))
    }

    async fn finish(mut self) -> Result<(), DownloadError> {
        let (file, temporary) = (self.file.take(), self.temporary.take());
        let (folder, name) = (Arc::clone(&self.folder), self.name.clone());
        let finished = blocking(move || {
            let (Some(file), Some(temporary)) = (file, temporary) else {
                return Ok(());
            };
            rustix::fs::fchmod(&file, FILE_MODE)?;
            let renamed = rustix::fs::renameat(&folder, &temporary, &folder, &name);
            if renamed.is_err() {
                let _ = rustix::fs::unlinkat(&folder, &temporary, AtFlags::empty());
            }
            Ok(renamed?)
        });
        finished.await.map_err(|cause| self.failed(cause))
    }

    fn failed(&self, cause: io::Error) -> DownloadError {
        DownloadError::Write {
            path: self.path.clone(),
            cause,
        }
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            // What cannot be deleted is overwritten by the next attempt.
            let _ = rustix::fs::unlinkat(&self.folder, temporary, AtFlags::empty());
        }
    }
}

/// Makes a file that was not there, for its owner alone.
fn create(folder: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    remove(folder, name)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::openat(
        folder,
        name,
        flags,
        Mode::RUSR | Mode::WUSR,
    )?)
}

/// Removes what a killed agent left under a name.
fn remove(folder: &OwnedFd, name: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Opens the folder `name` within `folder`, made if it is missing; a link is none.
fn enter(folder: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    match rustix::fs::mkdirat(folder, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::empty()).map_err(|error| {
        let found = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
        match found.map(|found| FileType::from_raw_mode(found.st_mode)) {
            Ok(FileType::Symlink) => io::Error::other(format!(
                "{} is a symbolic link, which may lead out of the destination folder",
                name.display()
            )),
            _ => error.into(),
        }
    })
}

/// The same for a name each time.
fn temporary_name(name: &OsStr) -> String {
    let digest = digest::digest(&digest::SHA256, name.as_bytes());
    let digits = digest.as_ref().iter().take(8);
    let digits: String = digits.map(|byte| format!("{byte:02x}")).collect();
    format!(".ssm-agent-{digits}.part")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn place(base: &Path) -> Place {
        Place {
            base: base.to_owned(),
            below: vec!["in".into()],
        }
    }

    #[tokio::test]
    async fn files_get_their_folders_and_can_be_run_by_their_owner_alone() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(place(root.path())).await.unwrap();
        let budget = &mut Budget::default();

        folder
            .write("a//b/./c", Bytes::from_static(b"old"), budget)
            .await
            .unwrap();
        let made = folder.write("a/b/c", Bytes::from_static(b"new"), budget);
        made.await.unwrap();

        let path = root.path().join("in/a/b/c");
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o700, 0o700));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn links_and_ways_out_are_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("file"), "precious").unwrap();
        let folder = Folder::open(place(root.path())).await.unwrap();
        symlink(outside.path(), root.path().join("in/link")).unwrap();
        symlink(outside.path().join("file"), root.path().join("in/file")).unwrap();
        let budget = &mut Budget::default();

        for path in ["link/new", "../out", "a/../../out", "link/file"] {
            let refused = folder.write(path, Bytes::new(), budget).await.unwrap_err();
            let text = crate::runtime::cause::in_one_line(&refused);
            let expected = ["would leave the destination folder", "a symbolic link"];
            assert!(expected.iter().any(|part| text.contains(part)), "{text}");
        }
        // A link in the place of a file is replaced, not written through.
        let written = folder.write("file", Bytes::from_static(b"x"), budget);
        written.await.unwrap();

        assert_eq!(fs::read(outside.path().join("file")).unwrap(), b"precious");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn what_is_too_much_is_refused_and_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(place(root.path())).await.unwrap();
        let budget = &mut Budget { bytes: 5, files: 2 };

        let long = folder.write("long", Bytes::from_static(b"123456"), budget);
        assert!(matches!(long.await, Err(DownloadError::TooLong)));
        let fits = folder.write("fits", Bytes::from_static(b"12345"), budget);
        assert!(fits.await.is_ok());
        let third = folder.write("third", Bytes::new(), budget).await;
        assert!(matches!(third, Err(DownloadError::TooMany)));

        let left = fs::read_dir(root.path().join("in")).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["fits"]);
    }
}
