//! Commands that somebody on this host leaves for the agent (`ssm-cli send-offline-command`), in the
//! reference's folders:
//!
//! | file in `localcommands` | what |
//! |---|---|
//! | `<name>` | a document with all parameters filled in |
//! | `.<name>.<command>` | ours: it was given a command's id and is being taken |
//! | `submitted/<name>.<command>` | it was taken |
//! | `invalid/<name>.<command>` | it cannot be run |
//! | `completed/<command>` | its result (see [`super::replies`]) |
//!
//! A file is claimed by its new name before its command is taken, so that wherever the agent dies it is
//! taken once. Everything here blocks.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde_json::Value;
use uuid::Uuid;

use crate::protocol::wire::codec::Limit;
use crate::protocol::wire::job::CommandId;
use crate::runtime::atomic_file;

/// Longest document that is read, as long as one of a job.
const DOCUMENT_LIMIT: u64 = Limit::PAYLOAD as u64 / 2;
/// Longest name of a file, in bytes; those of the reference are UUIDs.
const NAME_LIMIT: usize = 128;
/// Others who may write here could run what they like as the agent.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The folders.
#[derive(Debug, Clone)]
pub(super) struct Local {
    folder: PathBuf,
}

/// A file that is being taken.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Claim {
    /// Its name before.
    pub(super) name: String,
    /// The command that it becomes.
    pub(super) command: CommandId,
    path: PathBuf,
}

impl Local {
    /// Makes the folders in `folder`.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        for name in ["submitted", "invalid", "completed"] {
            atomic_file::create_private_dir(&folder.join(name))?;
        }
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// Claims the next file, if there is one that is not `known`.
    ///
    /// # Errors
    /// Those of the file system; [`io::ErrorKind::PermissionDenied`] if others may write there.
    pub(super) fn claim(&self, known: &HashSet<CommandId>) -> io::Result<Option<Claim>> {
        check_owner(&fs::metadata(&self.folder)?, "the folder")?;
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                names.extend(entry.file_name().into_string());
            }
        }
        names.sort_unstable();
        for name in names {
            if let Some(claimed) = name.strip_prefix('.') {
                let claim = self.claimed(claimed);
                if let Some(claim) = claim.filter(|claim| !known.contains(&claim.command)) {
                    return Ok(Some(claim));
                }
            } else if name.len() <= NAME_LIMIT {
                return self.claim_new(name).map(Some);
            }
        }
        Ok(None)
    }

    /// A file that was claimed before.
    fn claimed(&self, rest: &str) -> Option<Claim> {
        let (name, command) = rest.rsplit_once('.')?;
        // Not so the name of a file that is being written.
        Uuid::parse_str(command).ok()?;
        Some(Claim {
            name: name.to_owned(),
            command: CommandId::new(command).ok()?,
            path: self.folder.join(format!(".{rest}")),
        })
    }

    fn claim_new(&self, name: String) -> io::Result<Claim> {
        let command = CommandId::new(Uuid::new_v4().to_string())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let path = self.folder.join(format!(".{name}.{command}"));
        fs::rename(self.folder.join(&name), &path)?;
        Ok(Claim {
            name,
            command,
            path,
        })
    }

    /// Notes that a command was taken.
    pub(super) fn submitted(&self, claim: &Claim) -> io::Result<()> {
        self.put(claim, "submitted")
    }

    /// Notes that a command cannot be run.
    pub(super) fn invalid(&self, claim: &Claim) -> io::Result<()> {
        self.put(claim, "invalid")
    }

    fn put(&self, claim: &Claim, folder: &str) -> io::Result<()> {
        let name = format!("{}.{}", claim.name, claim.command);
        fs::rename(&claim.path, self.folder.join(folder).join(name))
    }
}

impl Claim {
    /// The document.
    ///
    /// # Errors
    /// What is wrong with it: it is no JSON, too long, no file, or others may write it.
    pub(super) fn read(&self) -> io::Result<Value> {
        let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits())
            .open(&self.path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
        }
        check_owner(&metadata, "it")?;
        let mut text = Vec::new();
        file.take(DOCUMENT_LIMIT + 1).read_to_end(&mut text)?;
        if text.len() as u64 > DOCUMENT_LIMIT {
            let text = format!("it is longer than {DOCUMENT_LIMIT} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        Ok(serde_json::from_slice(&text)?)
    }
}

/// What is run as the agent must be written by the agent's user or by root.
fn check_owner(metadata: &fs::Metadata, what: &str) -> io::Result<()> {
    let is_ours = metadata.uid() == nix::unistd::geteuid().as_raw() || metadata.uid() == 0;
    if is_ours && metadata.mode() & WRITABLE_BY_OTHERS == 0 {
        return Ok(());
    }
    let text = format!("{what} may be written by others than this user and root");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn file_goes_from_one_folder_to_the_next() {
        let (folder, local) = local();
        write(folder.path(), "one", "{\"a\":1}");

        let claim = local.claim(&HashSet::new()).unwrap().unwrap();
        assert_eq!(claim.name, "one");
        assert_eq!(claim.read().unwrap(), serde_json::json!({"a": 1}));
        local.submitted(&claim).unwrap();

        assert!(local.claim(&HashSet::new()).unwrap().is_none());
        let submitted = format!("submitted/one.{}", claim.command);
        assert!(folder.path().join(submitted).exists());
    }

    #[test]
    fn file_that_was_claimed_keeps_its_command() {
        let (folder, local) = local();
        write(folder.path(), "one", "{}");
        let claim = local.claim(&HashSet::new()).unwrap().unwrap();

        let again = local.claim(&HashSet::new()).unwrap();
        let known = local
            .claim(&HashSet::from([claim.command.clone()]))
            .unwrap();

        assert_eq!(again, Some(claim));
        assert_eq!(known, None);
    }

    #[test]
    fn what_others_may_have_written_is_not_read() {
        let (folder, local) = local();
        let secret = folder.path().join("submitted/secret");
        fs::write(&secret, "{}").unwrap();
        symlink(&secret, folder.path().join("a-link")).unwrap();
        write(folder.path(), "b-open", "{}");
        fs::set_permissions(
            folder.path().join("b-open"),
            fs::Permissions::from_mode(0o622),
        )
        .unwrap();
        write(folder.path(), "c-text", "no JSON");
        let long = vec![b' '; usize::try_from(DOCUMENT_LIMIT).unwrap() + 1];
        write(folder.path(), "d-long", &String::from_utf8(long).unwrap());

        for name in ["a-link", "b-open", "c-text", "d-long"] {
            let claim = local.claim(&HashSet::new()).unwrap().unwrap();
            assert_eq!(claim.name, name);
            assert!(claim.read().is_err(), "{name}");
            local.invalid(&claim).unwrap();
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let refused = local.claim(&HashSet::new()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    }

    fn local() -> (tempfile::TempDir, Local) {
        let folder = tempfile::tempdir().unwrap();
        let local = Local::open(folder.path()).unwrap();
        (folder, local)
    }

    fn write(folder: &Path, name: &str, text: &str) {
        atomic_file::write(&folder.join(name), text.as_bytes(), 0o600).unwrap();
    }
}
