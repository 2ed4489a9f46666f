//! Whole steps, with a service that answers and a server that has the files.

mod world;

use std::fs;
use std::path::Path;

use serde_json::json;

use self::world::{World, kill_script, until};
use super::state::State;
use super::*;

const FINE: [(&str, &str); 2] = [("install.sh", "echo in"), ("uninstall.sh", "echo out")];

#[tokio::test]
async fn package_is_installed_once_and_uninstalled() {
    let world = World::new().await;
    world.offer("1.0", &FINE);

    let first = world.install("").await;
    let second = world.install("1.0").await;
    let gone = world.uninstall().await;
    let nothing = world.uninstall().await;

    assert_eq!(
        (
            first.status,
            first.output.as_str(),
            first.error_output.as_str()
        ),
        (
            Status::Success,
            "Initiating P 1.0 install\nPlugin aws:runShellScript ResultStatus Success\n\
             install output: Running sh install.sh\nin\n\nSuccessfully installed P 1.0\n",
            ""
        )
    );
    assert_eq!(second.output, "P 1.0 is already installed\n");
    assert!(
        gone.output.ends_with("Successfully uninstalled P 1.0\n"),
        "{}",
        gone.output
    );
    assert_eq!(world.state().0, State::None);
    assert!(!world.path("packages/P/1.0").exists());
    assert_eq!(
        (nothing.status, nothing.output.as_str()),
        (Status::Success, "version:  is not installed\n")
    );
    let told = world.told();
    assert_eq!(told, vec![(0, "1.0".to_owned()); 4]);
    assert!(
        fs::read_dir(world.path("download"))
            .unwrap()
            .next()
            .is_none()
    );
    assert!(!world.path("locks/packages/P.lockfile").exists());
}

#[tokio::test]
async fn scripts_have_the_references_environment_and_folder() {
    let world = World::new().await;
    world.offer(
        "1.0",
        &[
            ("install.sh", "pwd; env; cat data/x"),
            ("data/x", "the file\n"),
        ],
    );

    let ended = world
        .run(json!({"name": "P", "action": "Install", "additionalArguments": "{\"SSM_MODE\":\"a b\"}"}))
        .await;

    let folder = world.path("packages/P/1.0");
    for line in [
        &folder.display().to_string(),
        "BWS_ACTION_NAME=install",
        "BWS_INSTANCE_ID=mi-1",
        "SSM_MODE=a b",
        "AWS_SSM_INSTANCE_ID=mi-1",
        &format!("SSM_COMMAND_ID={}", world.command),
        "the file",
    ] {
        assert!(
            ended.output.lines().any(|got| got == line),
            "{line}: {}",
            ended.output
        );
    }
}

#[tokio::test]
async fn version_that_fails_is_rolled_back() {
    let world = World::new().await;
    world.offer("1.0", &FINE);
    world.install("").await;
    world.offer(
        "2.0",
        &[
            ("install.sh", "echo half; exit 3"),
            ("uninstall.sh", "echo undone"),
        ],
    );

    let ended = world.install("").await;

    assert_eq!((ended.status, ended.code), (Status::Failed, 1));
    assert!(
        ended
            .output
            .ends_with("Failed to install P 2.0, successfully rolled back to P 1.0\n")
    );
    assert_eq!(
        ended.error_output,
        "install errors: failed to run commands: exit status 3\nFailed to install package; install status Failed\n"
    );
    assert_eq!(world.state(), (State::Installed, "1.0".into()));
    assert!(!world.path("packages/P/2.0").exists());
    assert_eq!(world.told().last().unwrap(), &(1, "2.0".to_owned()));
}

