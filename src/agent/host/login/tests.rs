//! The login step for real: the test program runs itself on a terminal and becomes the login.

use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::agent::host::pipes;
use crate::agent::host::process::Processes;
use crate::agent::host::pty::{self, Command, Mode, Output};
use crate::agent::host::users::Account;
use crate::protocol::wire::TerminalSize;

/// Turns [`becomes_the_login_step_when_asked`] into a login; holds its arguments, one a line.
const ARGUMENTS: &str = "SSM_AGENT_TEST_LOGIN";
/// Stands before what the login itself puts out; the test program talks first.
const MARK: &str = "--- login ---";

#[test]
fn becomes_the_login_step_when_asked() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else {
        return;
    };
    println!("{MARK}");
    let _ = main(arguments.lines().map(OsString::from));
    // The exit code is the caller's to see, and the rest of the test program not to be run.
    std::process::exit(99);
}

#[tokio::test]
async fn own_shell_is_a_login_shell_in_the_home_folder() {
    let account = Account::current().unwrap();
    let request = Request {
        session_id: Some("alice-0123".into()),
        ..Request::default()
    };
    let (pty, _processes) = log_in(&request);

    let typed =
        "echo \"<$0|$PWD|$USER|$LOGNAME|$HOME|$TERM|$SSM_SESSION_ID|$AGENT_SECRET>\"; exit\n";
    let mut rest = typed.as_bytes();
    while !rest.is_empty() {
        rest = &rest[pty.write(rest).await.unwrap()..];
    }

    let shell = account
        .shell
        .file_name()
        .map_or("sh".into(), |name| name.to_string_lossy());
    let (name, home) = (&account.name, account.home.display());
    let expected = format!("<-{shell}|{home}|{name}|{name}|{home}|xterm-256color|alice-0123|>");
    let output = read_to_end(&pty).await;
    assert!(
        output.contains(&expected),
        "{expected} is not in {output:?}"
    );
}

#[tokio::test]
async fn command_has_the_login_environment_and_nothing_else() {
    let (pty, _processes) = log_in(&command(&["env"]));

    let output = read_to_end(&pty).await;

    let mut names: Vec<_> = output
        .lines()
        .filter_map(|line| line.split('=').next())
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TERM", "USER"],
        "{output}"
    );
}

#[tokio::test]
async fn limit_of_open_files_and_signals_are_those_of_a_login() {
    let script = "ulimit -Sn; umask; grep -E '^Sig(Blk|Ign)' /proc/self/status";
    let request = Request {
        open_files: Some(333),
        ..command(&["sh", "-c", script])
    };
    let (pty, _processes) = log_in(&request);

    let output = read_to_end(&pty).await;

    let lines: Vec<_> = output.lines().map(|line| line.replace('\t', " ")).collect();
    assert_eq!(lines[..3], ["333", "0022", "SigBlk: 0000000000000000"]);
    let ignored = lines[3].strip_prefix("SigIgn: ").unwrap();
    let ignored = u64::from_str_radix(ignored, 16).unwrap();
    // Above the standard signals stand those that the C library keeps for itself.
    assert_eq!(ignored & 0x7fff_ffff, 0, "{output}");
}

#[tokio::test]
async fn exit_status_is_the_command_s() {
    let (_pty, mut processes) = log_in(&command(&["sh", "-c", "exit 42"]));

    assert_eq!(exit_code(&mut processes).await, 42);
}

#[tokio::test]
async fn unknown_command_is_told_on_the_terminal() {
    let (pty, _processes) = log_in(&command(&["no-such-program-here"]));

    let output = read_to_end(&pty).await;

    assert!(
        output.contains("error: cannot execute no-such-program-here"),
        "{output}"
    );
    assert!(
        output.contains("caused by: No such file or directory"),
        "{output}"
    );
}

#[tokio::test]
async fn unknown_user_is_told_on_the_terminal() {
    let request = Request {
        user: Some("no-such-user-here".into()),
        ..Request::default()
    };
    let (pty, _processes) = log_in(&request);

    let output = read_to_end(&pty).await;

    assert_eq!(output, "error: user no-such-user-here does not exist\r\n");
}

#[tokio::test]
async fn only_root_becomes_somebody_else() {
    let Some(other) = another_user() else { return };
    if nix::unistd::geteuid().is_root() {
        println!("skipped: runs as root");
        return;
    }
    let (pty, _processes) = log_in(&as_user(&other, &["id"]));

    let output = read_to_end(&pty).await;

    let expected = format!(
        "cannot become user {}: the agent does not run as root",
        other.name
    );
    assert!(output.contains(&expected), "{output}");
}

