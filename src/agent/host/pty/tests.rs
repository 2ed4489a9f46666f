//! Real shells on real terminals, as the user who runs the tests.

use std::future::Future;
use std::time::Duration;

use super::*;
use crate::agent::host::process::ExitStatus;

const SIZE: TerminalSize = TerminalSize { cols: 80, rows: 24 };
/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn shell_puts_out_what_it_prints_and_its_exit_status_is_known() {
    let (pty, mut processes) = sh("echo hello; exit 7");

    assert_eq!(read_to_end(&pty).await, "hello\r\n");
    assert_eq!(soon(processes.exited()).await, ExitStatus::Exited(7));
}

#[tokio::test]
async fn terminal_echoes_what_is_typed() {
    let (pty, _processes) = sh("cat");

    type_text(&pty, "typed\n").await;

    assert_eq!(
        read_until(&pty, "typed\r\ntyped\r\n").await,
        "typed\r\ntyped\r\n"
    );
}

#[tokio::test]
async fn plain_terminal_neither_echoes_nor_changes_output() {
    let command = Command {
        mode: Mode::Plain,
        ..sh_command("read line; printf 'got %s\\n' \"$line\"")
    };
    let (pty, _processes) = spawn(&command, SIZE).unwrap();

    type_text(&pty, "typed\n").await;

    assert_eq!(read_to_end(&pty).await, "got typed\n");
}

#[tokio::test]
async fn size_at_start_and_after_a_change_are_seen_by_programs() {
    let size = TerminalSize {
        cols: 132,
        rows: 50,
    };
    let (pty, _processes) = spawn(&sh_command("stty size; read go; stty size"), size).unwrap();
    read_until(&pty, "50 132\r\n").await;

    pty.resize(TerminalSize {
        cols: 100,
        rows: 30,
    })
    .unwrap();
    type_text(&pty, "go\n").await;

    assert_eq!(read_to_end(&pty).await, "go\r\n30 100\r\n");
}

#[tokio::test]
async fn change_of_size_is_signalled_to_the_foreground_job() {
    let script = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.01; done";
    let (pty, _processes) = sh(script);
    read_until(&pty, "ready\r\n").await;

    pty.resize(TerminalSize { cols: 61, rows: 17 }).unwrap();

    assert_eq!(read_to_end(&pty).await, "17 61\r\n");
}

#[tokio::test]
async fn control_c_ends_the_foreground_job_and_not_the_shell() {
    let (pty, mut processes) = spawn(&interactive_sh(), SIZE).unwrap();
    type_text(&pty, "sleep 1000\n").await;
    read_until(&pty, "sleep 1000\r\n").await;

    // The shell has to have put the job into the foreground, or ^C reaches the shell's own prompt.
    while foreground_name(&processes) != "sleep" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    type_text(&pty, "\x03").await;
    type_text(&pty, "echo alive=$((40+2)); exit 5\n").await;

    let output = read_to_end(&pty).await;
    assert!(output.contains("alive=42"), "{output:?}");
    assert_eq!(soon(processes.exited()).await, ExitStatus::Exited(5));
}

#[tokio::test]
async fn bulk_output_comes_in_large_reads_without_loss() {
    let (pty, _processes) = sh("stty -opost; seq 1 200000; sleep 0.2");
    let expected: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
    let mut output = Vec::new();
    let mut largest = 0;

    while let Output::Bytes(bytes) = soon(pty.read()).await.unwrap() {
        assert!(bytes.len() <= READ_SIZE);
        largest = largest.max(bytes.len());
        output.extend_from_slice(&bytes);
        // A reader that has more to do than to read.
        tokio::time::sleep(Duration::from_micros(200)).await;
    }

    assert!(output == expected.as_bytes(), "got {} bytes", output.len());
    assert!(largest > 4095, "largest read was {largest}");
}

#[tokio::test]
async fn paste_of_a_megabyte_arrives_whole_in_a_program_in_raw_mode() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pasted");
    let paste: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    let script = format!(
        "stty raw -echo; echo ready; head -c {} > '{}'; echo done",
        paste.len(),
        file.display()
    );
    let (pty, _processes) = sh(&script);
    read_until(&pty, "ready").await;

    let mut rest = &paste[..];
    while !rest.is_empty() {
        let written = soon(pty.write(rest)).await.unwrap();
        rest = &rest[written..];
    }

    read_until(&pty, "done").await;
    assert!(std::fs::read(&file).unwrap() == paste);
}

