//! `ssm-gateway sessions`: recordings in a state folder, listed, written out, played and followed.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::SystemTime;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use serde_json::Value;
use ssm_agent::gateway::recordings::{Recordings, Settings};
use ssm_agent::gateway::store::Store;
use ssm_agent::gateway::store::sessions::SessionRecord;
use ssm_agent::protocol::wire::SessionId;
use ssm_agent::protocol::wire::recording::Part;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::programs::PATIENCE;

const SESSION: &str = "alice-0123456789abcdef0";
const NODE: &str = "mi-0123456789abcdef0";
const HEADER: &str = "{\"version\":2,\"width\":80,\"height\":24}\n";

#[tokio::test]
async fn sessions_are_listed_with_what_is_stored_of_them() {
    let state = State::new().await;
    state.append(HEADER, false).await;
    state.add_session("bob-1", "mi-2").await;

    let table = state.run(&["list"]);
    let json = state.run(&["list", "--json", "--node", NODE]);
    let one = state.run(&["list", "--limit", "1"]);

    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[0].starts_with("SessionId"), "{table}");
    assert!(
        table.contains("partial") && table.contains("bob-1"),
        "{table}"
    );
    assert_eq!(one.lines().count(), 2, "{one}");
    let listed: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["SessionId"], SESSION);
    assert_eq!(listed[0]["Recording"], "partial");
    assert_eq!(listed[0]["Bytes"], HEADER.len().to_string());
}

#[tokio::test]
async fn cast_is_written_out_as_it_is_stored() {
    let state = State::new().await;
    let event = "[1.0,\"o\",\"one\"]\n";
    state.append(&format!("{HEADER}{event}"), true).await;

    let cast = state.run(&["cast", SESSION]);
    let unknown = state.command(&["cast", "bob-1"]).output().unwrap();

    assert_eq!(cast, format!("{HEADER}{event}"));
    assert_eq!(unknown.status.code(), Some(1));
    let text = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(
        text.contains("there is no recording of session bob-1"),
        "{text}"
    );
    assert!(text.contains("hint: "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn followed_cast_grows_with_the_session_and_ends_with_it() {
    let state = State::new().await;
    state.append(HEADER, false).await;
    let mut follower = state
        .command(&["cast", SESSION, "--follow"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = reader(follower.stdout.take().unwrap());

    assert_eq!(read(&output, HEADER.len()), HEADER);
    state.append("[1.0,\"o\",\"one\"]\n", false).await;
    assert_eq!(read(&output, 16), "[1.0,\"o\",\"one\"]\n");
    state.append("[2.0,\"m\",\"end\"]\n", true).await;
    assert_eq!(read(&output, 16), "[2.0,\"m\",\"end\"]\n");

    assert!(follower.wait().unwrap().success());
}

#[tokio::test]
async fn replay_prints_what_the_session_printed() {
    let state = State::new().await;
    let events = "[1.0,\"o\",\"\\u001b[31mred\\r\\n\"]\n[2.0,\"r\",\"90x30\"]\n\
                  [3.0,\"i\",\"typed\"]\n[3.0,\"m\",\"mark\"]\n[4.0,\"o\",\"end\"]\n";
    state.append(&format!("{HEADER}{events}"), true).await;

    let fast = state.run(&["replay", SESSION, "--speed", "1000"]);
    let cut = state.run(&["replay", SESSION, "--max-pause", "0"]);
    let live = state.run(&["replay", SESSION, "--follow"]);

    assert_eq!(fast, "\x1b[31mred\r\nend");
    assert_eq!((cut, live), (fast.clone(), fast));
}

#[tokio::test]
async fn interrupted_replay_leaves_the_terminal_as_it_was() {
    let state = State::new().await;
    let events = "[0.1,\"o\",\"\\u001b[?1049h\\u001b[?25lvim\"]\n[9000.0,\"o\",\"end\"]\n";
    state.append(&format!("{HEADER}{events}"), true).await;
    let pair = native_pty_system().openpty(PtySize::default()).unwrap();
    let modes = || pair.master.get_termios().unwrap();
    let before = modes();
    let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_ssm-gateway"));
    command.args(["sessions", "replay", SESSION, "--state"]);
    command.arg(state.folder.path());
    let mut replay = pair.slave.spawn_command(command).unwrap();
    let output = reader(pair.master.try_clone_reader().unwrap());

    let mut seen = String::new();
    while !seen.contains("vim") {
        seen.push_str(&read(&output, 1));
    }
    assert_ne!(modes(), before);
    let id = i32::try_from(replay.process_id().unwrap()).unwrap();
    kill(Pid::from_raw(id), Signal::SIGINT).unwrap();
    while !seen.ends_with("\r\n") {
        seen.push_str(&read(&output, 1));
    }

    assert!(replay.wait().unwrap().success());
    assert!(
        seen.contains("\x1b[?1049l") && seen.contains("\x1b[?25h"),
        "{seen:?}"
    );
    assert_eq!(modes(), before);
}

/// A state folder with one session, and what adds to its recording as a running gateway does.
struct State {
    folder: TempDir,
    store: Store,
    recordings: Recordings,
}

impl State {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("gateway.db")).unwrap();
        let settings = Settings::new(folder.path().join("recordings"));
        let made = Recordings::new(store.clone(), settings, CancellationToken::new());
        let (recordings, _) = made.await.unwrap();
        let state = Self {
            folder,
            store,
            recordings,
        };
        state.add_session(SESSION, NODE).await;
        state
    }

    async fn add_session(&self, name: &str, node: &str) {
        let id = SessionId::new(name).unwrap();
        let record = SessionRecord {
            start: SystemTime::now(),
            ..SessionRecord::new(id, node, "arn:aws:iam::000000000000:user/alice")
        };
        self.store.insert_session(record).await.unwrap();
    }

    async fn append(&self, text: &str, complete: bool) {
        let id = SessionId::new(SESSION).unwrap();
        let stored = self.store.recording(&id).await.unwrap();
        let before = stored.map(|stored| stored.progress).unwrap_or_default();
        let part = Part {
            offset: before.bytes,
            entries: before.entries + 1,
            complete,
        };
        let bytes = text.to_owned().into();
        self.recordings.append(NODE, id, part, bytes).await.unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        command(self.folder.path(), arguments)
    }

    /// What the command prints; it must succeed.
    fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let problem = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {problem}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn command(state: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssm-gateway"));
    command.arg("sessions").args(arguments);
    command.arg("--state").arg(state).stdin(Stdio::null());
    command
}

/// Reads in a thread of its own, which ends with the output.
fn reader(mut from: impl std::io::Read + Send + 'static) -> mpsc::Receiver<u8> {
    let (sender, bytes) = mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            for byte in &buffer[..count] {
                if sender.send(*byte).is_err() {
                    return;
                }
            }
        }
    });
    bytes
}

/// The next `count` bytes.
fn read(output: &mpsc::Receiver<u8>, count: usize) -> String {
    let next = || output.recv_timeout(PATIENCE).expect("output comes");
    let bytes: Vec<u8> = (0..count).map(|_| next()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