#[tokio::test]
async fn other_version_takes_the_place_of_the_one_before() {
    let world = World::new().await;
    let proof = world.path("proof");
    let line = |text: &str| format!("echo {text} >>{}", proof.display());
    world.offer(
        "1.0",
        &[
            ("install.sh", &line("in1")),
            ("uninstall.sh", &line("out1")),
        ],
    );
    world.install("").await;
    world.offer(
        "2.0",
        &[
            ("install.sh", &line("in2")),
            ("uninstall.sh", ""),
            ("update.sh", &line("up2")),
        ],
    );

    world.install("").await;
    world.offer(
        "3.0",
        &[
            ("install.sh", &line("in3")),
            ("update.sh", &line("up3")),
            ("validate.sh", &line("ok3")),
        ],
    );
    let in_place = json!({"name": "P", "action": "Install", "installationType": "In-place update"});
    let ended = world.run(in_place).await;

    assert_eq!(ended.status, Status::Success);
    assert_eq!(
        fs::read_to_string(proof).unwrap(),
        "in1\nout1\nin2\nup3\nok3\n"
    );
    assert_eq!(world.state(), (State::Installed, "3.0".into()));
}

#[tokio::test]
async fn file_that_is_not_the_manifests_is_never_unpacked() {
    let world = World::new().await;
    let mut offered = world.offer("1.0", &FINE);
    offered.archive.push(0);
    world.place("1.0", offered.clone());

    let longer = world.install("").await;
    let last = offered.archive.len() - 2;
    offered.archive.pop();
    offered.archive[last] ^= 1;
    world.place("1.0", offered);
    let other = world.install("").await;

    assert_eq!((longer.status, longer.code), (Status::Failed, 1));
    let begins = format!(
        "failed to download installation package reliably, http://{}/bucket/1.0, ",
        world.files
    );
    assert!(
        longer.error_output.starts_with(&begins),
        "{}",
        longer.error_output
    );
    assert!(
        other.error_output.contains("failed to verify its checksum"),
        "{}",
        other.error_output
    );
    assert!(!world.path("packages/P/1.0").exists());
    assert_eq!(world.told(), vec![(1, "1.0".to_owned()); 2]);
}

#[tokio::test]
async fn package_that_asks_for_a_reboot_goes_on_after_it() {
    let world = World::new().await;
    let proof = world.path("proof");
    let install = format!("echo x >>{}; exit 194", proof.display());
    world.offer(
        "1.0",
        &[("install.sh", &install), ("validate.sh", "echo valid")],
    );

    let before = world.install("").await;
    assert_eq!(before.status, Status::SuccessAndReboot);
    assert_eq!(world.state().0, State::Installing);
    assert!(world.path("packages/P/traces").exists());
    assert!(world.told().is_empty());
    let after = world.install("").await;

    assert_eq!(after.status, Status::Success);
    assert!(
        after.output.ends_with("Successfully installed P 1.0\n"),
        "{}",
        after.output
    );
    assert_eq!(fs::read_to_string(proof).unwrap(), "x\n");
    let report = world.server.seen().last().unwrap().json();
    let steps = report["Steps"].to_string();
    assert!(
        steps.contains("> execute action: install") && steps.contains("> execute action: validate"),
        "{steps}"
    );
}

#[tokio::test]
async fn install_that_died_without_a_reboot_is_run_again() {
    let world = World::new().await;
    world.offer("1.0", &FINE);
    Repository::new(world.root.path())
        .enter("P", "1.0", State::Installing)
        .unwrap();

    let ended = world.install("").await;

    assert!(
        ended.output.contains("Initiating P 1.0 install"),
        "{}",
        ended.output
    );
}

#[tokio::test]
async fn next_agent_goes_on_with_the_script_that_runs() {
    let world = World::new().await;
    let proof = world.path("proof");
    let install = format!("echo once >>{}; sleep 2; exit 4", proof.display());
    world.offer("1.0", &FINE);
    world.install("").await;
    world.offer(
        "2.0",
        &[("install.sh", &install), ("uninstall.sh", "echo undone")],
    );
    let folder = world.path("command");
    let properties = json!({"name": "P", "action": "Install"});
    let cancel = CancellationToken::new();
    // The agent dies: nobody polls the step any more.
    tokio::select! {
        _ = run(world.task(&folder, &properties, Begun::No), &cancel) => panic!("it takes two seconds"),
        () = until(|| proof.exists()) => {}
    }

    let ended = run(world.task(&folder, &properties, Begun::ThisBoot), &cancel).await;
    let again = run(world.task(&folder, &properties, Begun::ThisBoot), &cancel).await;

    assert_eq!((&ended.status, ended.code), (&Status::Failed, 1));
    assert_eq!(fs::read_to_string(&proof).unwrap(), "once\n");
    assert_eq!(
        ended
            .output
            .matches("Successfully uninstalled P 1.0")
            .count(),
        1
    );
    assert!(
        ended
            .output
            .ends_with("successfully rolled back to P 1.0\n"),
        "{}",
        ended.output
    );
    assert_eq!(ended, again, "its end is on disk");
    assert_eq!(world.told().len(), 2);
}

