//! Commands without a terminal.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};

use super::harness::{World, id, is_running, soon, until_gone};
use crate::agent::parameter_store::{Lookup, ParameterStore};
use crate::agent::session::Settings;
use crate::agent::transcript::{self, Transcript};
use crate::protocol::wire::control::SessionState;
use crate::protocol::wire::session_document::StoredParameter;
use crate::protocol::wire::task::TaskStatus;
use crate::protocol::wire::{Message, PayloadType, PeerFeatures};

#[tokio::test]
async fn command_streams_its_output_merged_in_order_and_reads_nothing() {
    let mut world = World::new();
    let gate = world.folder.path().join("gate");
    let script = format!(
        "cat; printf one; printf two >&2; printf three; until test -e {}; do sleep 0.01; done; exit 7",
        gate.display()
    );
    world.start("alice-1", command(&["sh", "-c", &script]));
    let mut client = world.attach(PeerFeatures::ours()).await;

    // It comes while the command still runs.
    client.wait_for("onetwothree").await;
    std::fs::write(&gate, "").unwrap();

    assert_eq!(client.wait_for_exit().await, 7);
    assert!(client.errors.is_empty());
    assert_eq!(client.wait_for_state().await, SessionState::Connected);
    assert_eq!(client.wait_for_state().await, SessionState::Terminating);
    client.ignore_the_rest();
    let outcome = world.outcome().await;
    assert_eq!(
        (outcome.status, outcome.exit_code),
        (TaskStatus::Success, Some(7))
    );
    assert_eq!(outcome.output, "");
}

#[tokio::test]
async fn words_of_a_command_reach_it_as_they_are() {
    let mut world = World::new();
    world.start(
        "alice-1",
        command_line("printf '<%s>' $HOME '*' \"a b\" ';' '' a\\ b"),
    );
    let mut client = world.attach(PeerFeatures::ours()).await;

    client.wait_for_exit().await;

    assert_eq!(client.seen, "<$HOME><*><a b><;><><a b>");
}

#[tokio::test]
async fn streams_come_apart_with_their_prefixes() {
    let mut world = World::new();
    let script = "printf 'out\\n'; printf 'err\\n' >&2; exit 3";
    world.start("alice-1", separate(script, "o:", "e:"));
    // Not even an official plugin is denied the exit code of separate streams.
    let mut client = world.attach(PeerFeatures::default()).await;

    assert_eq!(client.wait_for_exit().await, 3);
    assert_eq!(client.seen, "o:out\n");
    assert_eq!(client.errors, b"e:err\n");
}

#[tokio::test]
async fn exit_code_of_merged_streams_is_for_those_who_announced_it() {
    let mut world = World::new();
    world.start("alice-1", command(&["sh", "-c", "printf done; exit 4"]));
    let mut client = world.attach(PeerFeatures::default()).await;

    client.wait_for("done").await;

    assert_eq!(world.outcome().await.exit_code, Some(4));
    assert_eq!(client.exit_code, None);
}

