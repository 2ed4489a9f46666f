//! What is on disk of a document that a step runs.

use std::fs;
use std::io;
use std::path::PathBuf;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use super::super::super::runner::blocking;
use super::super::super::state::StepState;
use super::super::Task;
use crate::runtime::atomic_file;

/// Longest file that is read, as for the state of a command.
const LIMIT: u64 = 16 << 20;
/// It holds parameters.
const FILE_MODE: u32 = 0o600;

/// A document's steps and how far it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Progress {
    /// The boot of the host in which its present step began.
    #[serde(rename = "BootID")]
    pub(super) boot_id: String,
    /// Its steps, with their parameters.
    pub(super) steps: Vec<StepState>,
    #[serde(skip)]
    path: PathBuf,
}

impl Progress {
    /// A document that has not begun.
    pub(super) fn new(task: &Task<'_>, steps: Vec<StepState>) -> Self {
        Self {
            boot_id: task.boot_id.to_owned(),
            steps,
            path: path(task),
        }
    }

    /// How far the document is that an earlier run of the agent began, or this step before a reboot.
    /// The error is the text for the reply: nobody knows what of the document ran.
    pub(super) async fn load(task: &Task<'_>) -> Result<Option<Self>, String> {
        let path = path(task);
        let read = path.clone();
        let text = blocking(move || match fs::metadata(&read) {
            Ok(found) if found.len() > LIMIT => Err(io::ErrorKind::FileTooLarge.into()),
            Ok(_) => fs::read(&read).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        });
        let progress = match text.await {
            Ok(None) => return Ok(None),
            Ok(Some(text)) => serde_json::from_slice(&text).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let progress: Self = progress.map_err(|why| {
            let path = path.display();
            format!("how far the document is cannot be read from {path}: {why}")
        })?;
        Ok(Some(Self { path, ..progress }))
    }

    /// Notes it.
    pub(super) async fn save(&self) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        let path = self.path.clone();
        blocking(move || {
            if let Some(folder) = path.parent() {
                atomic_file::create_private_dir(folder)?;
            }
            atomic_file::write(&path, &text, FILE_MODE)
        })
        .await
    }
}

/// The file, one for each set of properties that a step may have.
fn path(task: &Task<'_>) -> PathBuf {
    let inputs = task.properties.to_string();
    let digest = digest::digest(&digest::SHA256, inputs.as_bytes());
    let digits = digest.as_ref().iter().take(8);
    let digits: String = digits.map(|byte| format!("{byte:02x}")).collect();
    task.step_folder().join(format!("document-{digits}.json"))
}
