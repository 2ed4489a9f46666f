//! `send-offline-command` and `get-offline-command-invocation`: commands that the agent of this host runs
//! without the service, by way of files in the reference's folders.
//!
//! Texts are the reference's. It waits for the agent to look; ours is told to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use http::Method;
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use super::diagnostics::Subject;
use super::probe::exchange;
use super::{agent, instance};
use crate::agent::Places;
use crate::protocol::wire::codec::Limit;
use crate::runtime::atomic_file;

/// Folder of the files in the state folder.
const FOLDER: &str = "localcommands";
/// How often it is looked whether the agent has taken a file, and how long it is waited in between: five
/// seconds in all, as in the reference.
const LOOKS: u32 = 100;
const LOOK: Duration = Duration::from_millis(50);
/// Length of a UUID as text.
const ID_LENGTH: usize = 36;

/// Hands a document to the agent; returns what is said of it.
///
/// # Errors
/// If there is no document, or it cannot be left for the agent.
pub(super) async fn send(places: &Places, content: Option<String>) -> anyhow::Result<String> {
    let content = content.ok_or_else(|| anyhow!("--content is required"))?;
    let document = load(places, &content).await?;
    check(&document)?;
    let folder = places.state.join(FOLDER);
    atomic_file::create_private_dir(&folder).context("failed to submit command")?;
    let name = Uuid::new_v4().to_string();
    let path = folder.join(&name);
    let text = serde_json::to_vec(&document)?;
    atomic_file::write(&path, &text, 0o600).context("failed to submit command")?;
    // An agent of the reference looks by itself, and one that starts later looks then.
    let _ = agent::take_local_commands(&places.socket()).await;
    for _ in 0..LOOKS {
        if let Some(said) = outcome(&folder, &name) {
            return Ok(said);
        }
        tokio::time::sleep(LOOK).await;
    }
    // So that nobody runs it later, without anybody knowing.
    let _ = std::fs::remove_file(&path);
    let said = outcome(&folder, &name);
    Ok(said.unwrap_or_else(|| "failed to submit document: timed out".to_owned()))
}

/// What became of the file `name`, if the agent has dealt with it.
fn outcome(folder: &Path, name: &str) -> Option<String> {
    if let Some(command) = suffix(&folder.join("submitted"), name) {
        return Some(format!("successfully submitted with command id: {command}"));
    }
    let is_invalid = suffix(&folder.join("invalid"), name).is_some();
    is_invalid.then(|| "failed to submit document: document was invalid".to_owned())
}

/// What follows `name` and a dot in the name of a file.
fn suffix(folder: &Path, name: &str) -> Option<String> {
    let entries = std::fs::read_dir(folder).ok()?;
    let mut names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.find_map(|file| Some(file.strip_prefix(name)?.strip_prefix('.')?.to_owned()))
}

/// The document in JSON, or where a URL leads.
async fn load(places: &Places, content: &str) -> anyhow::Result<Value> {
    if let Ok(document @ Value::Object(_)) = serde_json::from_str(content) {
        return Ok(document);
    }
    let is_file = content
        .get(..7)
        .is_some_and(|start| start.eq_ignore_ascii_case("file://"));
    let text = if is_file || content.starts_with('/') {
        let path = PathBuf::from(if is_file { &content[7..] } else { content });
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?
    } else {
        let url = Url::parse(content).ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let Some(url) = url else {
            bail!("--content value must be valid json or a URL");
        };
        download(places, &url).await?
    };
    serde_json::from_slice(&text).with_context(|| format!("{content} is no JSON"))
}

/// Through the agent's proxies and TLS.
async fn download(places: &Places, url: &Url) -> anyhow::Result<Vec<u8>> {
    let subject = Subject::gather(places.clone()).await;
    let tls = subject.tls.map_err(|missing| anyhow!("{}", missing.note))?;
    let limit = Limit::PAYLOAD;
    let answer = exchange(Method::GET, url, &[], &tls, &subject.proxies, limit).await;
    let answer = answer.with_context(|| format!("cannot download {url}"))?;
    match (answer.status, answer.body.is_empty()) {
        (200..=299, false) => Ok(answer.body.into_bytes()),
        (200..=299, true) => bail!("{url} is empty, or longer than {limit} bytes"),
        (status, _) => bail!("cannot download {url}: HTTP status {status}"),
    }
}

/// What the reference checks of a document before it leaves it for the agent.
fn check(document: &Value) -> anyhow::Result<()> {
    let is_filled = |name: &str| match member(document, name) {
        Some(Value::Object(members)) => !members.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        _ => false,
    };
    let version = member(document, "schemaVersion");
    let version = version.and_then(Value::as_str).unwrap_or_default();
    match version {
        "1.2" if !is_filled("runtimeConfig") => bail!("runtimeConfig cannot be empty"),
        "2.0" | "2.0.1" | "2.0.2" | "2.0.3" | "2.2" if !is_filled("mainSteps") => {
            bail!("mainSteps cannot be empty")
        }
        "1.2" | "2.0" | "2.0.1" | "2.0.2" | "2.0.3" | "2.2" => Ok(()),
        other => bail!("unsupported schema version {other}"),
    }
}

/// As in the reference, whatever the case of its name.
fn member<'a>(document: &'a Value, name: &str) -> Option<&'a Value> {
    let members = document.as_object()?;
    let mut members = members.iter();
    members
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

