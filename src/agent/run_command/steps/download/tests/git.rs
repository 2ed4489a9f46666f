//! The source `Git`, with a program in the place of git that tells what it was asked.

use std::io::ErrorKind;
use std::time::Duration;

use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::*;

/// Notes its arguments and what it finds of secrets, and clones a tree that the file `tree` makes.
const STAND_IN: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$@" >>"$here/arguments"
env | grep -v '^PWD=\|^OLDPWD=' >>"$here/environment"
for last; do :; done
case "$*" in
*" clone "*)
    "$GIT_ASKPASS" "Username for 'https://$SSM_GIT_HOST': " >>"$here/asked" 2>/dev/null
    "$GIT_ASKPASS" "Password for 'https://x@$SSM_GIT_HOST': " >>"$here/asked" 2>/dev/null
    for word in $GIT_SSH_COMMAND; do [ -f "$word" ] && cat "$word" >>"$here/asked"; done
    mkdir -p "$last/.git" && cd "$last" && . "$here/tree"
    ;;
esac
"#;

impl World {
    /// A world with a stand-in for git that makes a tree by these commands.
    async fn with_git(tree: &str) -> Self {
        let secret = r#"{"Parameters":[{"Name":"p","Type":"SecureString","Value":"se;cr't $x"}]}"#;
        let mut world = Self::new(move |_| Reply::json(secret)).await;
        let program = world.root.path().join("git");
        fs::write(&program, STAND_IN).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(world.root.path().join("tree"), tree).unwrap();
        // Another test may have made a process meanwhile that has the file open for a moment.
        let is_busy = |error: &io::Error| error.kind() == ErrorKind::ExecutableFileBusy;
        while std::process::Command::new(&program)
            .output()
            .is_err_and(|error| is_busy(&error))
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for noted in ["arguments", "environment"] {
            fs::remove_file(world.root.path().join(noted)).unwrap();
        }
        world.settings.git = program;
        world
    }

    fn noted(&self, name: &str) -> String {
        fs::read_to_string(self.root.path().join(name)).unwrap_or_default()
    }
}

