use std::time::Duration;

use super::*;
use crate::agent::host::pty::{self, Command, Mode, Output, Pty};
use crate::protocol::wire::TerminalSize;

const GRACE: Duration = Duration::from_millis(200);
const LONG_GRACE: Duration = Duration::from_secs(20);

#[test]
fn killed_leader_has_the_code_a_shell_would_give() {
    assert_eq!(ExitStatus::Exited(3).code(), 3);
    assert_eq!(ExitStatus::Signaled(Signal::SIGKILL).code(), 137);
}

#[tokio::test]
async fn signal_that_killed_the_leader_is_known() {
    let (_pty, mut processes) = sh("kill -TERM $$");

    assert_eq!(soon(processes.exited()).await.code(), 143);
}

#[tokio::test]
async fn status_stays_known_until_the_clean_up_is_over() {
    let (_pty, mut processes) = sh("exit 9");

    assert_eq!(soon(processes.exited()).await, ExitStatus::Exited(9));
    assert_eq!(soon(processes.exited()).await, ExitStatus::Exited(9));
    let leader = processes.leader();
    processes.end(GRACE).await;

    assert_eq!(
        waitpid(leader, Some(WaitPidFlag::WNOHANG)),
        Err(Errno::ECHILD)
    );
}

#[tokio::test]
async fn waiting_may_be_interrupted_at_any_time() {
    let (_pty, mut processes) = sh("sleep 0.05; exit 4");

    let status = loop {
        if let Ok(status) = timeout(Duration::from_millis(1), processes.exited()).await {
            break status;
        }
    };

    assert_eq!(status, ExitStatus::Exited(4));
}

#[tokio::test]
async fn background_jobs_end_with_the_session() {
    let (pty, mut processes) = sh("set -m; sleep 1000 & sleep 1000 & echo ready; exit 0");
    wait_for(&pty, "ready").await;
    soon(processes.exited()).await;
    let session = processes.leader();
    assert_eq!(members(session).len(), 2);

    drop(pty);
    let before = Instant::now();
    processes.end(LONG_GRACE).await;

    assert!(members(session).is_empty());
    assert!(
        before.elapsed() < LONG_GRACE,
        "they should have ended by the hang-up"
    );
}

#[tokio::test]
async fn job_that_ignores_the_hang_up_is_killed_after_the_grace() {
    let (pty, mut processes) = sh("nohup sleep 1000 >/dev/null 2>&1 & sleep 0.1; echo ready");
    wait_for(&pty, "ready").await;
    soon(processes.exited()).await;
    let session = processes.leader();

    drop(pty);
    let before = Instant::now();
    processes.end(GRACE).await;

    assert!(members(session).is_empty());
    assert!(before.elapsed() >= GRACE);
}

#[tokio::test]
async fn who_attends_a_login_is_left_the_time_to_end_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().display();
    let (pty, processes) = sh(&format!(
        "trap '' HUP; (echo ready; exec sleep 1000); sleep 0.1; echo ended > {path}"
    ));
    let processes = processes.attended(true);
    wait_for(&pty, "ready").await;
    let session = processes.leader();

    drop(pty);
    processes.end(GRACE).await;

    assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "ended\n");
    assert!(members(session).is_empty());
}

#[tokio::test]
async fn who_attends_a_login_for_ever_is_killed_too() {
    let (pty, processes) = sh("trap '' HUP; echo ready; while :; do sleep 0.1; done");
    let processes = processes.attended(true);
    wait_for(&pty, "ready").await;
    let session = processes.leader();

    drop(pty);
    let before = Instant::now();
    processes.end(GRACE).await;

    assert!(members(session).is_empty());
    assert!(before.elapsed() >= ATTENDANT_PATIENCE);
}

#[tokio::test]
async fn living_leader_is_hung_up_and_reaped() {
    let (pty, processes) = sh("echo ready; sleep 1000");
    wait_for(&pty, "ready").await;
    let session = processes.leader();

    drop(pty);
    processes.end(LONG_GRACE).await;

    assert!(members(session).is_empty());
    assert_eq!(
        waitpid(session, Some(WaitPidFlag::WNOHANG)),
        Err(Errno::ECHILD)
    );
}

#[tokio::test]
async fn stopped_processes_end_too() {
    let (pty, processes) = sh("sleep 1000 & kill -STOP $!; echo ready; kill -STOP $$");
    wait_for(&pty, "ready").await;
    let session = processes.leader();

    drop(pty);
    processes.end(LONG_GRACE).await;

    assert!(members(session).is_empty());
}

#[tokio::test]
async fn processes_of_other_sessions_are_left_alone() {
    let (other_pty, other) = sh("echo ready; sleep 1000");
    let (pty, processes) = sh("echo ready; sleep 1000");
    wait_for(&other_pty, "ready").await;
    wait_for(&pty, "ready").await;

    drop(pty);
    processes.end(LONG_GRACE).await;

    assert!(!members(other.leader()).is_empty());
    assert_eq!(peek(other.leader()), None);
}

#[tokio::test]
async fn dropped_session_leaves_no_process_behind() {
    let (pty, processes) = sh("trap '' HUP; sleep 1000 & echo ready; sleep 1000");
    wait_for(&pty, "ready").await;
    let session = processes.leader();

    drop(processes);

    // On a busy machine it may take longer than a drop may wait.
    let gone = async {
        while !members(session).is_empty() {
            sleep(FIRST_LOOK).await;
        }
    };
    soon(gone).await;
}

fn sh(script: &str) -> (Pty, Processes) {
    let command = Command {
        program: "/usr/bin/setsid".into(),
        args: ["--ctty", "/bin/sh", "-c", script].map(Into::into).into(),
        environment: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())],
        mode: Mode::Interactive,
    };
    pty::spawn(&command, TerminalSize { cols: 80, rows: 24 }).unwrap()
}

async fn wait_for(pty: &Pty, text: &str) {
    let mut seen = String::new();
    while !seen.contains(text) {
        match soon(pty.read()).await.unwrap() {
            Output::Bytes(bytes) => seen.push_str(&String::from_utf8_lossy(&bytes)),
            Output::None | Output::End => panic!("output ended: {seen:?}"),
        }
    }
}

async fn soon<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(20), future)
        .await
        .expect("it should have happened long ago")
}
