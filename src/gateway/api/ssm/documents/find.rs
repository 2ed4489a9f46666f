//! Finding one document by name and version.

use serde_json::{Value, json};

use super::super::super::ApiState;
use super::super::super::answer::ApiError;
use super::super::preferences;
use super::content::Format;
use super::get::selector;
use super::{COMMAND, SESSION, built_in, refusal};
use crate::gateway::store::documents::{Document, DocumentRefused, VersionSelector};
use crate::protocol::wire::session_document::SessionDocument;

/// Name of the document that holds the session preferences of the account and starts a shell. It is
/// also what StartSession means without a name. It is made by people; while there is none, sessions
/// have defaults.
pub(in crate::gateway::api::ssm) const PREFERENCES: &str = "SSM-SessionManagerRunShell";

/// A document to start a session with.
pub(in crate::gateway::api::ssm) struct SessionStart {
    /// Its name.
    pub(in crate::gateway::api::ssm) name: String,
    /// The document, with the preferences that apply.
    pub(in crate::gateway::api::ssm) document: SessionDocument,
    /// The preferences of the account.
    pub(in crate::gateway::api::ssm) account: Value,
}

/// The version of the document `name` that `selector` means; built-in ones have version 1 only.
///
/// # Errors
/// `InvalidDocument`, `InvalidDocumentVersion`.
pub(super) async fn find(
    state: &ApiState,
    name: &str,
    selector: VersionSelector,
) -> Result<Document, ApiError> {
    let name = bare(name);
    if let Some(document) = built_in::find(name) {
        return match selector {
            VersionSelector::Default | VersionSelector::Latest | VersionSelector::Number(1) => {
                Ok(document.clone())
            }
            VersionSelector::Number(_) | VersionSelector::Name(_) => {
                Err(refusal::unknown_version())
            }
        };
    }
    let found = state.store.document(name, selector).await?;
    found.map_err(|error| refusal::refused(error, name))
}

/// The document that StartSession names, or the account's preferences if it names none.
///
/// The default version counts. Of the preferences it is the newest, because AWS's procedure for
/// changing them is UpdateDocument alone.
///
/// # Errors
/// `InvalidDocument`.
pub(in crate::gateway::api::ssm) async fn session_document(
    state: &ApiState,
    name: Option<&str>,
) -> Result<SessionStart, ApiError> {
    let latest = VersionSelector::Latest;
    let account = match state.store.document(PREFERENCES, latest).await? {
        Ok(document) => parse(&document)?,
        Err(DocumentRefused::Unknown) => shell(),
        Err(error) => return Err(refusal::refused(error, PREFERENCES)),
    };
    let preferences = preferences::of_account(&account);
    let name = name.map_or(PREFERENCES, bare);
    let mut document = if name == PREFERENCES {
        account
    } else {
        parse(&find(state, name, VersionSelector::Default).await?)?
    };
    preferences::merge(&mut document, &preferences);
    Ok(SessionStart {
        name: name.to_owned(),
        document,
        account: preferences,
    })
}

/// A document that can be sent to nodes.
pub(in crate::gateway::api::ssm) struct CommandDocument {
    /// Its name without an ARN around it.
    pub(in crate::gateway::api::ssm) name: String,
    /// Its content as JSON.
    pub(in crate::gateway::api::ssm) content: Value,
    /// The platforms it is for.
    pub(in crate::gateway::api::ssm) platforms: Vec<String>,
    /// SHA-256 of its content as written, in hexadecimal digits.
    pub(in crate::gateway::api::ssm) hash: String,
}

/// Finds a document of type Command.
///
/// # Errors
/// `InvalidDocument`, `InvalidDocumentVersion`.
pub(in crate::gateway::api::ssm) async fn command_document(
    state: &ApiState,
    name: &str,
    version: Option<&str>,
) -> Result<CommandDocument, ApiError> {
    let document = find(state, name, selector(version, None)?).await?;
    if document.document_type != COMMAND {
        let (name, document_type) = (&document.name, &document.document_type);
        let text =
            format!("Document {name} is of type {document_type}, a command needs type {COMMAND}.");
        return Err(ApiError::new("InvalidDocument", text));
    }
    let version = document.version;
    Ok(CommandDocument {
        content: Format::parse(Some(&version.format))?.read(&version.content)?,
        name: document.name,
        platforms: version.platforms,
        hash: version.hash,
    })
}

fn parse(document: &Document) -> Result<SessionDocument, ApiError> {
    let name = &document.name;
    if document.document_type != SESSION {
        let document_type = &document.document_type;
        let text =
            format!("Document {name} is of type {document_type}, a session needs type {SESSION}.");
        return Err(ApiError::new("InvalidDocument", text));
    }
    let content = Format::parse(Some(&document.version.format))?.read(&document.version.content)?;
    serde_json::from_value(content).map_err(|error| {
        let text = format!("Document {name} cannot be read: {error}.");
        ApiError::new("InvalidDocument", text)
    })
}

