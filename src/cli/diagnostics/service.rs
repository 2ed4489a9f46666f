//! Whether the agent runs, and as whom.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use tokio::process::Command;

use super::subject::Subject;
use super::verdict::Verdict;
use crate::agent::DEFAULT_RUNTIME_DIR;
use crate::runtime::cause::in_one_line;

const UNIT: &str = "ssm-agent.service";
/// Is there if this host was started by systemd.
const SYSTEMD: &str = "/run/systemd/system";

/// Asks the agent, and systemd if there is none.
pub(super) async fn check(subject: Arc<Subject>) -> Verdict {
    match &subject.agent {
        Ok(agent) => judge_user(agent.pid, &subject.places.state),
        Err(error) if error.is_absence() => {
            let ours = subject.places.socket().starts_with(DEFAULT_RUNTIME_DIR);
            match Path::new(SYSTEMD).exists() && ours {
                true => ask_systemd().await,
                false => absent(&in_one_line(error)),
            }
        }
        Err(error) => Verdict::failed(in_one_line(error), error.hint()),
    }
}

fn absent(detail: &str) -> Verdict {
    Verdict::failed(
        format!("Unable to find ssm agent on this instance: {detail}"),
        "start it: `systemctl start ssm-agent`, or `ssm-agent run` with the same folders",
    )
}

fn judge_user(pid: u32, state: &Path) -> Verdict {
    let process = fs::metadata(format!("/proc/{pid}"));
    let owner = fs::metadata(state);
    match (process, owner) {
        (Ok(process), Ok(owner)) if process.uid() != owner.uid() => Verdict::failed(
            format!(
                "the agent runs as user {}, but its state belongs to user {}",
                process.uid(),
                owner.uid()
            ),
            "start it as the state's owner, root in a package's installation",
        ),
        _ => Verdict::success(format!(
            "Agent service is running and is running as expected user (process {pid})"
        )),
    }
}

async fn ask_systemd() -> Verdict {
    let shown = Command::new("systemctl")
        .args(["show", UNIT, "--property=LoadState,ActiveState,Result"])
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    match shown {
        Ok(shown) => judge_unit(&String::from_utf8_lossy(&shown.stdout)),
        Err(error) => absent(&format!("systemctl: {error}")),
    }
}

fn judge_unit(shown: &str) -> Verdict {
    let value = |name: &str| {
        let mut lines = shown.lines().filter_map(|line| line.split_once('='));
        lines.find_map(|(key, value)| (key == name).then_some(value))
    };
    if value("LoadState") != Some("loaded") {
        return absent(&format!("there is no unit {UNIT}"));
    }
    let state = value("ActiveState").unwrap_or("unknown");
    if state == "active" {
        return Verdict::failed(
            "Agent service is running, but nobody listens on its socket",
            "look for what keeps it from making its socket: `journalctl -u ssm-agent`",
        );
    }
    Verdict::failed(
        format!(
            "Agent is installed as a systemctl service but is not running: {state}, {}",
            value("Result").unwrap_or("unknown")
        ),
        "`journalctl -u ssm-agent` tells why; then `systemctl start ssm-agent`",
    )
}

#[cfg(test)]
mod tests {
    use super::super::verdict::Outcome;
    use super::*;

    #[test]
    fn what_systemd_says_is_told() {
        for (shown, note) in [
            ("LoadState=not-found\nActiveState=inactive\n", "no unit"),
            (
                "LoadState=loaded\nActiveState=failed\nResult=exit-code\n",
                "not running: failed, exit-code",
            ),
            ("LoadState=loaded\nActiveState=active\n", "nobody listens"),
        ] {
            let verdict = judge_unit(shown);

            assert_eq!(verdict.status, Outcome::Failed);
            assert!(verdict.note.contains(note), "{verdict:?}");
        }
    }

    #[test]
    fn agent_that_is_not_the_owner_of_its_state_is_told() {
        let state = tempfile::tempdir().unwrap();

        let own = judge_user(std::process::id(), state.path());
        let others = judge_user(std::process::id(), Path::new("/proc/1"));

        assert_eq!(own.status, Outcome::Success);
        let is_root = nix::unistd::geteuid().is_root();
        assert_eq!(others.status == Outcome::Failed, !is_root);
    }
}