#[tokio::test]
async fn root_becomes_the_user_for_good_with_groups_and_terminal() {
    let Some(other) = another_user() else { return };
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let script = "grep -E '^(Uid|Gid|Groups|CapEff)' /proc/self/status; \
                  stat -L -c 'terminal %u %a' /dev/fd/0; echo written > $(tty)";
    let (pty, _processes) = log_in(&as_user(&other, &["sh", "-c", script]));

    let output = read_to_end(&pty).await;

    let (uid, gid) = (other.uid, other.gid);
    let lines: Vec<_> = output
        .lines()
        .map(|line| line.replace('\t', " ").trim().to_owned())
        .collect();
    assert_eq!(
        lines[0],
        format!("Uid: {uid} {uid} {uid} {uid}"),
        "{output}"
    );
    assert_eq!(
        lines[1],
        format!("Gid: {gid} {gid} {gid} {gid}"),
        "{output}"
    );
    let groups: Vec<_> = lines[2].split(' ').skip(1).collect();
    assert!(groups.contains(&gid.to_string().as_str()), "{output}");
    assert!(!groups.contains(&"0"), "{output}");
    assert_eq!(lines[3], "CapEff: 0000000000000000", "{output}");
    assert_eq!(lines[4], format!("terminal {uid} 620"), "{output}");
    assert_eq!(lines[5], "written", "{output}");
}

#[tokio::test]
async fn detached_login_leads_a_session_and_reads_nothing() {
    let script = "readlink /proc/$$/fd/0; echo $$; cut -d' ' -f6 /proc/$$/stat; exec sleep 1000";
    let login = log_in_detached(&command(&["sh", "-c", script]));

    // The end comes when the command has taken over, not when it is over.
    assert_eq!(read_all(&login.report).await, "");
    let mut output = String::new();
    let told = |output: &str| match output.split_once(MARK) {
        Some((_, told)) => told.split_whitespace().map(str::to_owned).collect(),
        None => Vec::new(),
    };
    while told(&output).len() < 3 || !output.ends_with('\n') {
        match login.output.read().await.unwrap() {
            Output::Bytes(bytes) => output.push_str(std::str::from_utf8(&bytes).unwrap()),
            Output::None | Output::End => panic!("ended: {output:?}"),
        }
    }
    login.processes.end(Duration::from_secs(20)).await;

    let told = told(&output);
    assert_eq!(told[0], "/dev/null");
    assert_eq!(told[1], told[2]);
}

#[tokio::test]
async fn detached_login_reports_its_failure_to_the_agent() {
    let unknown = Request {
        user: Some("no-such-user-here".into()),
        ..command(&["id"])
    };
    for (request, text) in [
        (unknown, "user no-such-user-here does not exist"),
        (
            command(&["no-such-program-here"]),
            "cannot execute no-such-program-here: No such file or directory (os error 2)",
        ),
    ] {
        let login = log_in_detached(&request);

        assert_eq!(read_all(&login.report).await, text);
        let output = read_all(&login.output).await;
        assert!(output.trim_end().ends_with(MARK), "told twice: {output}");
    }
}

fn command(words: &[&str]) -> Request {
    Request {
        command: words.iter().map(OsString::from).collect(),
        ..Request::default()
    }
}

fn as_user(account: &Account, words: &[&str]) -> Request {
    Request {
        user: Some(account.name.clone()),
        ..command(words)
    }
}

/// An account that is on every system, is not root, and whose shell does not refuse logins.
fn another_user() -> Option<Account> {
    let account = Account::find("sync").unwrap();
    if account.is_none() {
        println!("skipped: there is no user sync");
    }
    account
}

fn log_in(request: &Request) -> (pty::Pty, Processes) {
    let (args, environment) = this_program(request);
    let command = Command {
        program: std::env::current_exe().unwrap(),
        args,
        environment,
        mode: Mode::Interactive,
    };
    pty::spawn(
        &command,
        TerminalSize {
            cols: 200,
            rows: 24,
        },
    )
    .unwrap()
}

fn log_in_detached(request: &Request) -> pipes::Spawned {
    let (args, environment) = this_program(&Request {
        detached: true,
        ..request.clone()
    });
    let command = pipes::Command {
        program: std::env::current_exe().unwrap(),
        args,
        environment,
        streams: pipes::Streams::Merged,
    };
    pipes::spawn(&command).unwrap()
}

/// Arguments and environment that make this test program a login.
fn this_program(request: &Request) -> (Vec<OsString>, Vec<(OsString, OsString)>) {
    let arguments: Vec<_> = request
        .to_args()
        .into_iter()
        .map(|argument| argument.into_string().unwrap())
        .collect();
    let args = [
        "--exact",
        "agent::host::login::tests::becomes_the_login_step_when_asked",
        "--nocapture",
    ];
    let environment = vec![
        (ARGUMENTS.into(), arguments.join("\n").into()),
        ("AGENT_SECRET".into(), "leaked".into()),
    ];
    (args.map(OsString::from).to_vec(), environment)
}

async fn read_all(pipe: &pipes::Pipe) -> String {
    let mut text = String::new();
    let read = async {
        while let Output::Bytes(bytes) = pipe.read().await.unwrap() {
            text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    };
    timeout(Duration::from_secs(20), read)
        .await
        .expect("the login should have ended long ago");
    text
}

async fn exit_code(processes: &mut Processes) -> i32 {
    timeout(Duration::from_secs(20), processes.exited())
        .await
        .expect("the login should have ended long ago")
        .code()
}

/// What the login puts out.
async fn read_to_end(pty: &pty::Pty) -> String {
    let mut text = String::new();
    let read = async {
        while let Output::Bytes(bytes) = pty.read().await.unwrap() {
            text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    };
    timeout(Duration::from_secs(20), read)
        .await
        .expect("the login should have ended long ago");
    let (_, output) = text.split_once(MARK).expect("the mark comes first");
    output.trim_start_matches("\r\n").to_owned()
}