#[tokio::test]
async fn full_terminal_takes_no_more_input_and_keeps_what_it_took() {
    let (pty, _processes) = sh("stty raw -echo; echo ready; sleep 1000");
    read_until(&pty, "ready").await;
    let chunk = [b'x'; 4096];

    let filled = tokio::time::timeout(Duration::from_millis(200), async {
        loop {
            pty.write(&chunk).await.unwrap();
        }
    });

    assert!(
        filled.await.is_err(),
        "a terminal nobody reads took input for ever"
    );
}

#[tokio::test]
async fn environment_is_exactly_what_was_given() {
    let mut command = sh_command("env | grep -v '^\\(PWD\\|_\\|SHLVL\\|OLDPWD\\)='");
    command.environment = vec![("PATH".into(), "/usr/bin:/bin".into())];
    let (pty, _processes) = spawn(&command, SIZE).unwrap();

    let output = read_to_end(&pty).await;

    assert_eq!(output, "PATH=/usr/bin:/bin\r\n");
}

#[tokio::test]
async fn program_that_does_not_exist_is_an_error() {
    let command = Command {
        program: "/nonexistent/program".into(),
        ..sh_command("")
    };

    let error = spawn(&command, SIZE).unwrap_err();

    assert_eq!(error.to_string(), "cannot start /nonexistent/program");
    let SpawnError::Start { source, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(source.kind(), io::ErrorKind::NotFound);
}

#[tokio::test]
async fn what_the_leader_wrote_is_there_once_it_ended_even_if_a_job_keeps_the_terminal() {
    for _ in 0..20 {
        let (pty, mut processes) = sh("sleep 1000 & printf last");
        soon(processes.exited()).await;

        let mut output = Vec::new();
        while let Output::Bytes(bytes) = pty.read_now().unwrap() {
            output.extend_from_slice(&bytes);
        }

        assert_eq!(output, b"last");
        drop(pty);
        processes.end(Duration::from_secs(5)).await;
    }
}

/// Arguments of `env` before those of a shell.
const LEAD: [&str; 3] = ["--default-signal=INT,QUIT", "setsid", "--ctty"];

/// A shell that leads a session with the terminal and does not ignore interrupts, as it would where
/// the tests run in the background; `env` and `setsid` do here what the login step does.
fn sh_command(script: &str) -> Command {
    Command {
        program: "/usr/bin/env".into(),
        args: LEAD
            .iter()
            .chain(&["/bin/sh", "-c", script])
            .map(Into::into)
            .collect(),
        environment: vec![
            ("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into()),
            ("TERM".into(), "xterm-256color".into()),
            ("PS1".into(), "% ".into()),
        ],
        mode: Mode::Interactive,
    }
}

fn interactive_sh() -> Command {
    Command {
        args: LEAD
            .iter()
            .chain(&["/bin/sh", "-i"])
            .map(Into::into)
            .collect(),
        ..sh_command("")
    }
}

fn sh(script: &str) -> (Pty, Processes) {
    spawn(&sh_command(script), SIZE).unwrap()
}

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it should have happened long ago")
}

async fn type_text(pty: &Pty, text: &str) {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        rest = &rest[soon(pty.write(rest)).await.unwrap()..];
    }
}

async fn read_until(pty: &Pty, end: &str) -> String {
    let mut text = String::new();
    while !text.contains(end) {
        match soon(pty.read()).await.unwrap() {
            Output::Bytes(bytes) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
            Output::None | Output::End => panic!("output ended before {end:?}: {text:?}"),
        }
    }
    text
}

async fn read_to_end(pty: &Pty) -> String {
    let mut text = String::new();
    while let Output::Bytes(bytes) = soon(pty.read()).await.unwrap() {
        text.push_str(std::str::from_utf8(&bytes).unwrap());
    }
    text
}

/// Name of the process that leads the terminal's foreground job.
fn foreground_name(processes: &Processes) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", processes.leader())).unwrap();
    let fields: Vec<_> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    let group = fields[5];
    let name = std::fs::read_to_string(format!("/proc/{group}/comm")).unwrap_or_default();
    name.trim().to_owned()
}
