use std::time::Instant;

use serde_json::{Value, json};

use super::*;
use crate::agent::audit::AuditLog;
use crate::agent::run_command::Services;
use crate::agent::run_command::settings::Settings;
use crate::protocol::wire::job::CommandId;

const SHELL: &str = "aws:runShellScript";

/// A command's folder.
struct World {
    _root: tempfile::TempDir,
    settings: Settings,
    services: Services,
    command: CommandId,
    folder: PathBuf,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let settings = Settings {
            region: "eu-central-1".into(),
            platform_name: "Debian".into(),
            platform_version: "12".into(),
            ..Settings::new(root.path().join("mi-1"), "mi-1")
        };
        // Its own for each test: what is killed is found by it.
        let command = CommandId::new(uuid::Uuid::new_v4().to_string()).unwrap();
        let folder = settings.orchestration().join(command.as_str());
        Self {
            _root: root,
            settings,
            services: Services {
                parameters: None,
                client: None,
                audit: AuditLog::off(),
            },
            command,
            folder,
        }
    }

    fn task<'a>(&'a self, id: &'a str, properties: &'a Value, begun: Begun) -> Task<'a> {
        Task {
            settings: &self.settings,
            services: &self.services,
            command: &self.command,
            folder: &self.folder,
            boot_id: "boot",
            within: "",
            depth: 0,
            plugin: SHELL,
            id,
            properties,
            begun,
        }
    }

    async fn run(&self, properties: Value) -> Ended {
        let task = self.task("s", &properties, Begun::No);
        run(task, Shell::Posix, &CancellationToken::new()).await
    }

    /// What a script prints; the one before it is forgotten.
    async fn run_anew(&self, properties: Value) -> String {
        forget(&self.task("s", &properties, Begun::No)).unwrap();
        self.run(properties).await.output
    }

    async fn run_lines(&self, lines: &[&str]) -> Ended {
        self.run(json!({"runCommand": lines})).await
    }
}

#[tokio::test]
async fn script_runs_and_its_streams_are_kept_apart() {
    let world = World::new();

    let ended = world.run_lines(&["echo out", "echo err >&2"]).await;

    assert_eq!((ended.status, ended.code), (Status::Success, 0));
    assert_eq!(
        (ended.output.as_str(), ended.error_output.as_str()),
        ("out\n", "err\n")
    );
    let streams = world.folder.join("awsrunShellScript/s");
    assert_eq!(fs::read_to_string(streams.join("stdout")).unwrap(), "out\n");
    let script = world.folder.join("s/_script.sh");
    assert_eq!(
        fs::read_to_string(&script).unwrap(),
        "echo out\necho err >&2\n"
    );
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&script), 0o700);
    assert_eq!(mode(&streams.join("stdout")), 0o600);
    assert_eq!(mode(&world.folder.join("s")), 0o700);
}

#[tokio::test]
async fn exit_codes_become_statuses() {
    for (line, status, code, error) in [
        (
            "exit 3",
            Status::Failed,
            3,
            "failed to run commands: exit status 3",
        ),
        ("exit 194", Status::SuccessAndReboot, 194, ""),
        ("exit 137", Status::TimedOut, 137, ""),
        // The wrapper's shell says so, as that of the reference does.
        ("kill -9 $$", Status::TimedOut, 137, "Killed\n"),
        (
            "kill -TERM $PPID; sleep 5",
            Status::Failed,
            -1,
            "failed to run commands: signal: terminated",
        ),
        (
            "false",
            Status::Failed,
            1,
            "failed to run commands: exit status 1",
        ),
        (
            "no-such-program-here 2>/dev/null",
            Status::Failed,
            127,
            "failed to run commands: exit status 127",
        ),
    ] {
        let ended = World::new().run_lines(&[line]).await;
        assert_eq!(
            (ended.status, ended.code, ended.error_output.as_str()),
            (status, code, error),
            "{line}"
        );
    }
}

