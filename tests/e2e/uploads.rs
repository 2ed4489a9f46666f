//! Records of sessions at the gateway, from the agent's host to `ssm-gateway sessions`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use ssm_agent::protocol::wire::SessionId;
use tokio::time::{Instant, sleep};

use super::programs::{LOOK, PATIENCE, World};
use super::shell::Shell;

#[tokio::test(flavor = "multi_thread")]
async fn gateway_has_the_record_that_is_on_the_host() {
    let (world, node) = uploading().await;
    let mut shell = Shell::open(&world, &node).await;
    let id = shell.id.clone();
    shell.type_text("seq 20000; echo all''done; exit 9\n").await;
    shell.wait_for("alldone").await;
    assert_eq!(shell.ending().await.exit_code, Some(9));

    let listed = until_listed(&world, &id, |listed| {
        listed["Recording"] == "complete" && listed["SameOnNode"] != "-"
    });

    assert_eq!(listed.await["SameOnNode"], "yes");
    let folder = world.folder.path().join("log/sessions");
    let on_host = fs::read(folder.join(format!("{id}.cast"))).unwrap();
    assert!(cast(&world, &id) == on_host, "the casts differ");
    until(|| !is_waiting(&world, &id)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_agent_leaves_what_it_uploaded_and_its_next_run_brings_the_rest_once() {
    let (mut world, node) = uploading().await;
    let mut shell = Shell::open(&world, &node).await;
    let id = shell.id.clone();
    shell.type_text("echo fir''st\n").await;
    shell.wait_for("first").await;
    until(|| text(&cast(&world, &id)).contains("first")).await;
    shell.type_text("echo sec''ond\n").await;
    shell.wait_for("second").await;
    // What the recorder has given to the disk outlives the agent; it takes 50 ms at most.
    let waiting = || spool_has(&world, &id, b"second");
    until(waiting).await;

    world.kill_agent();
    assert!(text(&cast(&world, &id)).contains("first"));
    world.start_agent();
    until_listed(&world, &id, |listed| listed["Recording"] == "complete").await;

    let cast = text(&cast(&world, &id));
    assert_eq!(cast.matches("first").count(), 1, "{cast}");
    assert_eq!(cast.matches("second").count(), 1, "{cast}");
    assert!(
        cast.contains("the agent stopped while the session ran"),
        "{cast}"
    );
    until(|| !is_waiting(&world, &id)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_deletes_before_they_kill_the_agent_stays_at_the_gateway() {
    let (world, node) = uploading().await;
    let mut shell = Shell::open(&world, &node).await;
    let id = shell.id.clone();
    shell.type_text("echo ev''idence\n").await;
    shell.wait_for("evidence").await;
    until(|| text(&cast(&world, &id)).contains("evidence")).await;

    let folder = world.folder.path();
    let (log, state) = (folder.join("log"), folder.join("agent/spool"));
    let (log, state) = (log.display(), state.display());
    // The agent is the parent of the shell.
    let line = format!("rm -rf {log} {state}; rm -rf {state}; kill -9 $PPID\n");
    shell.type_text(&line).await;
    until(|| !folder.join("log").exists() && !spool(&world, &id).exists()).await;

    let listed = until_listed(&world, &id, |listed| listed["Recording"] == "partial").await;
    assert_ne!(listed["SameOnNode"], "yes");
    let kept = text(&cast(&world, &id));
    assert_eq!(kept.matches("evidence").count(), 1, "{kept}");
}

/// A gateway, and an agent that uploads its records there.
async fn uploading() -> (World, String) {
    let mut world = World::start();
    let node = world.register().await;
    world.configure(|config| {
        config["SsmAgent"]["Transcript"] = json!({"Gateway": {"Enabled": true}});
    });
    world.start_agent();
    world.wait_connected(&node).await;
    (world, node)
}

fn cast(world: &World, id: &SessionId) -> Vec<u8> {
    sessions(world, &["cast", id.as_str()])
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What the command prints, nothing if it fails.
fn sessions(world: &World, arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssm-gateway"));
    command.arg("sessions").args(arguments).arg("--state");
    let output = command.arg(world.folder.path().join("gateway")).output();
    output.unwrap().stdout
}

/// The row of a session once it is as wanted.
async fn until_listed(world: &World, id: &SessionId, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut found = Value::Null;
    until(|| {
        let listed: Value = serde_json::from_slice(&sessions(world, &["list", "--json"])).unwrap();
        let rows = listed.as_array().unwrap();
        let row = rows.iter().find(|row| row["SessionId"] == id.as_str());
        found = row.cloned().unwrap_or_default();
        wanted(&found)
    })
    .await;
    found
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it did not come to pass");
        sleep(LOOK).await;
    }
}

/// Whether anything of the session still waits for its upload.
fn is_waiting(world: &World, id: &SessionId) -> bool {
    spool(world, id).exists()
}

/// Whether these bytes wait on the host's disk for their upload.
fn spool_has(world: &World, id: &SessionId, bytes: &[u8]) -> bool {
    let files = fs::read_dir(spool(world, id))
        .into_iter()
        .flatten()
        .flatten();
    files
        .filter_map(|file| fs::read(file.path()).ok())
        .any(|content| content.windows(bytes.len()).any(|part| part == bytes))
}

fn spool(world: &World, id: &SessionId) -> PathBuf {
    world.folder.path().join("agent/spool").join(id.as_str())
}
