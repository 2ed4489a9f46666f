//! Replies until the gateway has acknowledged them.
//!
//! A reply is on disk before it is sent first, in the reference's place and format
//! (`replies_mgs/<time>_<reply id>`), and is deleted when it is acknowledged. It is sent again, under
//! the same id, after a second and then with doubling waits, and at once on a new connection. The
//! reference waits five minutes and drops a reply after two hours; here it is kept for a day.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::warn;
use uuid::Uuid;

use super::report;
use super::state::DocumentResult;
use crate::protocol::wire::job::JobReply;
use crate::protocol::wire::{Message, MessageType};
use crate::runtime::atomic_file;
use crate::runtime::clock::unix_ms;

/// Time until the first repetition: as long as the reference waits for an acknowledgement.
const RESEND_FIRST: Duration = Duration::from_secs(1);
/// Longest time between two transmissions: as often as the reference repeats.
const RESEND_MAX: Duration = Duration::from_mins(5);
/// How long a reply is kept. The service waits up to two days for a command.
const KEPT: Duration = Duration::from_hours(24);
/// Replies that are not acknowledged at one time; the others wait on disk for their turn.
const IN_FLIGHT: usize = 64;
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

/// The folder of replies. Everything here blocks.
#[derive(Debug, Clone)]
pub(super) struct Store {
    folder: PathBuf,
}

impl Store {
    /// Makes the folder in the node's.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let folder = directory.join("replies_mgs");
        atomic_file::create_private_dir(&folder)?;
        Ok(Self { folder })
    }

    /// Puts a reply on disk.
    pub(super) fn keep(&self, id: Uuid, result: DocumentResult) -> io::Result<Reply> {
        let kept = Kept {
            agent_result: result,
            reply_id: id.to_string(),
            retry_number: 0,
        };
        let name = format!("{}_{id}", Timestamp::now().strftime("%Y-%m-%dT%H-%M-%S"));
        let path = self.folder.join(name);
        // The command's state goes after it; a power cut that loses this leaves that.
        atomic_file::write_in_order(&path, &serde_json::to_vec(&kept)?, 0o600)?;
        Ok(Reply {
            id,
            path,
            result: kept.agent_result,
        })
    }

    /// The reply with this id, if it is on disk.
    pub(super) fn find(&self, id: &str) -> io::Result<Option<Reply>> {
        let suffix = format!("_{id}");
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let is_it = entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.ends_with(&suffix));
            if is_it {
                return Ok(self.read(&entry.path()));
            }
        }
        Ok(None)
    }

    /// All replies on disk, the oldest first. Those that are too old are deleted, as are those that
    /// cannot be read.
    pub(super) fn load(&self) -> io::Result<Vec<Reply>> {
        let mut replies = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
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
                replies.extend(self.read(&path));
            }
        }
        replies.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(replies)
    }

    #[expect(clippy::unused_self, reason = "it reads what this store keeps")]
    fn read(&self, path: &Path) -> Option<Reply> {
        let read = fs::metadata(path).and_then(|metadata| {
            if metadata.len() > FILE_LIMIT {
                let text = format!(
                    "{} bytes are above the limit of {FILE_LIMIT}",
                    metadata.len()
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            let kept: Kept = serde_json::from_slice(&fs::read(path)?)?;
            let id = Uuid::parse_str(&kept.reply_id)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            Ok((id, kept.agent_result))
        });
        match read {
            Ok((id, result)) => Some(Reply {
                id,
                path: path.to_owned(),
                result,
            }),
            Err(error) => {
                warn!(path = %path.display(), %error, "a reply cannot be read and is deleted");
                let _ = fs::remove_file(path);
                None
            }
        }
    }
}

/// A reply that is on disk.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reply {
    pub(super) id: Uuid,
    path: PathBuf,
    pub(super) result: DocumentResult,
}

