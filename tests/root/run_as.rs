//! Sessions that run as somebody: the user of the start message, the document's default, root.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use ssm_agent::protocol::wire::task::TaskStatus;

use crate::namespace::{alone, sh};
use crate::world::{PROGRAM, World, run_as};

/// What a session finds of its user.
const WHO: &str = "echo \"$(id -un) $(id -Gn) $HOME $USER $LOGNAME $SHELL $PWD\"";

#[test]
fn user_of_the_start_message_goes_before_the_default_and_is_whole() {
    alone(|| async {
        sh("groupadd ops; useradd -m -G ops -s /bin/sh bob; useradd -m -d /home/elsewhere eve");
        let mut world = World::new();

        let named = world.command(WHO, run_as("bob", "eve")).await;
        let default = world.command(WHO, run_as(" ", "eve")).await;

        let bob = "bob bob ops /home/bob bob bob /bin/sh /home/bob\n";
        assert_eq!((named.output.as_str(), named.errors.as_str()), (bob, ""));
        assert!(
            default
                .output
                .starts_with("eve eve /home/elsewhere eve eve"),
            "{default:?}"
        );
        assert!(!Path::new("/home/ssm-user").exists(), "nobody asked for it");
    });
}

#[test]
fn shell_is_the_user_s_login_shell_on_a_terminal_of_its_own() {
    alone(|| async {
        sh("useradd -m -s /bin/bash bob; echo 'echo from-profile' > /home/bob/.bash_profile");

        let text = "echo \"<$0 $(stat -L -c %U $(tty))>\"; grep CapEff /proc/self/status; exit\n";
        let ran = World::new().shell(text, run_as("bob", "")).await;

        assert!(ran.output.contains("<-bash bob>"), "{ran:?}");
        assert!(ran.lines().contains(&"from-profile"), "{ran:?}");
        assert!(ran.output.contains("0000000000000000"), "{ran:?}");
    });
}

