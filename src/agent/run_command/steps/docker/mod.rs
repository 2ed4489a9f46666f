//! `aws:runDockerAction` and `aws:configureDocker`.

mod action;
mod configure;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::action::Action;
use self::configure::script;
use super::script::{self as runner, Shell};
use super::{Ended, Task};

/// Longest that a script may ask for: installing docker has no time-out of its own.
const LONGEST: u32 = 172_800;

/// Runs one action of docker.
pub(super) async fn run_action(task: Task<'_>, cancel: &CancellationToken) -> Ended {
    let action = match Action::read(task.properties) {
        Ok(action) => action,
        Err(text) => return Ended::failed(text),
    };
    let arguments = match action.arguments() {
        Ok(arguments) => arguments,
        Err(text) => return Ended::failed(text),
    };
    let program = &task.settings.docker;
    if !is_there(program) {
        return Ended::failed(format!(
            "failed to run commands: exec: \"{}\": executable file not found in $PATH",
            program.display()
        ));
    }
    let argv = std::iter::once(program.clone())
        .chain(arguments.into_iter().map(PathBuf::from))
        .collect();
    // `env` is docker's, the process has the agent's environment.
    let properties = action.process();
    let task = Task {
        properties: &properties,
        ..task
    };
    runner::run_program(task, argv, cancel).await
}

/// Installs or uninstalls docker.
pub(super) async fn configure(task: Task<'_>, cancel: &CancellationToken) -> Ended {
    let (lines, id) = match script(task.properties, &task.settings.platform_name) {
        Ok(found) => found,
        Err(text) => return Ended::failed(text),
    };
    let properties = json!({"runCommand": lines, "timeoutSeconds": LONGEST, "id": id});
    let task = Task {
        properties: &properties,
        ..task
    };
    runner::run(task, Shell::Posix, cancel).await
}

/// Whether there is a program of that name on the path, or at that place.
fn is_there(program: &Path) -> bool {
    if program.components().count() > 1 {
        return is_program(program);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| is_program(&folder.join(program)))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;

    let found = std::fs::metadata(path);
    found.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn invalid(properties: &Value, text: &str) -> String {
    format!("Invalid format in plugin properties {properties};\nerror {text}")
}

#[cfg(test)]
mod tests;