impl Reply {
    /// A reply that the disk did not take.
    pub(super) fn in_memory(id: Uuid, result: DocumentResult) -> Self {
        Self {
            id,
            path: PathBuf::new(),
            result,
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

    fn message(&self) -> Message {
        let reply = JobReply::new(&self.result.message_id, report::content(&self.result));
        message(self.id, &reply)
    }
}

/// The message with which the first reply to a job goes out, which nobody repeats.
pub(super) fn taken(job_id: &str) -> Message {
    message(Uuid::new_v4(), &JobReply::new(job_id, report::taken()))
}

fn message(id: Uuid, reply: &JobReply) -> Message {
    let message_type = MessageType::AgentJobReply;
    Message::of_control_channel(message_type, id.into(), unix_ms(), reply.encode())
}

/// When which reply goes out.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    in_flight: Vec<Delivery>,
    waiting: VecDeque<Reply>,
    is_connected: bool,
}

#[derive(Debug)]
struct Delivery {
    reply: Reply,
    due: Instant,
    wait: Duration,
    accepted: Instant,
}

impl Deliveries {
    /// Takes a reply, to be sent as soon as there is a connection.
    pub(super) fn handle_reply(&mut self, reply: Reply, now: Instant) {
        let flying = self.in_flight.iter().map(|delivery| &delivery.reply);
        if flying
            .chain(&self.waiting)
            .any(|known| known.id == reply.id)
        {
            return;
        }
        self.waiting.push_back(reply);
        self.fill(now);
    }

    /// The connection is there, or gone.
    pub(super) fn handle_connection(&mut self, is_connected: bool, now: Instant) {
        self.is_connected = is_connected;
        if is_connected {
            for delivery in &mut self.in_flight {
                delivery.due = now;
                delivery.wait = RESEND_FIRST;
            }
        }
    }

    /// The gateway has taken the reply with this id; returns it if it was waited for.
    #[must_use]
    pub(super) fn handle_acknowledgement(&mut self, id: &str, now: Instant) -> Option<Reply> {
        let id = Uuid::parse_str(id).ok()?;
        let at = self
            .in_flight
            .iter()
            .position(|delivery| delivery.reply.id == id)?;
        let delivery = self.in_flight.swap_remove(at);
        self.fill(now);
        Some(delivery.reply)
    }

    /// Gives up on replies that were here for a day, and returns them.
    #[must_use]
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Vec<Reply> {
        let is_late =
            |delivery: &Delivery| now.saturating_duration_since(delivery.accepted) >= KEPT;
        let late = self.in_flight.extract_if(.., |delivery| is_late(delivery));
        let late: Vec<Reply> = late.map(|delivery| delivery.reply).collect();
        self.fill(now);
        late
    }

    /// The next message that is due.
    pub(super) fn poll_message(&mut self, now: Instant) -> Option<Message> {
        if !self.is_connected {
            return None;
        }
        let mut due = self
            .in_flight
            .iter_mut()
            .filter(|delivery| delivery.due <= now);
        let delivery = due.next()?;
        delivery.due = now + delivery.wait;
        delivery.wait = (delivery.wait * 2).min(RESEND_MAX);
        Some(delivery.reply.message())
    }

    /// When [`Self::poll_message`] has something.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let dues = self.in_flight.iter().map(|delivery| delivery.due);
        dues.min().filter(|_| self.is_connected)
    }

