//! Tells `who`, `w`, `last` and `lastlog` of somebody at a terminal, as every program that logs people in
//! does by itself: of PAM's usual modules at most one writes any of it.
//!
//! A host that does not keep one of these files does not get it. None of it is worth refusing a login.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::unistd::{Pid, Uid};

use crate::agent::host::sys;

/// One record for each user id, of the last login.
const LAST_LOG: &str = "/var/log/lastlog";
/// In a record of it: seconds, terminal, origin.
const TIME_SIZE: usize = 4;
const LINE_SIZE: usize = 32;
const ORIGIN_SIZE: usize = 256;
const RECORD_SIZE: usize = TIME_SIZE + LINE_SIZE + ORIGIN_SIZE;

/// Somebody at a terminal.
pub(super) struct Presence {
    line: String,
    origin: String,
    process: Pid,
}

impl Presence {
    /// Writes down that `user` is at `terminal` from now on, as long as this process lives. They come
    /// from the session of that id.
    pub(super) fn begin(
        terminal: &Path,
        user: &str,
        uid: Uid,
        session_id: Option<&str>,
    ) -> Option<Self> {
        let line = terminal.strip_prefix("/dev").ok()?.to_str()?;
        let presence = Self {
            line: line.to_owned(),
            origin: format!("ssm:{}", session_id.unwrap_or_default()),
            process: Pid::this(),
        };
        let now = since_epoch();
        presence.record(user, now);
        let record = last_login(now, &presence.line, &presence.origin);
        // Not there: nobody keeps it here.
        let _ = write_last_login(Path::new(LAST_LOG), uid, &record);
        Some(presence)
    }

    /// Writes down that they are gone.
    pub(super) fn end(self) {
        self.record("", since_epoch());
    }

    fn record(&self, user: &str, now: Duration) {
        let presence = sys::Presence {
            line: &self.line,
            user,
            origin: if user.is_empty() { "" } else { &self.origin },
            process: self.process,
        };
        sys::record_presence(&presence, now);
    }
}

fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

fn last_login(now: Duration, line: &str, origin: &str) -> [u8; RECORD_SIZE] {
    let mut record = [0; RECORD_SIZE];
    let (time, rest) = record.split_at_mut(TIME_SIZE);
    let (line_field, origin_field) = rest.split_at_mut(LINE_SIZE);
    let seconds = u32::try_from(now.as_secs()).unwrap_or_default();
    time.copy_from_slice(&seconds.to_ne_bytes());
    for (field, text) in [(line_field, line), (origin_field, origin)] {
        for (place, byte) in field.iter_mut().zip(text.bytes()) {
            *place = byte;
        }
    }
    record
}

fn write_last_login(file: &Path, uid: Uid, record: &[u8; RECORD_SIZE]) -> io::Result<()> {
    let size = u64::try_from(RECORD_SIZE).unwrap_or_default();
    let place = u64::from(uid.as_raw()) * size;
    OpenOptions::new()
        .write(true)
        .open(file)?
        .write_all_at(record, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_login_stands_at_the_place_of_the_user_id() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let record = last_login(Duration::from_secs(0x0102_0304), "pts/7", &"o".repeat(300));

        write_last_login(file.path(), Uid::from_raw(3), &record).unwrap();

        let written = std::fs::read(file.path()).unwrap();
        assert_eq!(written.len(), 4 * RECORD_SIZE);
        let own = &written[3 * RECORD_SIZE..];
        assert_eq!(own[..4], 0x0102_0304_u32.to_ne_bytes());
        assert_eq!(own[4..12], *b"pts/7\0\0\0");
        assert_eq!(own[36..], *"o".repeat(256).as_bytes());
    }

    #[test]
    fn file_that_is_not_kept_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lastlog");

        let result = write_last_login(&file, Uid::from_raw(0), &[0; RECORD_SIZE]);

        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!file.exists());
    }
}