#[tokio::test]
async fn every_byte_arrives_unchanged() {
    let mut world = World::new();
    let file = world.folder.path().join("bytes");
    let bytes: Vec<u8> = (0..3_000_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    std::fs::write(&file, &bytes).unwrap();
    world.start("alice-1", command(&["cat", file.to_str().unwrap()]));
    let mut client = world.attach(PeerFeatures::ours()).await;
    client.raw = Some(Vec::new());

    client.wait_for_exit().await;

    assert!(client.raw.unwrap() == bytes);
}

#[tokio::test]
async fn interrupt_and_quit_reach_every_process_of_the_command() {
    for (key, signal, code) in [("\x03", "INT", 130), ("x\x1cy", "QUIT", 131)] {
        let mut world = World::new();
        let script = format!(
            "trap 'printf {signal}' {signal}; (trap 'printf inner; exit' {signal}; printf ready; \
             while :; do sleep 0.02; done); trap - {signal}; kill -{signal} $$"
        );
        world.start("alice-1", command(&["sh", "-c", &script]));
        let mut client = world.attach(PeerFeatures::ours()).await;
        client.wait_for("ready").await;

        client.type_text(key).await;

        assert_eq!(client.wait_for_exit().await, code);
        assert!(client.seen.contains("inner"), "{:?}", client.seen);
        assert!(client.seen.contains(signal), "{:?}", client.seen);
        client.ignore_the_rest();
        assert_eq!(world.outcome().await.exit_code, Some(code));
    }
}

#[tokio::test]
async fn end_by_a_signal_is_minus_one_to_an_official_plugin() {
    let mut world = World::new();
    world.start("alice-1", separate("kill -TERM $$", "", ""));
    let mut client = world.attach(PeerFeatures::default()).await;

    assert_eq!(client.wait_for_exit().await, -1);
    client.ignore_the_rest();
    assert_eq!(world.outcome().await.exit_code, Some(143));
}

#[tokio::test]
async fn program_that_does_not_exist_is_told_by_error_output_and_result() {
    for (features, code) in [(PeerFeatures::ours(), 127), (PeerFeatures::default(), 1)] {
        let mut world = World::new();
        world.start("alice-1", {
            let mut document = command(&["no-such-program-here"]);
            document["properties"]["linux"]["separateOutputStream"] = json!("True");
            document
        });
        let mut client = world.attach(features).await;

        assert_eq!(client.wait_for_exit().await, code);

        let text = "Error occurred starting the command: cannot execute no-such-program-here";
        assert_eq!(client.errors, format!("{text}\n").into_bytes());
        client.ignore_the_rest();
        let outcome = world.outcome().await;
        assert_eq!(
            (outcome.status, outcome.output.as_str()),
            (TaskStatus::Failed, text)
        );
    }
}

#[tokio::test]
async fn agent_that_cannot_start_its_login_step_says_so() {
    let missing = |settings: &mut Settings| settings.program = "/nonexistent/agent".into();
    let mut world = World::with(missing, Transcript::new(None));
    world.start("alice-1", command(&["ls"]));
    let client = world.attach(PeerFeatures::ours()).await;
    client.ignore_the_rest();

    let outcome = world.outcome().await;

    assert_eq!(outcome.status, TaskStatus::Failed);
    let expected = "Unable to start command: cannot start /nonexistent/agent: ";
    assert!(outcome.output.starts_with(expected), "{}", outcome.output);
}

#[tokio::test]
async fn commands_that_cannot_be_split_are_refused() {
    let mut world = World::new();
    world.start("alice-1", command_line("echo 'a"));

    let outcome = world.outcome().await;

    assert_eq!(
        outcome.output,
        "Unable to start command: Failed to parse commands input: missing closing quote"
    );
    assert!(world.dialled.is_empty());
}

#[tokio::test]
async fn client_that_is_away_stops_the_command_and_misses_nothing() {
    let mut world = World::new();
    let file = world.folder.path().join("written");
    let script = format!(
        "printf ready; sleep 0.3; seq 1 2000000; true > {}; printf finished",
        file.display()
    );
    world.start("alice-1", command(&["sh", "-c", &script]));
    let mut client = world.attach(PeerFeatures::ours()).await;
    client.wait_for("ready").await;

    client.pause();
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert!(
        !file.exists(),
        "the program could write all to a client that is away"
    );
    client.announce(PeerFeatures::ours());

    let output = client.wait_for("finished").await;
    let numbers = output.lines().filter(|line| line.parse::<u32>().is_ok());
    assert_eq!(numbers.count(), 2_000_000);
}

#[tokio::test]
async fn command_that_ends_while_the_client_is_away_is_heard_when_it_is_back() {
    let mut world = World::new();
    let file = world.folder.path().join("ended");
    let script = format!(
        "printf ready; sleep 0.2; printf last; true > {}; exit 6",
        file.display()
    );
    world.start("alice-1", command(&["sh", "-c", &script]));
    let mut client = world.attach(PeerFeatures::ours()).await;
    client.wait_for("ready").await;

    client.pause();
    while !file.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Longer than the agent waits for acknowledgements of a client that is away.
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert!(world.outcomes.is_empty());
    client.announce(PeerFeatures::ours());

    client.wait_for("last").await;
    assert_eq!(client.wait_for_exit().await, 6);
}

#[tokio::test]
async fn command_that_ends_during_a_cut_is_heard_afterwards() {
    let mut world = World::new();
    let file = world.folder.path().join("ended");
    let script = format!(
        "printf ready; sleep 0.2; seq 1 1000; true > {}; exit 6",
        file.display()
    );
    world.start("alice-1", command(&["sh", "-c", &script]));
    let mut client = world.attach(PeerFeatures::ours()).await;
    client.wait_for("ready").await;

    client.cut();
    let (_, socket) = soon(world.dialled.recv()).await.unwrap();
    while !file.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    client.reconnect(socket);
    client.announce(PeerFeatures::ours());

    assert_eq!(client.wait_for_exit().await, 6);
    let expected: String = (1..=1000).map(|n| format!("{n}\n")).collect();
    assert!(client.seen == expected);
}

#[tokio::test]
async fn jobs_that_a_command_leaves_behind_end_and_its_last_output_arrives() {
    let mut world = World::new();
    let script = "nohup sleep 98771 >/dev/null 2>&1 & sleep 98772 & printf last; exit 2";
    world.start("alice-1", command(&["sh", "-c", script]));
    let mut client = world.attach(PeerFeatures::ours()).await;

    client.wait_for("last").await;
    assert_eq!(client.wait_for_exit().await, 2);
    client.ignore_the_rest();
    world.outcome().await;

    assert!(!is_running("98771") && !is_running("98772"));
}

#[tokio::test]
async fn job_that_writes_for_ever_does_not_hold_the_session() {
    let mut world = World::new();
    let script = "yes 98773 & until test -d /; do :; done; exit 2";
    world.start("alice-1", command(&["sh", "-c", script]));
    let mut client = world.attach(PeerFeatures::ours()).await;

    assert_eq!(client.wait_for_exit().await, 2);
    client.ignore_the_rest();
    world.outcome().await;

    assert!(!is_running("98773"));
}

#[tokio::test]
async fn terminated_command_ends_with_its_processes() {
    let mut world = World::new();
    world.start(
        "alice-1",
        command(&["sh", "-c", "printf ready; sleep 98774; :"]),
    );
    let mut client = world.attach(PeerFeatures::ours()).await;
    client.wait_for("ready").await;

    world.supervisor.terminate(&id("alice-1"));
    client.ignore_the_rest();

    let outcome = world.outcome().await;
    assert_eq!(
        (outcome.status, outcome.exit_code),
        (TaskStatus::Success, None)
    );
    until_gone("98774").await;
}

#[tokio::test]
async fn both_streams_of_a_command_are_recorded_as_they_were_sent() {
    let folder = tempfile::tempdir().unwrap();
    let recording = transcript::Settings {
        directory: folder.path().to_owned(),
        formats: transcript::Format::ALL.to_vec(),
        retention: Duration::from_secs(3600),
        quota: 1 << 30,
        record_input: false,
        spool: transcript::DEFAULT_SPOOL,
        policy: transcript::Policy::FailOpen,
    };
    let mut world = World::with(|_| {}, Transcript::new(Some(recording)));
    world.start("alice-1", separate("printf out; printf err >&2", "o:", ""));
    let mut client = world.attach(PeerFeatures::ours()).await;
    client.wait_for_exit().await;
    client.ignore_the_rest();
    world.outcome().await;

    let log = recorded(folder.path());

    assert!(log == "o:outerr" || log == "erro:out", "{log}");
}

#[tokio::test]
async fn parameters_fill_in_what_is_run_and_only_there() {
    let mut world = World::new();
    let mut document = command_line("printf <%s> {{ word }} '{{ quoted }}' {{other}}");
    document["parameters"] = json!({
        "word": {"type": "String"},
        "quoted": {"type": "String", "allowedPattern": "^[^']*$"},
    });
    world.start_with(
        "alice-1",
        document,
        json!({"word": "a $(id) {{ quoted }}", "quoted": "b; {{word}} $$"}),
    );
    let mut client = world.attach(PeerFeatures::ours()).await;

    client.wait_for_exit().await;

    assert_eq!(
        client.seen,
        "<a><$(id)><{{><quoted><}}><b; {{word}} $$><{{other}}>"
    );
}

#[tokio::test]
async fn values_of_parameter_store_are_looked_up_and_secrets_are_not() {
    let store = |settings: &mut Settings| settings.parameters = Some(Arc::new(Store));
    let mut world = World::with(store, Transcript::new(None));
    world.start("alice-1", command_line("printf {{ssm:/greeting}}"));
    let mut client = world.attach(PeerFeatures::ours()).await;

    client.wait_for("hello").await;
    client.wait_for_exit().await;
    client.ignore_the_rest();
    assert_eq!(world.outcome().await.status, TaskStatus::Success);

    for (name, text) in [
        (
            "/secret",
            "Parameters [/secret] of type SecureString are not supported",
        ),
        ("/none", "Input contains invalid parameters [/none]"),
    ] {
        world.start(
            "alice-2",
            command_line(&format!("printf {{{{ssm:{name}}}}}")),
        );
        assert_eq!(world.outcome().await.output, text);
    }
}

#[tokio::test]
async fn run_as_without_a_user_is_refused_at_the_client() {
    let mut world = World::new();
    let mut document = command(&["id"]);
    document["inputs"] = json!({"runAsEnabled": "true"});
    world.start("alice-1", document);
    let mut client = world.attach(PeerFeatures::ours()).await;

    let text = "Unable to start command: please set the RunAs default user";
    client.wait_for_error(text).await;
    client.ignore_the_rest();

    let outcome = world.outcome().await;
    assert_eq!(
        (outcome.status, outcome.output.as_str()),
        (TaskStatus::Failed, text)
    );
}

#[tokio::test]
async fn command_does_not_start_before_the_client_has_agreed() {
    let mut world = World::new();
    let file = world.folder.path().join("ran");
    world.start("alice-1", command(&["touch", file.to_str().unwrap()]));
    let (_, mut gateway) = soon(world.dialled.recv()).await.unwrap();

    let asked = async {
        while let Some(Ok(frame)) = gateway.next().await {
            let message = Message::decode(&frame.into_data()).unwrap();
            if message.payload_type == PayloadType::HandshakeRequest {
                break;
            }
        }
    };
    soon(asked).await;
    world.supervisor.terminate(&id("alice-1"));

    assert_eq!(world.outcome().await.status, TaskStatus::Success);
    assert!(!file.exists());
}

/// These words, quoted.
fn command(words: &[&str]) -> Value {
    command_line(&shell_words::join(words))
}

fn command_line(commands: &str) -> Value {
    document("NonInteractiveCommands", commands)
}

fn separate(script: &str, output: &str, error: &str) -> Value {
    let mut document = command(&["sh", "-c", script]);
    let linux = &mut document["properties"]["linux"];
    linux["separateOutputStream"] = json!(true);
    linux["stdOutSeparatorPrefix"] = json!(output);
    linux["stdErrSeparatorPrefix"] = json!(error);
    document
}

pub(super) fn document(session_type: &str, commands: &str) -> Value {
    json!({
        "schemaVersion": "1.0", "sessionType": session_type,
        "properties": {"linux": {"commands": commands}},
    })
}

fn recorded(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("alice-1.log")).unwrap()
}

/// A Parameter Store with a greeting and a secret.
#[derive(Debug)]
struct Store;

impl ParameterStore for Store {
    fn get<'a>(&'a self, names: &'a [String]) -> Lookup<'a> {
        let parameter = |name: &str, kind: &str, value: &str| StoredParameter {
            name: name.into(),
            kind: kind.into(),
            value: value.into(),
            ..StoredParameter::default()
        };
        let all = [
            parameter("/greeting", "String", "hello"),
            parameter("/secret", "SecureString", "encrypted"),
        ];
        let found = all
            .into_iter()
            .filter(|parameter| names.contains(&parameter.name));
        let found: Vec<_> = found.collect();
        Box::pin(async move { Ok(found) })
    }
}
