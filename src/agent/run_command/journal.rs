//! The commands on disk, in the reference's places:
//!
//! | folder below the node's | what |
//! |---|---|
//! | `document/state/pending/<command>` | accepted, waits for its turn |
//! | `document/state/current/<command>` | runs |
//! | `document/state/corrupt/<command>` | given up |
//! | `idempotency/<type of document>/<command>/` | was accepted in the last 30 minutes |
//! | `document/orchestration/<command>/` | scripts and output |
//!
//! Everything here blocks.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tracing::{info, warn};

use super::settings::Settings;
use super::state::{DocumentState, SEND_COMMAND, SEND_COMMAND_OFFLINE};
use crate::protocol::wire::job::CommandId;
use crate::runtime::atomic_file::{self, write, write_new};

/// How long it is remembered that a command was accepted, as in the reference.
const REMEMBERED: Duration = Duration::from_secs(30 * 60);
/// Longest state file that is read: the largest command with the largest results.
const STATE_LIMIT: u64 = 16 << 20;
/// The types of documents that are run here.
const TYPES: [&str; 2] = [SEND_COMMAND, SEND_COMMAND_OFFLINE];
/// Mode of state files: they hold parameters.
const FILE_MODE: u32 = 0o600;

/// The commands on disk.
#[derive(Debug, Clone)]
pub(super) struct Journal {
    pending: PathBuf,
    current: PathBuf,
    corrupt: PathBuf,
    /// Of commands of the service, and of this host.
    accepted: [PathBuf; 2],
    local: PathBuf,
    orchestration: PathBuf,
    retention: Duration,
}

/// What an earlier run of an agent left.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// What it had begun.
    pub(super) current: Vec<DocumentState>,
    /// What it had accepted, in that order.
    pub(super) pending: Vec<DocumentState>,
}

impl Journal {
    /// Makes the folders.
    pub(super) fn open(settings: &Settings) -> io::Result<Self> {
        let state = settings.directory.join("document/state");
        let journal = Self {
            pending: state.join("pending"),
            current: state.join("current"),
            corrupt: state.join("corrupt"),
            accepted: TYPES.map(|kind| settings.directory.join("idempotency").join(kind)),
            local: settings.local.clone(),
            orchestration: settings.orchestration(),
            retention: settings.retention,
        };
        for folder in [
            &journal.pending,
            &journal.current,
            &journal.corrupt,
            &journal.accepted[0],
            &journal.accepted[1],
            &journal.orchestration,
        ] {
            atomic_file::create_private_dir(folder)?;
        }
        Ok(journal)
    }

    /// Whether this command was accepted before.
    pub(super) fn knows(&self, command: &CommandId) -> bool {
        let [sent, local] = &self.accepted;
        [sent, local, &self.current, &self.pending]
            .iter()
            .any(|folder| folder.join(command.as_str()).exists())
    }

    /// Keeps a new command. Whatever happens from now on, it is run.
    pub(super) fn accept(&self, command: &CommandId, state: &DocumentState) -> io::Result<()> {
        put(write_new, &self.pending.join(command.as_str()), state)?;
        self.remember(command, &state.document_type);
        Ok(())
    }

    /// Keeps a new command that begins at once.
    pub(super) fn accept_begun(
        &self,
        command: &CommandId,
        state: &DocumentState,
    ) -> io::Result<()> {
        put(write_new, &self.current.join(command.as_str()), state)?;
        self.remember(command, &state.document_type);
        Ok(())
    }

    /// Notes that a command was taken, or refused for good. It is of use only while its state is gone.
    pub(super) fn remember(&self, command: &CommandId, kind: &str) {
        let [sent, local] = &self.accepted;
        let folder = if kind == SEND_COMMAND_OFFLINE {
            local
        } else {
            sent
        };
        let made = atomic_file::create_private_dir(&folder.join(command.as_str()));
        if let Err(error) = made {
            warn!(%command, %error, "cannot note that a command was accepted");
        }
    }

    /// Notes how far a command is that runs.
    pub(super) fn save(&self, command: &CommandId, state: &DocumentState) -> io::Result<()> {
        let path = self.current.join(command.as_str());
        let is_new = !path.exists();
        put(if is_new { write_new } else { write }, &path, state)?;
        remove(&self.pending.join(command.as_str()))
    }

