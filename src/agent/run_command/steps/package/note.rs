//! What outlives the agent of a step that works on a package: which script runs, or how all ended.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Work;
use super::flow::{End, Phase, Plan};
use super::service::Kind;
use super::trace::{Lengths, Section, Trace};
use crate::runtime::atomic_file;

/// The file in the step's folder.
const NAME: &str = "package.json";
/// Longest that is read: it has the step's inputs, which come in a message.
const LIMIT: u64 = 4 << 20;

/// A note.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Note {
    /// The inputs of the step: a folder may have had another one before.
    properties: Value,
    /// The script that runs.
    pub(super) phase: Option<Phase>,
    pub(super) plan: Option<Plan>,
    pub(super) kind: Kind,
    pub(super) version: String,
    pub(super) previous: String,
    /// What had been told then.
    pub(super) lengths: Lengths,
    pub(super) sections: Vec<Section>,
    /// How all ended.
    pub(super) over: Option<End>,
}

impl Note {
    /// The note that the script of `phase` runs.
    pub(super) fn of(properties: &Value, work: &Work, phase: Phase, trace: &Trace) -> Self {
        Self {
            properties: properties.clone(),
            phase: Some(phase),
            plan: Some(work.plan.clone()),
            kind: work.kind,
            version: work.version.clone(),
            previous: work.previous.clone(),
            lengths: trace.lengths(),
            sections: trace.sections.clone(),
            over: None,
        }
    }

    /// The note that it is over.
    pub(super) fn over(properties: &Value, end: End) -> Self {
        Self {
            properties: properties.clone(),
            phase: None,
            plan: None,
            kind: Kind::Document,
            version: String::new(),
            previous: String::new(),
            lengths: Lengths::default(),
            sections: Vec::new(),
            over: Some(end),
        }
    }

    /// The note in `folder` that is about a step with these inputs.
    pub(super) fn load(folder: &Path, properties: &Value) -> Option<Self> {
        let mut text = Vec::new();
        let file = File::open(path(folder)).ok()?;
        file.take(LIMIT).read_to_end(&mut text).ok()?;
        let note: Self = serde_json::from_slice(&text).ok()?;
        (note.properties == *properties).then_some(note)
    }

    /// Writes it down for good.
    pub(super) fn save(&self, folder: &Path) -> io::Result<()> {
        atomic_file::create_private_dir(folder)?;
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        atomic_file::write(&path(folder), &text, 0o600)
    }

    /// Deletes one that a step before this one left.
    pub(super) fn forget(folder: &Path) -> io::Result<()> {
        match fs::remove_file(path(folder)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn note_is_found_by_the_step_that_it_is_about() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, other) = (json!({"name": "a"}), json!({"name": "b"}));
        let note = Note::over(&ours, End::Failed);

        note.save(folder.path()).unwrap();

        assert_eq!(Note::load(folder.path(), &ours), Some(note));
        assert_eq!(Note::load(folder.path(), &other), None);
        Note::forget(folder.path()).unwrap();
        Note::forget(folder.path()).unwrap();
        assert_eq!(Note::load(folder.path(), &ours), None);
    }
}
