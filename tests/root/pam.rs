//! Sessions that log in by the rules of the host's PAM: the real library and modules, with services of the
//! story's own.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use ssm_agent::protocol::wire::task::TaskStatus;

use crate::namespace::{alone, sh};
use crate::world::{World, run_as};

const SERVICE: &str = "ssm-story";
/// What any service of a story needs.
const PERMIT: &str =
    "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n";

#[test]
fn limits_variables_and_groups_of_the_host_reach_the_session() {
    alone(|| async {
        sh("groupadd extra; useradd -m -s /bin/sh bob
            echo 'bob hard nofile 321' > /etc/security/limits.d/story.conf
            echo '*;*;bob;Al0000-2400;extra' >> /etc/security/group.conf
            printf 'FLAVOUR=of the host\\nUSER=root\\nPATH=/opt/host:/usr/bin:/bin\\n' > /etc/story-environment");
        service(
            "auth required pam_permit.so
             auth optional pam_group.so
             account required pam_unix.so
             session required pam_limits.so
             session required pam_env.so envfile=/etc/story-environment",
        );
        let mut world = with_pam();

        let script = "ulimit -n; echo $FLAVOUR; echo $USER $HOME; echo $PATH; id -Gn; id -u; grep CapEff /proc/self/status";
        let ran = world.command(script, run_as("bob", "")).await;

        let id = sh("id -u bob");
        assert_eq!(
            ran.lines(),
            [
                "321",
                "of the host",
                "bob /home/bob",
                "/opt/host:/usr/bin:/bin",
                "bob extra",
                id.trim(),
                "CapEff:\t0000000000000000"
            ],
            "{ran:?}"
        );
        assert_eq!(ran.errors, "");
    });
}

#[test]
fn session_is_ended_as_root_when_its_processes_are_gone() {
    alone(|| async {
        sh("useradd -m bob");
        tracing_service();
        let mut world = with_pam();

        let command = world
            .command("cat /home/trace; exit 7", run_as("bob", ""))
            .await;
        let shell = world
            .shell(
                "cat /home/trace; nohup sleep 98783 & exit 3\n",
                run_as("bob", ""),
            )
            .await;

        assert_eq!(command.outcome.exit_code, Some(7), "{command:?}");
        assert_eq!(command.output, "open_session bob root\n");
        assert_eq!(shell.outcome.exit_code, Some(3), "{shell:?}");
        let trace = fs::read_to_string("/home/trace").unwrap();
        let once = "open_session bob root\nclose_session bob root\n";
        assert_eq!(trace, once.repeat(2));
        assert_eq!(sh("pgrep -f 'sleep 9878[3]' || true"), "");
        assert_eq!(attendants(), "");
    });
}

#[test]
fn session_that_is_cut_off_is_ended_too_even_if_it_ignores_the_hang_up() {
    alone(|| async {
        sh("useradd -m -s /bin/bash bob");
        tracing_service();
        let mut world = with_pam();

        let ran = world
            .cut_off(
                "trap '' HUP TERM; sleep 98784 & echo rea''dy; wait\n",
                "ready",
                run_as("bob", ""),
            )
            .await;

        assert_ne!(ran.outcome.status, TaskStatus::Failed, "{ran:?}");
        let trace = fs::read_to_string("/home/trace").unwrap();
        assert_eq!(trace, "open_session bob root\nclose_session bob root\n");
        assert_eq!(sh("pgrep -f 'sleep 9878[4]' || true"), "");
        assert_eq!(attendants(), "");
    });
}

#[test]
fn signal_that_ended_the_command_is_known() {
    alone(|| async {
        sh("useradd -m bob");
        service(PERMIT);

        let ran = with_pam().command("kill -KILL $$", run_as("bob", "")).await;

        assert_eq!(ran.outcome.exit_code, Some(137), "{ran:?}");
    });
}

#[test]
fn shell_has_job_control_and_is_told_to_who_last_and_lastlog() {
    alone(|| async {
        sh("useradd -m -s /bin/bash bob; : > /var/log/wtmp; : > /var/log/lastlog; mount -t tmpfs tmpfs /run
            : > /run/utmp");
        service(PERMIT);
        let mut world = with_pam();

        let text =
            "stty size; sleep 98785 & jobs; kill %1; echo \"<$(ps -o stat= -p $$)>\"; who; exit\n";
        let ran = world.shell(text, run_as("bob", "")).await;

        assert!(ran.output.contains("24 80"), "{ran:?}");
        assert!(ran.output.contains("Running"), "{ran:?}");
        assert!(!ran.output.contains("no job control"), "{ran:?}");
        let who = ran
            .lines()
            .into_iter()
            .find(|line| line.starts_with("bob "));
        let who = who.unwrap_or_else(|| panic!("who does not know them: {ran:?}"));
        assert!(who.contains("pts/") && who.contains("(ssm:alice-"), "{who}");
        assert_eq!(sh("who"), "");
        let wtmp = sh("utmpdump /var/log/wtmp 2>/dev/null");
        let [came, left] = &wtmp.lines().collect::<Vec<_>>()[..] else {
            panic!("{wtmp}");
        };
        assert!(
            came.starts_with("[7] ") && came.contains("[bob     ] [pts/"),
            "{wtmp}"
        );
        assert!(came.contains("[ssm:alice-0123456789abcdef0]"), "{wtmp}");
        assert!(
            left.starts_with("[8] ") && left.contains("[        ] [pts/"),
            "{wtmp}"
        );
        let lastlog = fs::read("/var/log/lastlog").unwrap();
        let uid: usize = sh("id -u bob").trim().parse().unwrap();
        assert_eq!(lastlog.len(), 292 * (uid + 1));
        assert!(
            lastlog[292 * uid..]
                .windows(4)
                .any(|window| window == b"pts/")
        );
    });
}

#[test]
fn who_may_not_log_in_is_told_why() {
    alone(|| async {
        sh(
            "useradd -m bob; useradd -m -e 2001-01-01 eve; useradd -m mallory; chage -d 0 mallory
            echo 'closed for the night' > /etc/nologin",
        );
        let mut world = with_pam();

        service(&format!("account required pam_unix.so\n{PERMIT}"));
        let expired = [
            world.command("id", run_as("eve", "")).await,
            world.shell("id\n", run_as("eve", "")).await,
        ];
        let old_password = world.shell("id -un; exit\n", run_as("mallory", "")).await;
        service(&format!(
            "account required pam_nologin.so file=/etc/nologin\n{PERMIT}"
        ));
        let closed = world.command("id", run_as("bob", "")).await;

        for ran in expired {
            let text = format!("{} {}", ran.outcome.output, ran.output);
            let expected = "user eve may not log in by the rules of PAM's service ssm-story: Your account has expired";
            assert!(text.contains(expected), "{ran:?}");
            assert!(!ran.output.contains("uid="), "{ran:?}");
        }
        // It is not by a password that they came.
        assert!(
            old_password
                .output
                .contains("the password of user mallory has expired"),
            "{old_password:?}"
        );
        assert!(
            old_password.output.contains("$ mallory\r\n"),
            "{old_password:?}"
        );
        assert!(
            closed.failure().contains("closed for the night"),
            "{closed:?}"
        );
        assert!(!closed.output.contains("uid="), "{closed:?}");
    });
}

#[test]
fn rules_that_do_not_work_are_told_and_nobody_gets_in() {
    alone(|| async {
        sh("useradd -m bob");
        let mut world = with_pam();

        let absent = world.command("id", run_as("bob", "")).await;
        service(&format!("account required pam_no_such_module.so\n{PERMIT}"));
        let broken = world.command("id", run_as("bob", "")).await;
        service(&format!("session required pam_deny.so\n{PERMIT}"));
        let denied = world.command("id", run_as("bob", "")).await;

        let expected = "PAM, which has no service ssm-story: there is no /etc/pam.d/ssm-story";
        assert!(absent.failure().contains(expected), "{absent:?}");
        assert!(
            broken.failure().contains("PAM's service ssm-story"),
            "{broken:?}"
        );
        assert!(
            denied.failure().contains("PAM's service ssm-story"),
            "{denied:?}"
        );
        for ran in [absent, broken, denied] {
            assert!(!ran.output.contains("uid="), "{ran:?}");
        }
    });
}

#[test]
fn host_without_the_library_says_so() {
    alone(|| async {
        sh("useradd -m bob");
        service(PERMIT);
        let library = sh("ldconfig -p | sed -n 's/.*libpam.so.0.*=> //p' | head -1");
        // What is not a library any more cannot be loaded.
        sh(&format!("mount --bind /dev/null $(readlink -f {library})"));

        let ran = with_pam().command("id", run_as("bob", "")).await;

        let expected = "sessions are configured to log in through PAM, which cannot be used: ";
        assert!(ran.failure().contains(expected), "{ran:?}");
        assert!(ran.failure().contains("libpam.so.0"), "{ran:?}");
    });
}

#[test]
fn elevated_command_logs_in_as_root_by_the_same_rules() {
    alone(|| async {
        tracing_service();
        let elevated = |start: &mut Value| {
            start["DocumentContent"]["properties"]["linux"]["runAsElevated"] = json!(true);
        };

        let ran = with_pam().command("id -u", elevated).await;

        assert_eq!(ran.output, "0\n");
        let trace = fs::read_to_string("/home/trace").unwrap();
        assert_eq!(trace, "open_session root root\nclose_session root root\n");
    });
}

#[test]
fn rules_of_the_package_let_people_in_on_this_host() {
    alone(|| async {
        if !Path::new("/etc/pam.d/common-session").exists() {
            println!("left out: this host is none of Debian's family");
            return;
        }
        sh("useradd -m bob");
        let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/pam/debian");
        fs::copy(rules, format!("/etc/pam.d/{SERVICE}")).unwrap();

        let ran = with_pam().command("id -un", run_as("bob", "")).await;

        assert_eq!(
            (ran.output.as_str(), ran.errors.as_str()),
            ("bob\n", ""),
            "{ran:?}"
        );
    });
}

/// Processes that attend logins of this story.
fn attendants() -> String {
    sh(&format!(
        "pgrep -P {} -x ssm-login || true",
        std::process::id()
    ))
}

fn with_pam() -> World {
    World::with(|settings| settings.pam_service = Some(SERVICE.into()))
}

fn service(rules: &str) {
    fs::write(format!("/etc/pam.d/{SERVICE}"), rules).unwrap();
}

/// A service that writes down what it was asked to do, for whom and as whom.
fn tracing_service() {
    let script = "/home/trace-pam";
    fs::write(
        script,
        "#!/bin/sh\necho \"$PAM_TYPE $PAM_USER $(id -un)\" >> /home/trace\n",
    )
    .unwrap();
    let made = Command::new("chmod")
        .args(["755", script])
        .status()
        .unwrap();
    assert!(made.success());
    service(&format!(
        "session required pam_exec.so seteuid quiet {script}\n{PERMIT}"
    ));
}
