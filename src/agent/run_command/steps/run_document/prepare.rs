//! From what names a document to its steps with their parameters.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::timeout;

use super::super::super::document::{Document, Step, is_folder_name};
use super::super::super::runner::blocking;
use super::super::super::state::{Configuration, StepState};
use super::super::super::validators;
use super::super::Task;
use super::super::ssm_document::{self, DocumentName};
use super::inputs::{Inputs, Place, parse_either, preparing};
use crate::agent::parameter_store::look_up;
use crate::runtime::atomic_file;
use crate::runtime::cause::in_one_line;

/// Longest document; Systems Manager takes 64 KiB.
const DOCUMENT: u64 = 1 << 20;
/// What looking up parameters may take, as for a command.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(30);

/// The steps of the document; the error is the text for the reply.
pub(super) async fn steps(task: &Task<'_>, inputs: &Inputs) -> Result<Vec<StepState>, String> {
    let path = match inputs.place {
        Place::SystemsManager => fetch(task, &inputs.path).await?,
        Place::Local => task.downloads().join(&inputs.path),
    };
    let read = blocking(move || read(&path)).await;
    let text = read.map_err(|error| preparing(&error.to_string()))?;
    resolve(task, &text, &inputs.parameters)
        .await
        .map_err(|why| preparing(&why))
}

/// Saves a document of Systems Manager where the reference does.
async fn fetch(task: &Task<'_>, named: &str) -> Result<PathBuf, String> {
    let client = task.services.client.as_ref();
    let client = client.ok_or("this agent has no way to Systems Manager")?;
    let name = DocumentName::parse(named);
    if !is_folder_name(name.base()) {
        return Err(format!("{named:?} is no name of a document"));
    }
    let folder = task.step_folder().join("downloads");
    let path = folder.join(format!("{}.json", name.base()));
    let content = ssm_document::get(client, &name).await;
    let content = content.map_err(|error| in_one_line(&error))?;
    let saved = path.clone();
    let saved = blocking(move || {
        atomic_file::create_private_dir(&folder)?;
        atomic_file::write_in_order(&saved, content.as_bytes(), 0o600)
    });
    saved
        .await
        .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(path)
}

fn read(path: &Path) -> io::Result<String> {
    let refused = |why: String| io::Error::other(format!("{}: {why}", path.display()));
    let found = std::fs::metadata(path).map_err(|error| refused(error.to_string()))?;
    // Whoever opens a pipe waits for its other end.
    if !found.is_file() {
        return Err(refused("it is no file".into()));
    }
    let mut bytes = Vec::new();
    let opened = File::open(path).map_err(|error| refused(error.to_string()))?;
    opened.take(DOCUMENT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > DOCUMENT {
        return Err(refused(format!("it is longer than {DOCUMENT} bytes")));
    }
    if bytes.is_empty() {
        return Err(refused("it is empty".into()));
    }
    String::from_utf8(bytes).map_err(|_| refused("it is no text".into()))
}

async fn resolve(
    task: &Task<'_>,
    text: &str,
    given: &Map<String, Value>,
) -> Result<Vec<StepState>, String> {
    let content = parse_either(text)?;
    let document = Document::read(&content).map_err(|refusal| refusal.to_string())?;
    let names = document.references(given);
    let store = task.services.parameters.as_deref();
    let stored = timeout(LOOKUP_PATIENCE, look_up(store, &names)).await;
    let stored = stored.unwrap_or_else(|_| {
        let (names, seconds) = (names.join(", "), LOOKUP_PATIENCE.as_secs());
        Err(format!(
            "Parameter Store did not answer for {names} within {seconds} s"
        ))
    })?;
    let checked = validators::check_inner(&document, given, &stored);
    checked.map_err(|invalid| invalid.to_string())?;
    let steps = document.resolve(given, &stored);
    let steps = steps.map_err(|refusal| refusal.to_string())?;
    let has_preconditions = document.has_preconditions();
    let steps = steps.into_iter();
    Ok(steps.map(|step| state(step, has_preconditions)).collect())
}

fn state(step: Step, has_preconditions: bool) -> StepState {
    StepState {
        configuration: Configuration {
            settings: step.settings,
            properties: step.properties,
            plugin_name: step.plugin.clone(),
            plugin_id: step.id.clone(),
            preconditions: step.preconditions,
            is_precondition_enabled: has_preconditions,
            ..Configuration::default()
        },
        name: step.plugin,
        id: step.id,
        ..StepState::default()
    }
}
