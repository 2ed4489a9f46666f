//! A mount namespace for each story.

use std::future::Future;
use std::process::Command;

/// Turns a story's process into the one that tells it; the other one only waits.
const INSIDE: &str = "SSM_AGENT_TEST_NAMESPACE";
/// Copies of what stories change. Nothing of it is seen outside, or stays when the process ends.
const PREPARE: &str = "
    mount -t tmpfs -o mode=755 tmpfs /home
    cp -a /etc /home/.etc
    mount --bind /home/.etc /etc
    mount -t tmpfs -o mode=1777 tmpfs /var/mail
    mount -t tmpfs -o mode=755 tmpfs /var/log
    rm -rf /etc/sudoers.d/ssm-agent-users /etc/sudoers.d/ssm-agent-users.off
    if id ssm-user >/dev/null 2>&1; then userdel ssm-user; fi
";

/// Tells a story in a mount namespace of its own: runs its test once more, as a process there.
pub fn alone<S, F>(story: S)
where
    S: FnOnce() -> F,
    F: Future<Output = ()>,
{
    if std::env::var_os(INSIDE).is_some() {
        sh(PREPARE);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(story());
        return;
    }
    assert!(
        nix::unistd::geteuid().is_root(),
        "these stories need root; leave the target out elsewhere"
    );
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &name::<S>(), "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (said, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}{errors}");
    assert!(said.contains("1 passed"), "the story was not told: {said}");
}

/// The name of the test whose closure has type `S`.
fn name<S>() -> String {
    let path = std::any::type_name::<S>();
    let (_crate, path) = path.split_once("::").unwrap();
    path.trim_end_matches("::{{closure}}").to_owned()
}

/// Runs a script that has to succeed; gives what it prints.
pub fn sh(script: &str) -> String {
    let output = Command::new("sh")
        .args(["-eu", "-c", script])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