/// How a command stands, and its result if that is asked for and there is one.
///
/// # Errors
/// If the id is none, or nothing is known of it.
pub(super) async fn invocation(
    places: &Places,
    command: Option<String>,
    details: bool,
) -> anyhow::Result<String> {
    let command = command.ok_or_else(|| anyhow!("--command-id is required"))?;
    if command.len() != ID_LENGTH {
        let length = command.len();
        bail!(
            "Invalid length for parameter --command-id.  Length was {length} should be {ID_LENGTH}"
        );
    }
    let unknown = || anyhow!("No status found for command ID {command}");
    Uuid::parse_str(&command).map_err(|_| unknown())?;
    let completed = places.state.join(FOLDER).join("completed").join(&command);
    if completed.exists() {
        let result = details.then(|| std::fs::read_to_string(&completed));
        return Ok(match result.transpose()? {
            Some(result) => format!("Complete\n{result}"),
            None => "Complete".to_owned(),
        });
    }
    let node = instance::find(places).await?.instance_id;
    let states = places.state.join(node).join("document/state");
    let found = [
        ("pending", "Pending"),
        ("current", "In Progress"),
        ("corrupt", "Corrupt"),
    ];
    let mut found = found.into_iter();
    let found = found.find(|(folder, _)| states.join(folder).join(&command).exists());
    found
        .map(|(_, status)| status.to_owned())
        .ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_are_checked_as_the_reference_does() {
        for (document, complaint) in [
            (json!({}), "unsupported schema version "),
            (
                json!({"schemaVersion": "3.0"}),
                "unsupported schema version 3.0",
            ),
            (
                json!({"schemaVersion": "1.2"}),
                "runtimeConfig cannot be empty",
            ),
            (
                json!({"schemaVersion": "1.2", "runtimeConfig": {}}),
                "runtimeConfig cannot be empty",
            ),
            (
                json!({"schemaVersion": "2.2", "mainSteps": []}),
                "mainSteps cannot be empty",
            ),
        ] {
            assert_eq!(check(&document).unwrap_err().to_string(), complaint);
        }
        for fine in [
            json!({"schemaVersion": "1.2", "runtimeConfig": {"a": {}}}),
            json!({"SchemaVersion": "2.2", "MainSteps": [{}]}),
        ] {
            check(&fine).unwrap();
        }
    }

    #[tokio::test]
    async fn content_is_json_or_leads_to_some() {
        let (folder, places) = places();
        let file = folder.path().join("document");
        std::fs::write(&file, r#"{"a":1}"#).unwrap();

        for content in [
            r#"{"a":1}"#.to_owned(),
            format!("file://{}", file.display()),
            format!("FILE://{}", file.display()),
        ] {
            assert_eq!(load(&places, &content).await.unwrap(), json!({"a": 1}));
        }
        for (content, complaint) in [
            ("{", "--content value must be valid json or a URL"),
            ("[]", "--content value must be valid json or a URL"),
            (
                "ftp://host/x",
                "--content value must be valid json or a URL",
            ),
            ("file:///no/such", "cannot read /no/such"),
        ] {
            let refused = load(&places, content).await.unwrap_err();
            assert_eq!(refused.to_string(), complaint);
        }
    }

    #[tokio::test]
    async fn status_is_read_from_the_folder_that_the_command_is_in() {
        let (folder, places) = places();
        let id = "01234567-890a-bcde-f012-34567890abcd";
        let of = async |details| invocation(&places, Some(id.to_owned()), details).await;
        let states = folder.path().join("mi-0123456789abcdef0/document/state");
        std::fs::write(
            folder.path().join("config"),
            r#"{"Identity":{"ConsumptionOrder":["CustomIdentity"],
               "CustomIdentities":[{"InstanceID":"mi-0123456789abcdef0","Region":"us-east-1"}]}}"#,
        )
        .unwrap();

        let unknown = of(false).await.unwrap_err();
        assert_eq!(
            unknown.to_string(),
            format!("No status found for command ID {id}")
        );
        for (name, status) in [
            ("corrupt", "Corrupt"),
            ("current", "In Progress"),
            ("pending", "Pending"),
        ] {
            std::fs::create_dir_all(states.join(name)).unwrap();
            std::fs::write(states.join(name).join(id), "").unwrap();
            assert_eq!(of(true).await.unwrap(), status);
        }
        let completed = folder.path().join("localcommands/completed");
        std::fs::create_dir_all(&completed).unwrap();
        std::fs::write(completed.join(id), "{}").unwrap();
        assert_eq!(of(false).await.unwrap(), "Complete");
        assert_eq!(of(true).await.unwrap(), "Complete\n{}");

        let short = invocation(&places, Some("x".into()), false).await;
        assert_eq!(
            short.unwrap_err().to_string(),
            "Invalid length for parameter --command-id.  Length was 1 should be 36"
        );
    }

    fn places() -> (tempfile::TempDir, Places) {
        let folder = tempfile::tempdir().unwrap();
        let places = Places {
            config: folder.path().join("config"),
            state: folder.path().to_owned(),
            logs: folder.path().join("log"),
            runtime: None,
        };
        std::fs::write(&places.config, "{}").unwrap();
        (folder, places)
    }
}