#[tokio::test]
async fn script_that_the_hosts_end_interrupted_is_rolled_back_and_not_run_again() {
    let world = World::new().await;
    world.offer("1.0", &FINE);
    world.install("").await;
    let proof = world.path("proof");
    let install = format!("echo once >>{}; sleep 60", proof.display());
    world.offer("2.0", &[("install.sh", &install), ("uninstall.sh", "true")]);
    let folder = world.path("command");
    let properties = json!({"name": "P", "action": "Install"});
    let cancel = CancellationToken::new();
    tokio::select! {
        _ = run(world.task(&folder, &properties, Begun::No), &cancel) => panic!("it takes a minute"),
        () = until(|| proof.exists()) => {}
    }
    kill_script(&folder);

    let ended = run(
        world.task(&folder, &properties, Begun::EarlierBoot),
        &cancel,
    )
    .await;

    assert_eq!(ended.status, Status::Failed);
    assert!(
        ended
            .error_output
            .contains("the host was restarted while it ran")
    );
    assert_eq!(fs::read_to_string(&proof).unwrap(), "once\n");
    assert_eq!(world.state(), (State::Installed, "1.0".into()));
}

#[tokio::test]
async fn cancelled_step_ends_with_its_script() {
    let world = World::new().await;
    let proof = world.path("proof");
    world.offer(
        "1.0",
        &[(
            "install.sh",
            &format!("echo $$ >{}; sleep 60", proof.display()),
        )],
    );
    let folder = world.path("command");
    let properties = json!({"name": "P", "action": "Install"});
    let cancel = CancellationToken::new();
    let cancelling = async {
        until(|| fs::read_to_string(&proof).is_ok_and(|text| text.ends_with('\n'))).await;
        cancel.cancel();
    };

    let step = run(world.task(&folder, &properties, Begun::No), &cancel);
    let (ended, ()) = tokio::join!(step, cancelling);

    assert_eq!((ended.status, ended.code), (Status::Cancelled, 1));
    assert_eq!(world.state().0, State::Failed);
    let pid = fs::read_to_string(proof).unwrap();
    let line = fs::read(format!("/proc/{}/cmdline", pid.trim()));
    assert!(
        line.is_ok_and(|line| line.is_empty())
            || !Path::new(&format!("/proc/{}", pid.trim())).exists()
    );
}

#[tokio::test]
async fn second_action_on_a_package_waits_for_nobody() {
    let world = World::new().await;
    world.offer("1.0", &FINE);
    let repository = Repository::new(world.root.path());
    let _lock = repository.lock("P", "Install").unwrap();

    let ended = world.uninstall().await;

    assert_eq!(ended.status, Status::Failed);
    assert_eq!(
        ended.error_output,
        "Package \"P\" is already in the process of action \"Install\"\n"
    );
}

#[tokio::test]
async fn inputs_and_services_that_are_missing_are_told() {
    let world = World::new().await;

    let unknown = world.install("9.9").await;
    let nameless = world.run(json!({"action": "Install"})).await;

    assert_eq!(unknown.status, Status::Failed);
    assert!(
        unknown
            .error_output
            .starts_with("failed to download manifest - "),
        "{}",
        unknown.error_output
    );
    assert_eq!(nameless.error_output, "invalid input: empty name field");
}

#[tokio::test]
async fn package_with_two_scripts_for_one_action_is_refused() {
    let world = World::new().await;
    world.offer("1.0", &[("install.sh", ""), ("install.ps1", "")]);

    let ended = world.install("").await;

    assert!(
        ended
            .error_output
            .starts_with("install has more than one implementation (sh, ps1, json)\n")
    );
    assert_eq!(world.state().0, State::Failed);
}