#[tokio::test]
async fn first_line_chooses_the_interpreter() {
    let ended = World::new()
        .run_lines(&["#!/usr/bin/env -S sh -e", "echo $0; false", "echo never"])
        .await;

    assert!(
        ended.output.ends_with("/s/_script.sh\n"),
        "{}",
        ended.output
    );
    assert_eq!(ended.code, 1);
}

#[tokio::test]
async fn environment_is_that_of_the_reference() {
    let world = World::new();

    let ended = world
        .run(json!({
            "runCommand": ["env"],
            "environment": {"MINE": "a b", "SSM_COMMAND_ID": "forged", "AWS_SSM_INSTANCE_ID": "forged"},
        }))
        .await;

    for line in [
        "MINE=a b".to_owned(),
        format!("SSM_COMMAND_ID={}", world.command),
        "AWS_SSM_INSTANCE_ID=mi-1".to_owned(),
        "AWS_SSM_REGION_NAME=eu-central-1".to_owned(),
        "AWS_SSM_PLATFORM_NAME=Debian".to_owned(),
        "AWS_SSM_PLATFORM_VERSION=12".to_owned(),
    ] {
        assert!(ended.output.lines().any(|got| got == line), "{line}");
    }
    assert!(!ended.output.contains("NOTIFY_SOCKET"));
}

#[tokio::test]
async fn scripts_are_told_where_the_credentials_of_the_node_are() {
    let world = World::new();
    let folder = world.settings.state_folder().join("runtimeconfig");
    fs::create_dir_all(&folder).unwrap();
    let note = |file: &str, profile: &str| {
        let text = json!({"SchemaVersion": "1.1", "ShareFile": file, "ShareProfile": profile});
        fs::write(folder.join("identity_config.json"), text.to_string()).unwrap();
    };
    let inputs = json!({
        "runCommand": ["echo f=$AWS_SHARED_CREDENTIALS_FILE p=$AWS_PROFILE"],
        "environment": {"AWS_SHARED_CREDENTIALS_FILE": "own", "AWS_PROFILE": "own"},
    });

    for (file, profile, told) in [
        (
            "/root/.aws/credentials",
            "node",
            "f=/root/.aws/credentials p=node\n",
        ),
        (
            "/root/.aws/credentials",
            "",
            "f=/root/.aws/credentials p=own\n",
        ),
        // They are not shared.
        ("", "", "f=own p=own\n"),
    ] {
        note(file, profile);
        let printed = world.run_anew(inputs.clone()).await;
        assert_eq!(printed, told);
    }
    fs::remove_dir_all(folder).unwrap();
    assert_eq!(world.run_anew(inputs).await, "f=own p=own\n");
}

#[tokio::test]
async fn powershell_gets_the_script_as_the_reference_gives_it() {
    let mut world = World::new();
    let program = world.settings.state_folder().join("pwsh");
    let lines = "#!/bin/sh\necho \"$1\" \"$2\"; head -c 3 \"$2\" | od -An -tx1; tail -n 1 \"$2\"\nenv | grep -e ^HOME= -e ^TERM=\nexit 3\n";
    processes::without_forks(|| write_script(&program, lines)).unwrap();
    world.settings.powershell = vec!["/no/such/powershell".into(), program];
    let properties = json!({
        "runCommand": ["Get-Date", "exit 3"],
        "environment": {"TERM": "xterm", "HOME": "/root"},
    });

    let task = Task {
        plugin: "aws:runPowerShellScript",
        ..world.task("s", &properties, Begun::No)
    };
    let ended = run(task, Shell::Power, &CancellationToken::new()).await;

    let script = world.folder.join("s/_script.ps1");
    assert_eq!(
        ended.output,
        format!("-f {}\n ef bb bf\nexit 3\nHOME=/\n", script.display())
    );
    assert_eq!((ended.status, ended.code), (Status::Failed, 3));
    let streams = world.folder.join("awsrunPowerShellScript/s");
    assert!(streams.join("stdout").exists());
}

