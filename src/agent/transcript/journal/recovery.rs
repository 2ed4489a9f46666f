//! Goes on with what an agent has left behind: one that crashed, or stopped before its uploads ended.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info, warn};

use super::super::entry::{End, Entry, Event};
use super::folder::{Folder, Manifest, Position};
use super::frame::{self, HEADER, Header};
use super::journal::{Place, Segment};
use super::store::Store;

/// Beginning of the name of a folder that was set aside. No session id begins with a dot.
const ASIDE: &str = ".broken-";

/// A journal that somebody has left.
pub struct Left {
    /// Whose record it is and where it goes.
    pub manifest: Manifest,
    /// How far each service has got.
    pub positions: Vec<Position>,
    pub(super) folder: Folder,
    pub(super) segments: VecDeque<Segment>,
}

/// Finds the journals that nobody works on, and gives each to the caller alone. Those that are too
/// old are deleted, those that cannot be read are set aside; both are warned of. Blocks the thread.
pub fn recover(store: &Arc<Store>) -> Vec<Left> {
    let root = store.directory();
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            warn!(directory = %root.display(), %error, "cannot look for records to upload");
            return Vec::new();
        }
    };
    let folders = entries.flatten().map(|entry| entry.path());
    let mut left: Vec<Left> = folders
        .filter(|path| fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir()))
        .filter_map(|path| take_over(&path, store.retention()))
        .collect();
    left.sort_by_key(|left| left.manifest.about.started);
    left
}

fn take_over(path: &Path, retention: Duration) -> Option<Left> {
    let folder = match Folder::lock(path.to_owned()) {
        Ok(folder) => folder,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            debug!(path = %path.display(), "somebody works on this journal");
            return None;
        }
        Err(error) => {
            warn!(path = %path.display(), %error, "cannot take over the journal of a session");
            return None;
        }
    };
    if is_old(path, retention) {
        let hours = retention.as_secs() / 3600;
        warn!(path = %path.display(), hours, "a record was not uploaded in time and is deleted");
        folder.delete();
        return None;
    }
    if is_aside(path) {
        return None;
    }
    match read(folder) {
        Ok(left) if !left.positions.iter().any(Position::is_followed) => {
            left.folder.delete();
            None
        }
        Ok(left) => {
            info!(session = %left.manifest.about.session_id, "the upload of a record goes on");
            Some(left)
        }
        Err(error) => {
            set_aside(path, &error);
            None
        }
    }
}

fn is_old(path: &Path, retention: Duration) -> bool {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > retention))
}

fn is_aside(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(ASIDE.as_bytes()))
}

fn set_aside(path: &Path, error: &io::Error) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!("{ASIDE}{name}"));
    warn!(path = %path.display(), aside = %aside.display(), %error, "the journal of a session is broken and is set aside");
    if let Err(error) = fs::rename(path, &aside) {
        warn!(path = %path.display(), %error, "cannot set the journal aside");
    }
}

fn read(folder: Folder) -> io::Result<Left> {
    let manifest = folder.manifest()?;
    let numbers = 0..manifest.targets.len();
    let positions = numbers.map(|number| folder.position(number));
    let positions: Vec<Position> = positions.collect::<io::Result<_>>()?;
    let followed = positions.iter().filter(|position| position.is_followed());
    let mut contents = Contents {
        confirmed: followed.map(|position| position.entry).min().unwrap_or(0),
        ..Contents::default()
    };
    for path in folder.segments()? {
        contents.add(&path)?;
    }
    let most = positions.iter().map(|position| position.entry).max();
    contents.close(most.unwrap_or_default());
    Ok(Left {
        manifest,
        positions,
        folder,
        segments: contents.segments,
    })
}

/// The entries that are there.
#[derive(Default)]
struct Contents {
    segments: VecDeque<Segment>,
    /// What every service that goes on has confirmed.
    confirmed: u64,
    /// Number of the next entry, and bytes of data before it.
    next: u64,
    data: u64,
    at: Duration,
    ended: bool,
}

impl Contents {
    /// Adds what is whole of a segment, and cuts off the rest.
    fn add(&mut self, path: &PathBuf) -> io::Result<()> {
        let length = fs::metadata(path)?.len();
        let mut file = BufReader::new(File::open(path)?);
        let mut header = [0; HEADER];
        if length < HEADER as u64 {
            return fs::remove_file(path);
        }
        file.read_exact(&mut header)?;
        let header = Header::decode(&header).ok_or_else(|| invalid(path))?;
        if header.first < self.next {
            return Err(invalid(path));
        }
        // In front of the first segment that is left, everything was confirmed, or nothing was.
        let is_behind_others = self.next > 0 || self.confirmed == 0;
        if header.first > self.next.max(self.confirmed) && is_behind_others {
            self.add_gap(header);
        }
        self.data = header.data;
        let (mut entries, mut whole) = (0, HEADER as u64);
        let before = self.data;
        while !self.ended
            && let Some((entry, size)) = frame::read(&mut file, length - whole)?
        {
            entries += 1;
            whole += size;
            self.data += entry.event.data_len() as u64;
            self.at = entry.at;
            self.ended = matches!(entry.event, Event::End(_));
        }
        if entries == 0 {
            return fs::remove_file(path);
        }
        if whole < length {
            OpenOptions::new().write(true).open(path)?.set_len(whole)?;
        }
        self.next = header.first + entries;
        self.segments.push_back(Segment {
            first: header.first,
            entries,
            bytes: whole,
            data: self.data - before,
            at: self.at,
            place: Place::File,
        });
        Ok(())
    }

    /// Entries in front of a segment were in memory only.
    fn add_gap(&mut self, header: Header) {
        let bytes = header.data.saturating_sub(self.data);
        self.push(header.first - 1, Event::Missing { bytes });
    }

    /// Adds the end where there is none. What comes from memory is not confirmed by anybody, so it
    /// comes after every position.
    fn close(&mut self, positions: u64) {
        if !self.ended {
            let end = Event::End(End {
                reason: "the agent stopped while the session ran".to_owned(),
                exit_code: None,
            });
            self.push(self.next.max(positions), end);
        }
    }

    fn push(&mut self, number: u64, event: Event) {
        let entry = Entry { at: self.at, event };
        self.next = number + 1;
        self.segments.push_back(Segment {
            first: number,
            entries: 1,
            bytes: super::reader::cost(&entry),
            data: 0,
            at: self.at,
            place: Place::Memory(vec![entry]),
        });
    }
}

fn invalid(path: &Path) -> io::Error {
    let text = format!("{} is no segment of a journal", path.display());
    io::Error::new(io::ErrorKind::InvalidData, text)
}