/// The name in the ARN of a document, or the name itself.
fn bare(name: &str) -> &str {
    let resource = name
        .strip_prefix("arn:")
        .and_then(|arn| arn.split_once(":document/"));
    resource.map_or(name, |(_, name)| name)
}

/// What starts a shell while the account has no preferences.
fn shell() -> SessionDocument {
    SessionDocument {
        schema_version: "1.0".into(),
        description: "A shell".into(),
        session_type: "Standard_Stream".into(),
        inputs: json!({
            "s3BucketName": "",
            "s3KeyPrefix": "",
            "s3EncryptionEnabled": false,
            "cloudWatchLogGroupName": "",
            "cloudWatchEncryptionEnabled": false,
            "cloudWatchStreamingEnabled": false,
            "kmsKeyId": "",
            "runAsEnabled": false,
            "runAsDefaultUser": "",
            "shellProfile": {"windows": "", "linux": ""}
        }),
        parameters: std::collections::BTreeMap::new(),
        properties: json!({}),
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::super::{create, update};
    use super::*;
    use crate::gateway::api::signature::Verifier;
    use crate::gateway::attachments::Attachments;
    use crate::gateway::broker::{self, Broker};
    use crate::gateway::recordings::{self, Recordings};
    use crate::gateway::store::Store;

    #[tokio::test]
    async fn newest_preferences_count_and_go_to_documents_without_their_own() {
        let state = state().await;
        let inputs = async |name: Option<&str>| {
            let start = session_document(&state, name).await.unwrap();
            start.document.inputs["shellProfile"]["linux"].clone()
        };
        assert_eq!(inputs(None).await, "");

        write(&state, PREFERENCES, "first").await;
        assert_eq!(inputs(None).await, "first");
        write(&state, PREFERENCES, "second").await;
        write(&state, "Mine", "mine").await;

        for name in [None, Some(PREFERENCES), Some("AWS-StartSSHSession")] {
            assert_eq!(inputs(name).await, "second", "{name:?}");
        }
        assert_eq!(inputs(Some("Mine")).await, "mine");
    }

    #[tokio::test]
    async fn default_version_of_a_document_starts_sessions() {
        let state = state().await;
        write(&state, "Mine", "first").await;
        write(&state, "Mine", "second").await;

        let start = session_document(&state, Some("Mine")).await.unwrap();

        assert_eq!(start.document.inputs["shellProfile"]["linux"], "first");
    }

    /// Makes the document `name`, or a version of it.
    async fn write(state: &ApiState, name: &str, profile: &str) {
        let content = json!({
            "schemaVersion": "1.0", "sessionType": "Standard_Stream",
            "inputs": {"shellProfile": {"linux": profile}}
        });
        let mut request = json!({"Name": name, "Content": content.to_string()});
        let known = find(state, name, VersionSelector::Default).await.is_ok();
        let written = if known {
            let request = serde_json::from_value(request).unwrap();
            update(state, "arn:alice", request).await
        } else {
            request["DocumentType"] = SESSION.into();
            let request = serde_json::from_value(request).unwrap();
            create(state, "arn:alice", request).await
        };
        written.unwrap();
    }

    async fn state() -> ApiState {
        let store = Store::open_in_memory().unwrap();
        let cancel = CancellationToken::new();
        let settings = broker::Settings::new("wss://gateway.example".parse().unwrap());
        let (broker, _) = Broker::new(store.clone(), settings, cancel.clone())
            .await
            .unwrap();
        let kept = recordings::Settings::new("/nowhere");
        let (recordings, _) = Recordings::new(store.clone(), kept, cancel.clone())
            .await
            .unwrap();
        ApiState {
            verifier: Verifier::new(store.clone()),
            store,
            broker,
            recordings,
            attachments: Attachments::new(
                "/nowhere".as_ref(),
                "https://gateway.example".parse().unwrap(),
            ),
            cancel,
        }
    }

    #[test]
    fn document_goes_by_its_name_or_its_arn() {
        for name in [
            "AWS-StartSSHSession",
            "arn:aws:ssm:us-east-1::document/AWS-StartSSHSession",
            "arn:aws-cn:ssm:cn-north-1:000000000000:document/AWS-StartSSHSession",
        ] {
            assert_eq!(bare(name), "AWS-StartSSHSession");
        }
        assert_eq!(bare("arn:aws:iam::1:user/a"), "arn:aws:iam::1:user/a");
    }
}