#[test]
fn nobody_runs_as_root() {
    alone(|| async {
        sh("useradd -m bob
            echo 'toor:x:0:1000::/root:/bin/sh' >> /etc/passwd
            echo 'wheel:x:4321:0::/root:/bin/sh' >> /etc/passwd");
        let mut world = World::new();

        for user in ["root", "toor", "wheel"] {
            for ran in [
                world.command("id", run_as(user, "bob")).await,
                world.shell("id\n", run_as("", user)).await,
            ] {
                assert_eq!(
                    ran.failure(),
                    format!(
                        "Unable to start command: user {user} cannot run sessions: invalid uid and gid"
                    )
                );
                assert!(!ran.output.contains("uid="), "{ran:?}");
            }
        }
    });
}

#[test]
fn user_that_cannot_log_in_is_told_at_the_client() {
    alone(|| async {
        sh("useradd -m -s /usr/sbin/nologin daemonlike; useradd -m -s /opt/zsh shellless");
        let mut world = World::new();

        for (user, reason) in [
            ("", "please set the RunAs default user"),
            (
                "ghost",
                "failed to start pty since RunAs user ghost does not exist",
            ),
            (
                "x; touch /home/pwned",
                "failed to start pty since RunAs user x; touch /home/pwned does not exist",
            ),
            (
                "daemonlike",
                "user daemonlike may not log in: the account's shell is /usr/sbin/nologin",
            ),
            (
                "shellless",
                "user shellless cannot log in: the account's shell /opt/zsh does not exist",
            ),
        ] {
            let ran = world.shell("id\n", run_as("", user)).await;

            assert_eq!(ran.failure(), format!("Unable to start command: {reason}"));
        }
        assert!(!Path::new("/home/pwned").exists());
        // A command needs no shell of the user.
        let ran = world.command("id -un", run_as("shellless", "")).await;
        assert_eq!(ran.output, "shellless\n");
    });
}

#[test]
fn user_without_a_home_starts_in_the_root_folder_and_is_told() {
    alone(|| async {
        sh("useradd -M -d /home/nowhere bob");

        let ran = World::new()
            .command("pwd; echo $HOME", run_as("bob", ""))
            .await;

        assert_eq!(ran.output, "/\n/\n");
        assert!(
            ran.errors
                .starts_with("warning: cannot enter the home folder /home/nowhere"),
            "{ran:?}"
        );
        assert_eq!(ran.outcome.status, TaskStatus::Success);
    });
}

#[test]
fn user_that_changes_between_check_and_use_gets_nothing() {
    alone(|| async {
        for (change, reason) in [
            ("/^bob:/d", "user bob does not exist"),
            (
                "s/^bob:x:[0-9]*:/bob:x:0:/",
                "user bob cannot run sessions: invalid uid and gid",
            ),
        ] {
            let fresh = "sed -i /^bob:/d /etc/passwd
                         echo 'bob:x:4321:4321::/home:/bin/sh' >> /etc/passwd";
            let meddler = meddler(change);
            let mut world = World::with(|settings| settings.program = meddler);

            sh(fresh);
            let ran = world.command("id", run_as("bob", "")).await;
            sh(fresh);
            let shell = world.shell("id\n", run_as("bob", "")).await;

            assert_eq!(
                ran.failure(),
                format!("Error occurred starting the command: {reason}")
            );
            assert_eq!(ran.output, "");
            assert!(
                shell.output.contains(&format!("error: {reason}")),
                "{shell:?}"
            );
            assert!(!shell.output.contains("uid="), "{shell:?}");
        }
    });
}

#[test]
fn elevated_command_is_root_s_whatever_run_as_says() {
    alone(|| async {
        sh("useradd -m bob");
        let elevated = |start: &mut Value| {
            run_as("bob", "")(start);
            start["DocumentContent"]["properties"]["linux"]["runAsElevated"] = json!(true);
        };

        let ran = World::new().command(WHO, elevated).await;

        assert!(
            ran.output.starts_with("root root /root root root"),
            "{ran:?}"
        );
        assert!(!Path::new("/home/ssm-user").exists());
    });
}

#[test]
fn agent_in_a_container_runs_everything_as_itself() {
    alone(|| async {
        let mut world = World::with(|settings| settings.in_container = true);

        for change in [run_as("bob", ""), run_as("", "")] {
            let ran = world.command("id -un", change).await;
            assert_eq!(ran.output, "root\n");
        }
    });
}

#[test]
fn environment_is_the_user_s_and_holds_nothing_of_the_agent() {
    alone(|| async {
        sh("useradd -m -s /bin/sh bob");
        let program = script(
            "wrapper",
            &format!("export AWS_SECRET_ACCESS_KEY=leaked; exec {PROGRAM} \"$@\""),
        );
        let mut world = World::with(|settings| settings.program = program);

        let ran = world
            .command("env | cut -d= -f1 | sort", run_as("bob", ""))
            .await;

        assert_eq!(
            ran.lines(),
            [
                "HOME",
                "LANG",
                "LOGNAME",
                "PATH",
                "PWD",
                "SHELL",
                "SSM_SESSION_ID",
                "TERM",
                "USER"
            ]
        );
    });
}

#[test]
fn jobs_of_another_user_end_with_the_session() {
    alone(|| async {
        sh("useradd -m bob");
        let script = "trap '' HUP; sleep 98781 & nohup sleep 98782 >/dev/null 2>&1 & echo started";

        let ran = World::new().command(script, run_as("bob", "")).await;

        assert_eq!(ran.output, "started\n");
        assert_eq!(sh("pgrep -f 'sleep 9878[12]' || true"), "");
    });
}

/// A program that changes the user database with sed before it takes the login step.
fn meddler(change: &str) -> PathBuf {
    script(
        "meddler",
        &format!("sed -i '{change}' /etc/passwd; exec {PROGRAM} \"$@\""),
    )
}

fn script(name: &str, body: &str) -> PathBuf {
    let path = Path::new("/home").join(name);
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}