#[tokio::test]
async fn repository_is_moved_to_the_destination_and_secrets_are_on_no_command_line() {
    let world =
        World::with_git("mkdir a; echo x >a/run.sh; ln -s a/run.sh link; echo y >.git/HEAD").await;
    let info = json!({
        "repository": "https://me@git.example/a.git", "username": "you",
        "password": "{{ ssm-secure:p }}", "getOptions": "branch:refs/heads/main",
    });

    world.download("Git", info, "code").await.unwrap();

    let code = world.downloads().join("code");
    assert_eq!(
        listed(&files(&code)),
        [(".git/HEAD", "y\n"), ("a/run.sh", "x\n"), ("link", "x\n")]
    );
    let mode = fs::metadata(code.join("a/run.sh"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
    let arguments = world.noted("arguments");
    let lines: Vec<&str> = arguments.lines().collect();
    assert!(
        lines[0].contains("clone --quiet --no-checkout --template= -- https://git.example/a.git ")
    );
    assert!(
        lines[1].ends_with("checkout --quiet --force main --"),
        "{arguments}"
    );
    assert_eq!(world.noted("asked"), "youse;cr't $x");
    for place in ["arguments", "environment"] {
        assert!(!world.noted(place).contains("cr't"), "{place}");
    }
    assert!(world.noted("environment").contains("GIT_TERMINAL_PROMPT=0"));
    // Nothing is left but what was wanted.
    assert!(!world.folder.join("load/git").exists());
    let kept = files(&world.folder);
    assert!(kept.iter().all(|(_, content)| !content.contains("cr't")));
}

#[tokio::test]
async fn key_for_ssh_is_in_a_file_while_git_runs() {
    let world = World::with_git("echo x >f").await;
    let info = json!({
        "repository": "git@git.example:a.git", "privateSSHKey": "{{ssm-secure:p}}",
        "skipHostKeyChecking": true, "getOptions": "commitID:abc123",
    });

    world.download("Git", info, "").await.unwrap();

    assert_eq!(world.noted("asked"), "se;cr't $x\n");
    assert!(
        world
            .noted("environment")
            .contains("StrictHostKeyChecking=no")
    );
    assert!(
        world
            .noted("arguments")
            .contains("checkout --quiet --force --detach abc123 --")
    );
    assert!(!world.folder.join("load/git").exists());
}

#[tokio::test]
async fn links_that_lead_out_are_refused_and_nothing_is_moved() {
    for link in ["/etc/passwd", "../../../../outside"] {
        let world = World::with_git(&format!("echo x >file; ln -s {link} link")).await;

        let refused = world
            .download("Git", json!({"repository": "/srv/a.git"}), "in")
            .await;

        assert_eq!(
            refused.unwrap_err(),
            "link is a symbolic link that leads out of the repository"
        );
        assert_eq!(files(&world.downloads().join("in")), []);
        assert!(!world.folder.join("load/git").exists());
    }
}

#[tokio::test]
async fn failures_of_git_are_told_in_its_words_without_secrets() {
    let world = World::with_git("echo 'fatal: no such repository' >&2; exit 128").await;
    let repository = json!({"repository": "https://me:hidden@git.example/a.git"});
    let failed = world.download("Git", repository, "").await.unwrap_err();
    assert_eq!(
        failed,
        "Cannot clone repository https://git.example/a.git: fatal: no such repository"
    );

    let mut world = World::with_git("true").await;
    world.settings.git = "/no/such/git".into();
    let missing = world
        .download("Git", json!({"repository": "/srv/a"}), "")
        .await;
    assert_eq!(
        missing.unwrap_err(),
        "Cannot clone repository /srv/a: there is no git on this host"
    );
    for (info, why) in [
        (json!({}), "the repository must be specified in SourceInfo"),
        (
            json!({"repository": "https://h/a", "privateSSHKey": "k"}),
            "privateSSHKey is not for repositories at http and https, which take username and password",
        ),
        (
            json!({"repository": "git@h:a", "password": "p"}),
            "username and password are for repositories at http and https, others take privateSSHKey",
        ),
        (
            json!({"repository": "https://h/a", "getOptions": "main"}),
            "getOptions is not specified in the right format",
        ),
    ] {
        assert_eq!(world.download("Git", info, "").await.unwrap_err(), why);
    }
}

#[tokio::test]
async fn cancelled_clone_ends_with_everything_it_started() {
    let world = World::with_git("setsid sleep 600 & echo $! >\"$here/pid\"; sleep 600").await;
    let inputs = json!({"sourceType": "Git", "sourceInfo": {"repository": "/srv/a.git"}});
    let cancel = CancellationToken::new();

    let running = steps::run(
        world.task("aws:downloadContent", &inputs, Begun::No),
        &cancel,
    );
    let cancelling = async {
        while !world.noted("pid").ends_with('\n') {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cancel.cancel();
    };
    let (ended, ()) = tokio::join!(running, cancelling);

    assert_eq!(ended.status, Status::Cancelled);
    let pid = Pid::from_raw(world.noted("pid").trim().parse().unwrap());
    wait_for_end(pid).await;
    assert!(!world.folder.join("load/git").exists());
}

#[tokio::test]
async fn clone_that_a_killed_agent_left_running_is_ended_and_begun_again() {
    let world =
        World::with_git("echo $$ >\"$here/pid\"; [ -e \"$here/again\" ] || sleep 600; echo x >f")
            .await;
    let inputs = json!({"sourceType": "Git", "sourceInfo": {"repository": "/srv/a.git"}});
    let task = world.task("aws:downloadContent", &inputs, Begun::No);
    // As if an agent had begun with it and was killed.
    let left = std::process::Command::new("sleep")
        .arg("600")
        .env(processes::MARKER, task.mark())
        .spawn();
    let mut left = left.unwrap();
    fs::create_dir_all(world.folder.join("load/git/credentials")).unwrap();
    fs::write(world.folder.join("load/git/credentials/password"), "old").unwrap();
    fs::write(world.root.path().join("again"), "").unwrap();

    let task = world.task("aws:downloadContent", &inputs, Begun::ThisBoot);
    let ended = steps::run(task, &CancellationToken::new()).await;

    assert_eq!(ended.status, Status::Success, "{}", ended.error_output);
    assert_eq!(listed(&files(&world.downloads())), [("f", "x\n")]);
    assert!(!left.wait().unwrap().success());
    assert!(!world.folder.join("load/git").exists());
}

use super::super::super::processes;

/// Waits until a process is gone, or is a zombie that nobody reaps.
async fn wait_for_end(pid: Pid) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    let lives = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .trim()
            .chars()
            .next();
        kill(pid, None).is_ok() && state.is_some_and(|state| state != 'Z')
    };
    while lives() {
        assert!(tokio::time::Instant::now() < deadline, "{pid} lives");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
