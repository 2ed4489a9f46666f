//! Replies until the service has acknowledged them.
//!
//! A reply is on disk before it is sent first, in the reference's place and format, and is deleted when
//! it is acknowledged:
//!
//! | way of the command | file | content |
//! |---|---|---|
//! | control channel | `replies_mgs/<time>_<reply id>` | the result |
//! | message delivery service | `replies/<reply id>_<time>` | the request of the call |
//! | this host | `localcommands/completed/<command>` | the last reply's content; nobody acknowledges it |
//!
//! When it is sent is [`super::deliveries`]' business. The reference drops a reply after two hours; here
//! it is kept for a day.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::warn;
use uuid::Uuid;

use super::report;
use super::route::Route;
use super::settings::Settings;
use super::state::DocumentResult;
use crate::protocol::wire::command::Status;
use crate::protocol::wire::job::{CommandId, JobReply};
use crate::protocol::wire::mds::SendReply;
use crate::protocol::wire::{Message, MessageType};
use crate::runtime::atomic_file;
use crate::runtime::clock::unix_ms;

/// How long a reply is kept. The service waits up to two days for a command.
pub(super) const KEPT: Duration = Duration::from_hours(24);
/// Longest file that is read.
const FILE_LIMIT: u64 = 16 << 20;

/// A reply as the reference keeps it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Kept {
    pub(super) agent_result: DocumentResult,
    pub(super) reply_id: String,
    pub(super) retry_number: u32,
}

/// The folders of replies. Everything here blocks.
#[derive(Debug, Clone)]
pub(super) struct Store {
    gateway: PathBuf,
    delivery: PathBuf,
    completed: PathBuf,
    /// Whether the control channel is open, which replies by the other way tell.
    connections: watch::Receiver<bool>,
}

impl Store {
    /// Makes the folders.
    pub(super) fn open(
        settings: &Settings,
        connections: watch::Receiver<bool>,
    ) -> io::Result<Self> {
        let store = Self {
            gateway: settings.directory.join("replies_mgs"),
            delivery: settings.directory.join("replies"),
            completed: settings.local.join("completed"),
            connections,
        };
        for folder in [&store.gateway, &store.delivery, &store.completed] {
            atomic_file::create_private_dir(folder)?;
        }
        Ok(store)
    }

    /// A reply that the disk has not taken.
    pub(super) fn in_memory(&self, id: Uuid, result: DocumentResult) -> Reply {
        let route = Route::of_result(&result);
        let content = match route {
            Route::Gateway => Content::Result(Box::new(result)),
            Route::Delivery => Content::Text {
                text: report::content(&result, Some(*self.connections.borrow())),
                job_id: result.message_id,
            },
            Route::Local => Content::Text {
                text: report::content(&result, None),
                job_id: result.message_id,
            },
        };
        Reply {
            id,
            route,
            path: PathBuf::new(),
            content,
        }
    }

    /// Puts a reply on disk.
    pub(super) fn keep(&self, id: Uuid, result: DocumentResult) -> io::Result<Reply> {
        let is_last = result.last_plugin.is_empty() && result.status != Status::SuccessAndReboot;
        let mut reply = self.in_memory(id, result);
        let time = Timestamp::now().strftime("%Y-%m-%dT%H-%M-%S").to_string();
        let (path, text) = match (&reply.content, reply.route) {
            (Content::Result(result), _) => {
                let kept = Kept {
                    agent_result: (**result).clone(),
                    reply_id: id.to_string(),
                    retry_number: 0,
                };
                let path = self.gateway.join(format!("{time}_{id}"));
                (path, serde_json::to_vec(&kept)?)
            }
            (Content::Text { job_id, text }, Route::Local) => {
                let command = CommandId::of_job(job_id)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
                if !is_last {
                    // Who looks there takes what is there for the end.
                    return Ok(reply);
                }
                let path = self.completed.join(command.as_str());
                (path, text.clone().into_bytes())
            }
            (Content::Text { job_id, text }, Route::Delivery | Route::Gateway) => {
                let kept = SendReply {
                    message_id: job_id.clone(),
                    payload: text.clone(),
                    reply_id: id.to_string(),
                };
                let path = self.delivery.join(format!("{id}_{time}"));
                (path, kept.encode_kept())
            }
        };
        // The command's state goes after it; a power cut that loses this leaves that.
        atomic_file::write_in_order(&path, &text, 0o600)?;
        reply.path = path;
        Ok(reply)
    }

    /// Whether the last reply about a command of this host is on disk.
    pub(super) fn is_completed(&self, command: &CommandId) -> bool {
        self.completed.join(command.as_str()).exists()
    }

