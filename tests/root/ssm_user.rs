//! The account that sessions of a root agent run as, and its right to use sudo.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ssm_agent::agent::host::users::Sudo;
use ssm_agent::protocol::wire::task::TaskStatus;

use crate::namespace::{alone, sh};
use crate::world::World;

const SUDOERS: &str = "/etc/sudoers.d/ssm-agent-users";
const RULES: &str = "# User rules for ssm-user\nssm-user ALL=(ALL) NOPASSWD:ALL\n";
/// Tells whether the session's user may use sudo.
const TRY_SUDO: &str = "sudo -n id -u || echo refused";

#[test]
fn first_session_makes_ssm_user_with_its_home_and_sudo() {
    alone(|| async {
        let mut world = World::new();

        let text = "echo \"<$(id -un)|$PWD|$HOME|$USER|$0>\"; sudo -n id -u; exit 4\n";
        let ran = world.shell(text, |_| {}).await;

        let shell = sh("getent passwd ssm-user | cut -d: -f7");
        let shell = Path::new(shell.trim()).file_name().unwrap();
        let expected = format!(
            "<ssm-user|/home/ssm-user|/home/ssm-user|ssm-user|-{}>",
            shell.display()
        );
        assert!(ran.output.contains(&expected), "{ran:?}");
        assert!(ran.lines().contains(&"0"), "{ran:?}");
        assert_eq!(ran.outcome.exit_code, Some(4));
        assert_eq!(fs::read_to_string(SUDOERS).unwrap(), RULES);
        assert_eq!(mode(SUDOERS), 0o440);
        assert_eq!(sh("stat -c %U /home/ssm-user"), "ssm-user\n");
        // The reference gives it no password and no further group.
        assert_eq!(sh("getent shadow ssm-user | cut -d: -f2"), "!\n");
        assert_eq!(sh("id -Gn ssm-user"), "ssm-user\n");
    });
}

#[test]
fn existing_ssm_user_keeps_what_the_host_gave_it() {
    alone(|| async {
        sh("useradd -m ssm-user");
        let mut world = World::new();

        let ran = world.command(TRY_SUDO, |_| {}).await;

        assert_eq!(ran.output, "refused\n");
        assert!(!Path::new(SUDOERS).exists());
    });
}

#[test]
fn sudo_is_switched_off_and_on_by_configuration() {
    alone(|| async {
        let with = |sudo| async move { World::with_sudo(sudo).command(TRY_SUDO, |_| {}).await };

        assert_eq!(with(Sudo::Off).await.output, "refused\n");
        assert!(!Path::new(SUDOERS).exists());

        assert_eq!(with(Sudo::On).await.output, "0\n");
        assert_eq!(fs::read_to_string(SUDOERS).unwrap(), RULES);

        fs::write(SUDOERS, "ssm-user ALL=(ALL) NOPASSWD: /usr/bin/id\n").unwrap();
        assert_eq!(with(Sudo::Off).await.output, "refused\n");
        assert!(!Path::new(SUDOERS).exists());

        let ran = with(Sudo::On).await;
        assert_eq!(ran.output, "0\n");
        assert!(fs::read_to_string(SUDOERS).unwrap().contains("/usr/bin/id"));
        assert_eq!(mode(SUDOERS), 0o440);
        assert_eq!(sh("ls /etc/sudoers.d | grep ssm"), "ssm-agent-users\n");
    });
}

#[test]
fn host_without_sudo_has_sessions_all_the_same() {
    alone(|| async {
        sh("rm -rf /etc/sudoers.d");

        let ran = World::new().command("id -un", |_| {}).await;

        assert_eq!(ran.output, "ssm-user\n");
        assert!(!Path::new("/etc/sudoers.d").exists());
    });
}

#[test]
fn user_that_cannot_be_made_is_told_at_the_client() {
    alone(|| async {
        sh("mount -o remount,bind,ro /etc");

        let ran = World::new().command("id", |_| {}).await;

        let text = ran.failure();
        let expected = "Unable to start command: cannot create user ssm-user: useradd ended with";
        assert!(text.starts_with(expected), "{text}");
        assert!(ran.errors.starts_with(expected), "{ran:?}");
    });
}

#[test]
fn ssm_user_with_the_rights_of_root_is_refused() {
    alone(|| async {
        sh("echo 'ssm-user:x:0:1000::/home:/bin/sh' >> /etc/passwd");

        let ran = World::new().command("id", |_| {}).await;

        assert_eq!(
            ran.failure(),
            "Unable to start command: user ssm-user cannot run sessions: invalid uid and gid"
        );
    });
}

#[test]
fn run_as_may_name_ssm_user_before_it_exists() {
    alone(|| async {
        let run_as = crate::world::run_as("", "ssm-user");

        let ran = World::new().command("id -un; sudo -n id -u", run_as).await;

        assert_eq!(ran.outcome.status, TaskStatus::Success);
        assert_eq!(ran.output, "ssm-user\n0\n");
    });
}

fn mode(path: &str) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}