#[tokio::test]
async fn powershell_that_is_not_there_is_told() {
    let mut world = World::new();
    world.settings.powershell = vec!["/no/such/pwsh".into()];
    let properties = json!({"runCommand": ["Get-Date"]});

    let task = world.task("s", &properties, Begun::No);
    let ended = run(task, Shell::Power, &CancellationToken::new()).await;

    assert_eq!((ended.status, ended.code), (Status::Failed, 1));
    assert_eq!(
        ended.error_output,
        "failed to run commands: fork/exec /no/such/pwsh: no such file or directory"
    );
}

#[tokio::test]
async fn working_directory_is_where_it_was_asked_for() {
    let world = World::new();
    let pwd = |directory: &str| json!({"runCommand": ["pwd"], "workingDirectory": directory});

    assert_eq!(world.run(pwd("")).await.output, "/usr/bin\n");
    assert_eq!(world.run(pwd("/tmp")).await.output, "/usr/bin\n/tmp\n");
    let ended = world.run(pwd("/no/such/folder")).await;
    assert_eq!(
        ended.error_output,
        "failed to run commands: fork/exec /usr/bin/sh: no such file or directory"
    );
    let other = World::new();
    let downloads = other.folder.join("downloads/repo");
    fs::create_dir_all(&downloads).unwrap();
    let ended = other.run(pwd("repo")).await;
    assert_eq!(ended.output, format!("{}\n", downloads.display()));
}

#[tokio::test]
async fn background_child_does_not_hold_the_step() {
    let began = Instant::now();

    let ended = World::new()
        .run_lines(&["sleep 20 & echo $!", "echo done"])
        .await;

    assert_eq!(ended.status, Status::Success);
    assert!(began.elapsed() < Duration::from_secs(10));
    let child = ended.output.lines().next().unwrap();
    assert!(is_alive(child), "what a script left goes on");
    end(child);
}

#[tokio::test]
async fn late_step_is_killed_whole() {
    let world = World::new();
    let lines = [
        "trap '' TERM HUP INT",
        "echo start",
        "setsid sh -c 'trap \"\" HUP TERM; sleep 60' & echo $!",
        "sleep 60",
    ];

    let began = Instant::now();
    let ended = world
        .run(json!({"runCommand": lines, "timeoutSeconds": 5}))
        .await;

    assert_eq!((ended.status, ended.code), (Status::TimedOut, 137));
    assert!(ended.output.starts_with("start\n"));
    let elapsed = began.elapsed();
    assert!(elapsed >= Duration::from_secs(5) && elapsed < Duration::from_secs(20));
    let daemon = ended.output.lines().nth(1).unwrap();
    assert!(!is_alive(daemon), "it made itself a session of its own");
}

#[tokio::test]
async fn cancelled_step_ends_at_once() {
    let world = World::new();
    let properties = json!({"runCommand": ["echo go", "sleep 60"]});
    let cancel = CancellationToken::new();
    let task = world.task("s", &properties, Begun::No);

    let running = run(task, Shell::Posix, &cancel);
    let cancelling = async {
        until(|| {
            fs::read_to_string(world.folder.join("awsrunShellScript/s/stdout"))
                .is_ok_and(|text| text == "go\n")
        })
        .await;
        cancel.cancel();
    };
    let (ended, ()) = tokio::join!(running, cancelling);

    assert_eq!((ended.status, ended.code), (Status::Cancelled, 137));
}

#[tokio::test]
async fn step_is_gone_on_with_by_the_next_agent() {
    let world = World::new();
    let properties = json!({"runCommand": ["echo once", "sleep 2", "exit 7"]});
    let first = world.task("s", &properties, Begun::No);
    let cancel = CancellationToken::new();
    // The agent dies: nobody polls the step any more.
    let output = world.folder.join("awsrunShellScript/s/stdout");
    tokio::select! {
        _ = run(first, Shell::Posix, &cancel) => panic!("it takes two seconds"),
        () = until(|| fs::read_to_string(&output).is_ok_and(|text| text == "once\n")) => {}
    }

    let next = world.task("s", &properties, Begun::ThisBoot);
    let ended = run(next, Shell::Posix, &cancel).await;

    assert_eq!((ended.status, ended.code), (Status::Failed, 7));
    assert_eq!(ended.output, "once\n");
    let again = world.task("s", &properties, Begun::ThisBoot);
    assert_eq!(
        run(again, Shell::Posix, &cancel).await.code,
        7,
        "its code is on disk"
    );
}

