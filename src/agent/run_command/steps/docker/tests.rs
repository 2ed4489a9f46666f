//! Steps with a program that stands in for docker.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use super::super::Begun;
use super::*;
use crate::agent::audit::AuditLog;
use crate::agent::run_command::Services;
use crate::agent::run_command::settings::Settings;
use crate::protocol::wire::command::Status;
use crate::protocol::wire::job::CommandId;

/// A host with a docker that tells its arguments.
struct World {
    root: tempfile::TempDir,
    settings: Settings,
    services: Services,
    command: CommandId,
}

impl World {
    fn new(docker: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let program = root.path().join("docker");
        fs::write(&program, format!("#!/bin/sh\n{docker}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let mut settings = Settings::new(root.path().join("mi-1"), "mi-1");
        settings.docker = program;
        settings.platform_name = "Ubuntu".into();
        Self {
            root,
            settings,
            services: Services {
                parameters: None,
                client: None,
                audit: AuditLog::off(),
            },
            command: CommandId::new(uuid::Uuid::new_v4().to_string()).unwrap(),
        }
    }

    fn task<'a>(&'a self, plugin: &'a str, properties: &'a Value) -> Task<'a> {
        Task {
            settings: &self.settings,
            services: &self.services,
            command: &self.command,
            boot_id: "boot",
            within: "",
            depth: 0,
            folder: self.root.path(),
            plugin,
            id: "step",
            properties,
            begun: Begun::No,
        }
    }

    async fn run(&self, properties: Value) -> Ended {
        let task = self.task("aws:runDockerAction", &properties);
        run_action(task, &CancellationToken::new()).await
    }
}

const TELLING: &str = r#"for word; do echo "<$word>"; done; pwd"#;

#[tokio::test]
async fn arguments_reach_docker_as_they_are() {
    let world = World::new(TELLING);

    let ended = world
        .run(json!({"action": "Exec", "container": "c", "cmd": "echo $(id) `id` 'a b'", "workingDirectory": "/tmp"}))
        .await;

    assert_eq!((ended.status, ended.code), (Status::Success, 0));
    assert_eq!(ended.output, "<exec>\n<c>\n<echo $(id) `id` 'a b'>\n/tmp\n");
    let streams = world.root.path().join("awsrunDockerAction/step/stdout");
    assert_eq!(fs::read_to_string(streams).unwrap(), ended.output);
}

#[tokio::test]
async fn failure_of_docker_is_that_of_the_step() {
    let ended = World::new("echo no such container >&2; exit 5")
        .run(json!({"action": "Start", "container": "c"}))
        .await;

    assert_eq!((ended.status, ended.code), (Status::Failed, 5));
    assert_eq!(
        ended.error_output,
        "no such container\nfailed to run commands: exit status 5"
    );
}

#[tokio::test]
async fn late_and_cancelled_actions_end_with_everything_they_started() {
    let world = World::new("sleep 60 & echo $!; exec sleep 61");
    let late = json!({"action": "Logs", "container": "c", "timeoutSeconds": 5});

    let ended = world.run(late).await;

    assert_eq!((ended.status, ended.code), (Status::TimedOut, 137));
    assert!(is_gone(ended.output.trim()), "{}", ended.output);
    let (world, logs) = (
        World::new("echo $$; exec sleep 60"),
        json!({"action": "Ps"}),
    );
    let cancel = CancellationToken::new();
    let output = world.root.path().join("awsrunDockerAction/step/stdout");
    let cancelling = async {
        until(|| fs::read_to_string(&output).is_ok_and(|text| text.ends_with('\n'))).await;
        cancel.cancel();
    };
    let (ended, ()) = tokio::join!(
        run_action(world.task("aws:runDockerAction", &logs), &cancel),
        cancelling
    );
    assert_eq!(ended.status, Status::Cancelled);
    assert!(is_gone(ended.output.trim()), "{}", ended.output);
}

#[tokio::test]
async fn missing_docker_and_wrong_inputs_are_told_and_nothing_runs() {
    let mut world = World::new("touch ran");
    let wrong = world.run(json!({"action": "Rm"})).await;
    assert_eq!(wrong.error_output, "Action Rm requires parameter container");

    world.settings.docker = "no-such-docker".into();
    let missing = world.run(json!({"action": "Ps"})).await;

    assert_eq!((missing.status, missing.code), (Status::Failed, 1));
    assert_eq!(
        missing.error_output,
        "failed to run commands: exec: \"no-such-docker\": executable file not found in $PATH"
    );
    assert!(!world.root.path().join("step").exists());
}

#[tokio::test]
async fn distribution_without_a_way_to_docker_is_told() {
    let world = World::new("");
    let properties = json!({"action": "Install"});

    let task = world.task("aws:configureDocker", &properties);
    let ended = configure(task, &CancellationToken::new()).await;

    assert_eq!(ended.status, Status::Failed);
    assert_eq!(
        ended.error_output,
        "Ubuntu platform is not currently supported"
    );
}

#[test]
fn programs_are_found_on_the_path_or_at_their_place() {
    assert!(is_there(Path::new("sh")) && is_there(Path::new("/bin/sh")));
    for name in ["no-such-program-here", "/etc/passwd", "/etc", "/no/such"] {
        assert!(!is_there(Path::new(name)), "{name}");
    }
}

fn is_gone(pid: &str) -> bool {
    // A zombie's command line is empty.
    fs::read(format!("/proc/{pid}/cmdline")).map_or(true, |line| line.is_empty())
}

async fn until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "it never became so");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