    /// The reply with this id, if it is on disk.
    pub(super) fn find(&self, id: &str) -> io::Result<Option<Reply>> {
        let (suffix, prefix) = (format!("_{id}"), format!("{id}_"));
        let by_suffix = |name: &str| name.ends_with(&suffix);
        if let Some(path) = find_in(&self.gateway, by_suffix)? {
            return Ok(read_or_delete(&path, read_kept));
        }
        let by_prefix = |name: &str| name.starts_with(&prefix);
        let path = find_in(&self.delivery, by_prefix)?;
        Ok(path.and_then(|path| read_or_delete(&path, read_request)))
    }

    /// All replies on disk, the oldest of each way first. Those that are too old are deleted, as are
    /// those that cannot be read.
    pub(super) fn load(&self) -> io::Result<Vec<Reply>> {
        let mut replies = load_from(&self.gateway, read_kept)?;
        replies.sort_by(|a, b| a.path.cmp(&b.path));
        let mut calls = load_from(&self.delivery, read_request)?;
        let time = |reply: &Reply| {
            let name = reply.path.file_name()?.to_str()?;
            name.rsplit_once('_').map(|(_, time)| time.to_owned())
        };
        calls.sort_by_cached_key(time);
        replies.extend(calls);
        Ok(replies)
    }
}

fn find_in(folder: &Path, is_it: impl Fn(&str) -> bool) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&is_it) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

fn load_from(folder: &Path, read: Read) -> io::Result<Vec<Reply>> {
    let mut replies = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_temporary = entry.file_name().as_encoded_bytes().starts_with(b".");
        let path = entry.path();
        let modified = entry.metadata()?.modified()?;
        let age = SystemTime::now()
            .duration_since(modified)
            .unwrap_or_default();
        if age > KEPT {
            warn!(path = %path.display(), "a reply is too old to be of use and is deleted");
            let _ = fs::remove_file(&path);
        } else if !is_temporary {
            replies.extend(read_or_delete(&path, read));
        }
    }
    Ok(replies)
}

/// Reads a file of replies.
type Read = fn(&[u8]) -> io::Result<(String, Route, Content)>;

fn read_kept(bytes: &[u8]) -> io::Result<(String, Route, Content)> {
    let kept: Kept = serde_json::from_slice(bytes)?;
    let content = Content::Result(Box::new(kept.agent_result));
    Ok((kept.reply_id, Route::Gateway, content))
}

fn read_request(bytes: &[u8]) -> io::Result<(String, Route, Content)> {
    let kept = SendReply::decode_kept(bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let content = Content::Text {
        job_id: kept.message_id,
        text: kept.payload,
    };
    Ok((kept.reply_id, Route::Delivery, content))
}

fn read_or_delete(path: &Path, read: Read) -> Option<Reply> {
    let found = fs::metadata(path).and_then(|metadata| {
        if metadata.len() > FILE_LIMIT {
            let text = format!(
                "{} bytes are above the limit of {FILE_LIMIT}",
                metadata.len()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let (id, route, content) = read(&fs::read(path)?)?;
        let id = Uuid::parse_str(&id)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Reply {
            id,
            route,
            path: path.to_owned(),
            content,
        })
    });
    match found {
        Ok(reply) => Some(reply),
        Err(error) => {
            warn!(path = %path.display(), %error, "a reply cannot be read and is deleted");
            let _ = fs::remove_file(path);
            None
        }
    }
}

/// A reply that is on disk.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reply {
    pub(super) id: Uuid,
    /// By which it has to go.
    pub(super) route: Route,
    path: PathBuf,
    content: Content,
}

#[derive(Debug, Clone, PartialEq)]
enum Content {
    /// It is written anew each time it is sent, as in the reference.
    Result(Box<DocumentResult>),
    /// It was written once.
    Text { job_id: String, text: String },
}

impl Reply {
    /// The job that it replies to.
    pub(super) fn job_id(&self) -> &str {
        match &self.content {
            Content::Result(result) => &result.message_id,
            Content::Text { job_id, .. } => job_id,
        }
    }

    /// Takes it off the disk.
    pub(super) fn forget(&self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(path = %self.path.display(), %error, "an acknowledged reply cannot be deleted");
            }
            Ok(()) | Err(_) => {}
        }
    }

    pub(super) fn message(&self) -> Message {
        let text = match &self.content {
            Content::Result(result) => report::content(result, None),
            Content::Text { text, .. } => text.clone(),
        };
        message(self.id, &JobReply::new(self.job_id(), text))
    }
}

/// The message with which the first reply to a job goes out, which nobody repeats.
pub(super) fn taken(job_id: &str) -> Message {
    message(Uuid::new_v4(), &JobReply::new(job_id, report::taken(None)))
}