#[tokio::test]
async fn interrupted_step_is_told_and_never_run_again() {
    let world = World::new();
    let properties = json!({"runCommand": ["echo once"]});
    let cancel = CancellationToken::new();
    world.run(properties.clone()).await;
    fs::remove_file(world.folder.join("s/exit")).unwrap();

    for (begun, why) in [
        (
            Begun::ThisBoot,
            "its process ended while the agent was away",
        ),
        (Begun::EarlierBoot, "the host was restarted while it ran"),
    ] {
        let ended = run(world.task("s", &properties, begun), Shell::Posix, &cancel).await;
        assert_eq!((ended.status, ended.code), (Status::Failed, -1));
        assert!(ended.error_output.ends_with(why), "{}", ended.error_output);
        assert_eq!(ended.output, "once\n");
    }
}

#[tokio::test]
async fn step_whose_process_never_was_is_run() {
    let world = World::new();
    let properties = json!({"runCommand": ["echo once"]});

    let task = world.task("s", &properties, Begun::ThisBoot);
    let ended = run(task, Shell::Posix, &CancellationToken::new()).await;

    assert_eq!(
        (ended.status, ended.output.as_str()),
        (Status::Success, "once\n")
    );
}

#[tokio::test]
async fn great_output_is_on_disk_and_its_start_in_memory() {
    let world = World::new();

    let ended = world
        .run_lines(&["head -c 50000000 /dev/zero | tr '\\0' 'x'"])
        .await;

    assert_eq!(ended.status, Status::Success);
    assert!(ended.output.len() < STREAM_LIMIT + 100);
    let stdout = world.folder.join("awsrunShellScript/s/stdout");
    assert_eq!(fs::metadata(stdout).unwrap().len(), 50_000_000);
}

#[tokio::test]
async fn binary_output_is_shown_as_text() {
    let ended = World::new().run_lines(&["printf '\\377\\000a'"]).await;

    assert_eq!(ended.output, "\u{fffd}\u{0}a");
}

#[tokio::test]
async fn closed_streams_and_a_full_disk_are_the_scripts_business() {
    let ended = World::new()
        .run_lines(&["exec >&- 2>&-", "echo lost", "exit 0"])
        .await;
    assert_eq!(ended.status, Status::Success);

    let ended = World::new()
        .run_lines(&["echo x > /dev/full", "exit 9"])
        .await;
    assert_eq!(ended.code, 9);
}

#[tokio::test]
async fn inputs_that_are_wrong_are_told_and_nothing_runs() {
    let world = World::new();

    let ended = world.run(json!({"runCommand": "touch /tmp/never"})).await;

    assert_eq!((ended.status, ended.code), (Status::Failed, 1));
    assert!(
        ended
            .error_output
            .contains("runCommand must be a list of strings")
    );
    assert!(!world.folder.exists());
}

#[tokio::test]
async fn older_schemas_have_the_script_beside_its_streams() {
    let world = World::new();
    let properties = json!({"id": "0.aws:runShellScript", "runCommand": ["echo hi"]});

    let task = world.task(SHELL, &properties, Begun::No);
    let ended = run(task, Shell::Posix, &CancellationToken::new()).await;

    assert_eq!(ended.output, "hi\n");
    let folder = world.folder.join("awsrunShellScript/0.awsrunShellScript");
    assert!(folder.join("_script.sh").exists() && folder.join("stdout").exists());
}

#[tokio::test]
async fn limit_on_open_files_is_what_the_agents_was() {
    let mut world = World::new();
    world.settings.open_files = Some(77);

    assert_eq!(world.run_lines(&["ulimit -S -n"]).await.output, "77\n");
}

async fn until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "it never became so");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn is_alive(pid: &str) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

fn end(pid: &str) {
    let pid = Pid::from_raw(pid.parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}