    fn fill(&mut self, now: Instant) {
        while self.in_flight.len() < IN_FLIGHT
            && let Some(reply) = self.waiting.pop_front()
        {
            self.in_flight.push(Delivery {
                reply,
                due: now,
                wait: RESEND_FIRST,
                accepted: now,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::wire::MessageId;
    use crate::protocol::wire::command::Status;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn reply_is_repeated_under_its_id_until_it_is_acknowledged() {
        let (_folder, store) = store();
        let now = Instant::now();
        let mut deliveries = Deliveries::default();
        let reply = store.keep(Uuid::new_v4(), result("j")).unwrap();
        deliveries.handle_reply(reply.clone(), now);

        assert_eq!(deliveries.poll_message(now), None, "there is no connection");
        deliveries.handle_connection(true, now);
        let first = deliveries.poll_message(now).unwrap();
        assert_eq!(deliveries.poll_message(now + SECOND / 2), None);
        let second = deliveries.poll_message(now + SECOND).unwrap();
        assert_eq!(deliveries.poll_message(now + 2 * SECOND), None);

        assert_eq!(first.id, second.id);
        assert_eq!(first.id, MessageId::from(reply.id));
        assert_eq!(deliveries.handle_acknowledgement("garbage", now), None);
        let taken = deliveries.handle_acknowledgement(&reply.id.to_string(), now);
        taken.unwrap().forget();
        assert_eq!(deliveries.poll_message(now + 60 * SECOND), None);
        assert!(store.load().unwrap().is_empty());
    }

    #[test]
    fn new_connection_gets_everything_at_once() {
        let (_folder, store) = store();
        let now = Instant::now();
        let mut deliveries = Deliveries::default();
        deliveries.handle_connection(true, now);
        for _ in 0..3 {
            let reply = store.keep(Uuid::new_v4(), result("j")).unwrap();
            deliveries.handle_reply(reply, now);
        }
        while deliveries.poll_message(now).is_some() {}

        deliveries.handle_connection(false, now);
        assert_eq!(deliveries.poll_timeout(), None);
        let later = now + SECOND / 10;
        deliveries.handle_connection(true, later);

        let again = std::iter::from_fn(|| deliveries.poll_message(later));
        assert_eq!(again.count(), 3);
    }

    #[test]
    fn a_few_are_in_flight_and_the_rest_follows() {
        let (_folder, store) = store();
        let now = Instant::now();
        let mut deliveries = Deliveries::default();
        deliveries.handle_connection(true, now);
        for _ in 0..=IN_FLIGHT {
            let reply = store.keep(Uuid::new_v4(), result("j")).unwrap();
            deliveries.handle_reply(reply, now);
        }

        let sent: Vec<_> = std::iter::from_fn(|| deliveries.poll_message(now)).collect();
        assert_eq!(sent.len(), IN_FLIGHT);
        let id = sent[0].id.to_string();
        deliveries.handle_acknowledgement(&id, now).unwrap();

        assert!(deliveries.poll_message(now).is_some());
    }

    #[test]
    fn reply_is_given_up_after_a_day() {
        let (_folder, store) = store();
        let now = Instant::now();
        let mut deliveries = Deliveries::default();
        deliveries.handle_reply(store.keep(Uuid::new_v4(), result("j")).unwrap(), now);

        assert!(deliveries.handle_timeout(now + KEPT / 2).is_empty());
        assert_eq!(deliveries.handle_timeout(now + KEPT).len(), 1);
    }

    #[test]
    fn replies_of_an_earlier_run_are_found_and_broken_ones_are_not_in_the_way() {
        let (folder, store) = store();
        let id = Uuid::new_v4();
        let kept = store.keep(id, result("j")).unwrap();
        let replies = folder.path().join("replies_mgs");
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
        let path = "replies_mgs/2024-10-15T21-22-05_5b7a0b4c-94c1-4b9c-8ff5-1f5b5d1a2e11";
        fs::write(folder.path().join(path), text).unwrap();

        let reply = store.load().unwrap().remove(0);

        let reply = JobReply::decode(&reply.message().payload).unwrap();
        assert_eq!(reply.job_id, "aws.ssm.c.i");
        let report = crate::protocol::wire::command::Report::decode(&reply.content).unwrap();
        assert_eq!(report.document_status, Status::Success);
        assert_eq!(report.runtime_status.unwrap()["s"].output, "hi\n");
    }

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        (folder, store)
    }

    fn result(job: &str) -> DocumentResult {
        report::not_run(job, Status::Failed, "why")
    }
}