fn message(id: Uuid, reply: &JobReply) -> Message {
    let message_type = MessageType::AgentJobReply;
    Message::of_control_channel(message_type, id.into(), unix_ms(), reply.encode())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_of_an_earlier_run_are_found_and_broken_ones_are_not_in_the_way() {
        let (folder, store) = store();
        let id = Uuid::new_v4();
        let kept = store.keep(id, result("j")).unwrap();
        let replies = folder.path().join("mi-1/replies_mgs");
        fs::write(replies.join("2024-10-15T21-22-05_x"), "{").unwrap();
        fs::write(replies.join(".half.tmp"), "{").unwrap();

        assert_eq!(store.load().unwrap(), std::slice::from_ref(&kept));
        assert_eq!(store.find(&id.to_string()).unwrap(), Some(kept));
        assert_eq!(store.find("x").unwrap(), None);
    }

    #[test]
    fn reply_that_the_reference_kept_is_sent() {
        let (folder, store) = store();
        let text = r#"{"AgentResult":{"DocumentName":"","DocumentVersion":"","MessageID":"aws.ssm.c.i","AssociationID":"",
            "PluginResults":{"s":{"pluginID":"s","pluginName":"aws:runShellScript","status":"Success","code":0,"output":"hi\n",
            "startDateTime":"2024-10-15T21:22:05.123456789Z","endDateTime":"2024-10-15T21:22:06Z","outputS3BucketName":"",
            "outputS3KeyPrefix":"","stepName":"","error":"","standardOutput":"hi\n","standardError":""}},
            "Status":"Success","LastPlugin":"","NPlugins":1,"UpstreamServiceName":"MessageGatewayService",
            "ResultType":"RunCommandResult","RelatedDocumentType":"SendCommand"},
            "ReplyId":"5b7a0b4c-94c1-4b9c-8ff5-1f5b5d1a2e11","RetryNumber":3}"#;
        let path = "mi-1/replies_mgs/2024-10-15T21-22-05_5b7a0b4c-94c1-4b9c-8ff5-1f5b5d1a2e11";
        fs::write(folder.path().join(path), text).unwrap();

        let reply = store.load().unwrap().remove(0);

        let reply = JobReply::decode(&reply.message().payload).unwrap();
        assert_eq!(reply.job_id, "aws.ssm.c.i");
        let report = crate::protocol::wire::command::Report::decode(&reply.content).unwrap();
        assert_eq!(report.document_status, Status::Success);
        assert_eq!(report.runtime_status.unwrap()["s"].output, "hi\n");
    }

    #[test]
    fn reply_over_the_older_way_is_kept_as_the_call_that_it_is() {
        let (folder, store) = store();
        let id = Uuid::new_v4();
        let job = "aws.ssm.c.mi-1";
        let result = report::not_run(Route::Delivery, job, Status::Failed, "why");

        let kept = store.keep(id, result).unwrap();

        let files = fs::read_dir(folder.path().join("mi-1/replies")).unwrap();
        let files: Vec<_> = files.map(|entry| entry.unwrap()).collect();
        let name = files[0].file_name().into_string().unwrap();
        assert!(
            name.starts_with(&format!("{id}_2")) && files.len() == 1,
            "{name}"
        );
        let call = SendReply::decode_kept(&fs::read(files[0].path()).unwrap()).unwrap();
        assert_eq!(
            (call.message_id.as_str(), call.reply_id),
            (job, id.to_string())
        );
        assert!(call.payload.contains(r#""ableToOpenMGSConnection":false"#));
        assert_eq!(store.load().unwrap(), std::slice::from_ref(&kept));
        assert_eq!(store.find(&id.to_string()).unwrap(), Some(kept));
    }

    #[test]
    fn last_reply_of_a_local_command_is_where_the_reference_has_it() {
        let (folder, store) = store();
        let job = "aws.ssm.c-1.mi-1";
        let completed = folder.path().join("localcommands/completed/c-1");
        let at = |status, step: &str| DocumentResult {
            last_plugin: step.into(),
            ..report::not_run(Route::Local, job, status, "")
        };

        for (status, step) in [(Status::InProgress, "a"), (Status::SuccessAndReboot, "")] {
            store.keep(Uuid::new_v4(), at(status, step)).unwrap();
            assert!(!completed.exists());
        }
        store.keep(Uuid::new_v4(), at(Status::Success, "")).unwrap();

        let text = fs::read_to_string(completed).unwrap();
        assert!(text.contains(r#""documentStatus":"Success""#), "{text}");
        assert!(
            store.load().unwrap().is_empty(),
            "nobody is to acknowledge it"
        );
    }

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::new(folder.path().join("mi-1"), "mi-1");
        let connections = watch::channel(false).1;
        let store = Store::open(&settings, connections).unwrap();
        (folder, store)
    }

    fn result(job: &str) -> DocumentResult {
        report::not_run(Route::Gateway, job, Status::Failed, "why")
    }
}
