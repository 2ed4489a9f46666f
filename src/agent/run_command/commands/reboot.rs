//! Having the host start anew for a command, and what becomes of the command where it does not.

use std::ffi::OsString;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;
use tracing::{error, info};

use super::Commands;
use crate::agent::run_command::state::DocumentState;
use crate::protocol::wire::job::CommandId;

impl Commands {
    /// Has the host start anew in a minute, after which the command goes on. What comes meanwhile waits.
    pub(super) fn reboot_for(&mut self, command: CommandId, state: DocumentState) {
        self.rebooting.push((command, state));
        if !self.reboots.is_empty() {
            return;
        }
        info!("a command asked for a restart of the host");
        let program = self.settings.reboot.clone();
        let patience = self.settings.reboot_patience;
        self.reboots.spawn(reboot(program, patience));
    }

    /// The host goes on as it is, and so do the commands that do not need it to start anew.
    pub(super) fn handle_missing_reboot(&mut self, why: &str) {
        error!(why, "the host is not restarted");
        for (command, state) in std::mem::take(&mut self.rebooting) {
            self.end_without_reboot(command, state, why);
        }
        self.start_waiting();
    }

    /// Ends a command that asked for a restart of the host in vain.
    pub(super) fn end_without_reboot(
        &mut self,
        command: CommandId,
        state: DocumentState,
        why: &str,
    ) {
        self.note_running(&command, &state);
        let why = format!("the host was not restarted: {why}");
        let runner = self.runner.clone();
        let ending = runner.end_without_reboot(command.clone(), state, why);
        self.workers.spawn(async move { (command, ending.await) });
    }
}

/// Runs the program that has the host start anew, and waits for that; returns why it does not come.
async fn reboot(argv: Vec<OsString>, patience: Duration) -> String {
    let Some((program, arguments)) = argv.split_first() else {
        return "there is no program for it".to_owned();
    };
    let name = program.display();
    let minutes = patience.as_secs() / 60;
    let mut child = match Command::new(program).args(arguments).spawn() {
        Ok(child) => child,
        Err(error) => return format!("{name} cannot be run: {error}"),
    };
    match timeout(patience, child.wait()).await {
        Ok(Ok(status)) if status.success() => {
            // Somebody may cancel it ("shutdown -c"), of which nobody is told.
            tokio::time::sleep(patience).await;
            format!("it still runs {minutes} minutes after {name} was to restart it")
        }
        Ok(Ok(status)) => format!("{name} ended with {status}"),
        Ok(Err(error)) => format!("{name} cannot be waited for: {error}"),
        Err(_) => format!("{name} did not end within {minutes} minutes"),
    }
}