    /// Forgets a command whose result is on disk.
    pub(super) fn finish(&self, command: &CommandId) -> io::Result<()> {
        remove(&self.pending.join(command.as_str()))?;
        remove(&self.current.join(command.as_str()))
    }

    /// Everything that is not finished. What cannot be read is put aside.
    pub(super) fn load(&self) -> io::Result<Left> {
        let current = self.load_from(&self.current)?;
        let mut pending = self.load_from(&self.pending)?;
        // The agent died between the two steps of a beginning.
        let is_begun = |state: &DocumentState| {
            let id = &state.document_information.document_id;
            current
                .iter()
                .any(|begun| &begun.document_information.document_id == id)
        };
        pending.retain(|state| !is_begun(state));
        pending.sort_by(|a, b| {
            a.document_information
                .run_id
                .cmp(&b.document_information.run_id)
        });
        Ok(Left { current, pending })
    }

    fn load_from(&self, folder: &Path) -> io::Result<Vec<DocumentState>> {
        let mut states = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            let name = entry.file_name();
            // The rest of a write that was cut off.
            let Some(command) = name.to_str().and_then(|name| CommandId::new(name).ok()) else {
                continue;
            };
            match read(&path) {
                Ok(state) if TYPES.contains(&state.document_type.as_str()) => {
                    self.remember(&command, &state.document_type);
                    states.push(state);
                }
                Ok(state) => {
                    let kind = state.document_type;
                    info!(%command, kind, "a document of another kind is left where it is");
                }
                // A power cut before it had begun left this half of a beginning.
                Err(_) if folder == self.current && self.pending.join(&name).exists() => {
                    fs::remove_file(&path)?;
                }
                Err(error) => {
                    warn!(%command, %error, "the state of a command cannot be read, it is put aside");
                    self.give_up(&command)?;
                }
            }
        }
        Ok(states)
    }

    /// Puts a command aside.
    pub(super) fn give_up(&self, command: &CommandId) -> io::Result<()> {
        let aside = self.corrupt.join(command.as_str());
        for folder in [&self.current, &self.pending] {
            match fs::rename(folder.join(command.as_str()), &aside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Deletes what is old: notes of accepted commands, folders of output, what was put aside.
    pub(super) fn sweep(&self) {
        for folder in &self.accepted {
            delete_older(folder, REMEMBERED);
        }
        for folder in ["submitted", "completed", "invalid"] {
            delete_older(&self.local.join(folder), self.retention);
        }
        delete_older(&self.orchestration, self.retention);
        delete_older(&self.corrupt, self.retention);
    }
}

/// Deletes the entries of `folder` that were not touched for `age`.
fn delete_older(folder: &Path, age: Duration) {
    let now = SystemTime::now();
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let is_old = modified.is_ok_and(|at| now.duration_since(at).is_ok_and(|past| past > age));
        if !is_old {
            continue;
        }
        let path = entry.path();
        // A link is not followed.
        let removed = match entry.file_type() {
            Ok(kind) if kind.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            warn!(path = %path.display(), %error, "cannot delete what a command left");
        }
    }
}

fn read(path: &Path) -> io::Result<DocumentState> {
    let bytes = fs::metadata(path)?.len();
    if bytes > STATE_LIMIT {
        let text = format!("{bytes} bytes are above the limit of {STATE_LIMIT}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    serde_json::from_slice(&fs::read(path)?).map_err(io::Error::from)
}

/// How a state goes to disk.
type Write = fn(&Path, &[u8], u32) -> io::Result<()>;

fn put(write: Write, path: &Path, state: &DocumentState) -> io::Result<()> {
    write(path, &serde_json::to_vec_pretty(state)?, FILE_MODE)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_goes_from_one_folder_to_the_next() {
        let (folder, journal) = journal();
        let (command, state) = document("c-1", "1");

        assert!(!journal.knows(&command));
        journal.accept(&command, &state).unwrap();
        assert!(journal.knows(&command));
        assert_eq!(
            journal.load().unwrap().pending,
            std::slice::from_ref(&state)
        );
        journal.save(&command, &state).unwrap();
        let left = journal.load().unwrap();
        assert_eq!((left.current.len(), left.pending.len()), (1, 0));
        journal.finish(&command).unwrap();

        let left = journal.load().unwrap();
        assert_eq!((left.current.len(), left.pending.len()), (0, 0));
        // It was accepted a moment ago, so that it is known.
        assert!(journal.knows(&command));
        drop(folder);
    }

    #[test]
    fn commands_wait_in_the_order_they_came() {
        let (_folder, journal) = journal();
        for (name, at) in [("c-b", "1"), ("c-a", "2"), ("c-c", "0")] {
            let (command, state) = document(name, at);
            journal.accept(&command, &state).unwrap();
        }

        let pending = journal.load().unwrap().pending;

        let names = pending
            .iter()
            .map(|state| &state.document_information.document_id);
        assert_eq!(names.collect::<Vec<_>>(), ["c-c", "c-b", "c-a"]);
    }

    #[test]
    fn command_in_both_folders_has_begun() {
        let (folder, journal) = journal();
        let (command, state) = document("c-1", "1");
        journal.accept(&command, &state).unwrap();
        let pending = folder.path().join("mi-1/document/state/pending/c-1");
        let current = folder.path().join("mi-1/document/state/current/c-1");
        fs::copy(pending, current).unwrap();

        let left = journal.load().unwrap();

        assert_eq!((left.current.len(), left.pending.len()), (1, 0));
    }

    #[test]
    fn command_whose_beginning_was_cut_off_has_not_begun() {
        let (folder, journal) = journal();
        let (command, state) = document("c-1", "1");
        journal.accept(&command, &state).unwrap();
        let current = folder.path().join("mi-1/document/state/current/c-1");
        fs::write(&current, "").unwrap();

        let left = journal.load().unwrap();

        assert_eq!((left.current.len(), left.pending.len()), (0, 1));
        assert!(!current.exists());
    }

    #[test]
    fn what_cannot_be_read_is_put_aside_and_what_is_not_ours_left() {
        let (folder, journal) = journal();
        let current = folder.path().join("mi-1/document/state/current");
        fs::write(current.join("broken"), "{").unwrap();
        fs::write(current.join(".half.tmp"), "{").unwrap();
        let mut session = document("s-1", "1").1;
        session.document_type = "StartSession".into();
        fs::write(current.join("s-1"), serde_json::to_vec(&session).unwrap()).unwrap();

        let left = journal.load().unwrap();

        assert!(left.current.is_empty());
        assert!(!current.join("broken").exists());
        assert!(
            folder
                .path()
                .join("mi-1/document/state/corrupt/broken")
                .exists()
        );
        assert!(current.join("s-1").exists());
    }

    #[test]
    fn old_entries_are_deleted_and_links_not_followed() {
        let (folder, journal) = journal();
        let orchestration = folder.path().join("mi-1/document/orchestration");
        let outside = folder.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), "x").unwrap();
        fs::create_dir_all(orchestration.join("old/step")).unwrap();
        std::os::unix::fs::symlink(&outside, orchestration.join("link")).unwrap();
        fs::create_dir(orchestration.join("new")).unwrap();
        let long_ago = SystemTime::now() - Duration::from_hours(400);
        let old = fs::File::open(orchestration.join("old")).unwrap();
        old.set_modified(long_ago).unwrap();

        journal.sweep();

        assert!(!orchestration.join("old").exists());
        assert!(orchestration.join("new").exists());
        assert!(outside.join("precious").exists());
    }

    fn journal() -> (tempfile::TempDir, Journal) {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::new(folder.path().join("mi-1"), "mi-1");
        let journal = Journal::open(&settings).unwrap();
        (folder, journal)
    }

    fn document(name: &str, run_id: &str) -> (CommandId, DocumentState) {
        let mut state = DocumentState {
            document_type: SEND_COMMAND.into(),
            ..DocumentState::default()
        };
        state.document_information.document_id = name.into();
        state.document_information.run_id = run_id.into();
        (CommandId::new(name).unwrap(), state)
    }
}
