//! What the audit log says of sessions.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::ending::recording;
use super::harness::{World, command_document, shell_document, soon, start};
use crate::agent::audit::{self, AuditLog};
use crate::agent::session::Settings;
use crate::agent::transcript::{Transcript, Verdict, verify};
use crate::protocol::wire::PeerFeatures;

#[tokio::test]
async fn session_is_told_from_its_start_to_the_digests_of_its_recording() {
    let mut audited = Audited::new();
    let transcript = Transcript::new(Some(recording(audited.folder.path())));
    let mut world = audited.world(transcript);
    let mut message = start(
        "alice-1",
        command_document(&["sh", "-c", "echo hello; exit 3"]),
    );
    message.reason = "ticket \"7\"\nforged".into();
    world.supervisor.start(Ok(Box::new(message)));
    let mut client = world.attach(PeerFeatures::ours()).await;
    client.wait_for_exit().await;
    client.ignore_the_rest();
    world.outcome().await;

    let [started, process, ended] = &audited.lines().await[..] else {
        panic!("three lines");
    };

    let expected = json!({
        "event": "session-started", "session": "alice-1",
        "owner": "arn:aws:iam::111122223333:user/alice",
        "document": "SSM-SessionManagerRunShell", "reason": "ticket \"7\"\nforged",
        "kind": "interactive command", "encrypted": false,
        "command": "sh -c 'echo hello; exit 3'",
    });
    assert_eq!(started, &expected);
    let id = nix::unistd::getuid();
    let account = nix::unistd::User::from_uid(id).unwrap();
    let user = account.map_or_else(|| id.to_string(), |account| account.name);
    assert_eq!(process["event"], "process-started");
    assert_eq!(process["user"], user);
    assert_eq!(process["command"], "sh -c echo hello; exit 3");
    assert_eq!(ended["event"], "session-ended");
    assert_eq!(
        (&ended["status"], &ended["exitCode"]),
        (&json!("Success"), &json!(3))
    );
    assert_eq!(ended["reason"], "the shell or command ended");
    assert_eq!(ended["lostBytes"], 0);
    let files = ended["recordings"].as_array().unwrap();
    assert_eq!(files.len(), 2);
    for file in files {
        let path: PathBuf = file["file"].as_str().unwrap().into();
        let examined = verify(&path).unwrap();
        assert_eq!(file["sha256"], examined.sha256.to_string());
        assert_eq!(file["bytes"], examined.bytes);
        if path.extension().unwrap() == "cast" {
            assert_eq!(examined.verdict, Verdict::Complete);
        }
    }
}

#[tokio::test]
async fn refused_sessions_are_told_with_the_reason() {
    let mut audited = Audited::new();
    let mut world = audited.world(Transcript::new(None));
    let document = json!({"schemaVersion": "1.0", "sessionType": "Tunnel"});
    world.start("alice-1", document);
    world.outcome().await;

    let [refused] = &audited.lines().await[..] else {
        panic!("one line");
    };

    assert_eq!(refused["event"], "session-refused");
    assert_eq!(refused["session"], "alice-1");
    assert_eq!(refused["owner"], "arn:aws:iam::111122223333:user/alice");
    let refusal = refused["refusal"].as_str().unwrap();
    assert!(refusal.starts_with("Plugin with name Tunnel "), "{refusal}");
}

#[tokio::test]
async fn session_over_the_limit_is_told() {
    let mut audited = Audited::new();
    let log = audited.log.clone();
    let limit = move |settings: &mut Settings| {
        settings.audit = log;
        settings.limit = 0;
    };
    let mut world = World::with(limit, Transcript::new(None));
    world.start("alice-1", shell_document());
    world.outcome().await;

    let lines = audited.lines().await;

    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["event"], "session-refused");
    assert_eq!(
        lines[0]["refusal"],
        "the agent runs 0 sessions, which is its limit"
    );
}

#[tokio::test]
async fn incomplete_recording_is_told_and_a_session_goes_on_without_an_audit_log() {
    let mut audited = Audited::new();
    std::fs::create_dir(audited.folder.path().join("audit.log")).unwrap();
    let file = audited.folder.path().join("no-folder");
    std::fs::write(&file, "").unwrap();
    let mut world = audited.world(Transcript::new(Some(recording(&file))));
    world.start("alice-1", command_document(&["printf", "runs"]));
    let mut client = world.attach(PeerFeatures::ours()).await;
    client.wait_for("runs").await;
    client.wait_for_exit().await;
    client.ignore_the_rest();

    let outcome = world.outcome().await;

    assert_eq!(outcome.exit_code, Some(0));
    assert_eq!(outcome.recording.lost_bytes, 4);
    std::fs::remove_dir(audited.folder.path().join("audit.log")).unwrap();
    let lines = audited.lines().await;
    let ended = lines.last().unwrap();
    assert_eq!(ended["lostBytes"], 4);
    let problem = ended["problem"].as_str().unwrap();
    assert!(problem.starts_with("cannot write "), "{problem}");
}

/// An audit log, to be read when its sessions are over.
pub(super) struct Audited {
    pub(super) folder: TempDir,
    log: AuditLog,
    writer: JoinHandle<()>,
}

impl Audited {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (log, write) = AuditLog::open(audit::Settings {
            path: folder.path().join("audit.log"),
            limit: 10 << 20,
            files: 2,
        });
        Self {
            folder,
            log,
            writer: tokio::spawn(write),
        }
    }

    pub(super) fn world(&self, transcript: Transcript) -> World {
        let log = self.log.clone();
        World::with(move |settings| settings.audit = log, transcript)
    }

    pub(super) fn world_with(
        &self,
        change: impl FnOnce(&mut Settings),
        transcript: Transcript,
    ) -> World {
        let log = self.log.clone();
        let change = move |settings: &mut Settings| {
            settings.audit = log;
            change(settings);
        };
        World::with(change, transcript)
    }

    /// Waits until there is a line of this event.
    pub(super) async fn until_told(&self, event: &str) {
        let (path, word) = (self.folder.path().join("audit.log"), format!("\"{event}\""));
        let told = async {
            while !std::fs::read_to_string(&path).is_ok_and(|text| text.contains(&word)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        soon(told).await;
    }

    /// All lines without their times and numbers.
    pub(super) async fn lines(&mut self) -> Vec<Value> {
        self.log.close();
        (&mut self.writer).await.unwrap();
        let text = std::fs::read_to_string(self.folder.path().join("audit.log")).unwrap();
        let mut lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        for (line, number) in lines.iter_mut().zip(0..) {
            let line = line.as_object_mut().unwrap();
            assert_eq!(line.remove("seq").unwrap(), number);
            line.remove("time").unwrap();
        }
        lines
    }
}
