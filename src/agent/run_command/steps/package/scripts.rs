//! Runs the scripts of a package, each as a script of Run Command with the reference's environment.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::super::script::{self, Shell};
use super::super::{Begun, Streams, Task};
use super::flow::Outcome;
use super::names::folder_name;
use super::platform::OperatingSystem;
use crate::protocol::wire::command::Status;

/// Variables that go to the scripts as the agent has them, empty if it has none.
const PROXIES: [&str; 3] = ["https_proxy", "http_proxy", "no_proxy"];

/// A script to run.
pub(super) struct Script<'a> {
    /// The folder of the unpacked version.
    pub(super) package: &'a Path,
    pub(super) version: &'a str,
    pub(super) action: &'static str,
    pub(super) host: &'a OperatingSystem,
    /// Additional variables.
    pub(super) arguments: &'a BTreeMap<String, String>,
    /// The step's folder.
    pub(super) folder: &'a Path,
}

/// How a script ended, and its streams.
pub(super) struct Ran {
    pub(super) outcome: Outcome,
    pub(super) status: Status,
    pub(super) code: i64,
    pub(super) plugin: &'static str,
    pub(super) streams: Option<Streams>,
    /// Why it did not run.
    pub(super) error: Option<String>,
}

impl Script<'_> {
    /// The shell for it; none if the package has no such script.
    pub(super) fn shell(&self) -> Result<Option<Shell>, String> {
        let has = |extension: &str| {
            let name = format!("{}.{extension}", self.action);
            self.package.join(name).exists()
        };
        match (has("sh"), has("ps1")) {
            (true, true) => Err(format!(
                "{} has more than one implementation (sh, ps1, json)",
                self.action
            )),
            (true, false) => Ok(Some(Shell::Posix)),
            (false, true) => Ok(Some(Shell::Power)),
            (false, false) => Ok(None),
        }
    }

    /// Runs it, or goes on with one that an earlier agent began.
    pub(super) async fn run(
        &self,
        task: &Task<'_>,
        shell: Shell,
        begun: Begun,
        cancel: &CancellationToken,
    ) -> Ran {
        let (plugin, lines) = match shell {
            Shell::Posix => ("aws:runShellScript", self.lines_of_sh()),
            Shell::Power => ("aws:runPowerShellScript", self.lines_of_powershell()),
        };
        let properties = json!({
            "runCommand": lines,
            "workingDirectory": self.package,
            "environment": self.environment(task),
        });
        // Each version and action has its own: one is rolled back while the other one's are there.
        let version = folder_name(self.version);
        let folder = self.folder.join(&version).join(self.action);
        let task = Task {
            folder: &folder,
            plugin,
            id: &version,
            properties: &properties,
            begun,
            ..task.clone()
        };
        if begun == Begun::No
            && let Err(error) = script::forget(&task)
        {
            return Ran::impossible(plugin, format!("cannot run {}: {error}", self.action));
        }
        let ended = script::run(task, shell, cancel).await;
        // Where it did not come to a script there are no files with the reason.
        let error = ended
            .streams
            .is_none()
            .then_some(ended.error_output)
            .filter(|text| !text.is_empty());
        Ran {
            outcome: outcome(&ended.status),
            status: ended.status,
            code: ended.code,
            plugin,
            streams: ended.streams,
            error,
        }
    }

    fn lines_of_sh(&self) -> [String; 2] {
        let action = self.action;
        [
            format!("echo Running sh {action}.sh"),
            format!("sh {action}.sh"),
        ]
    }

    fn lines_of_powershell(&self) -> [String; 2] {
        let action = self.action;
        [
            format!("echo 'Running {action}.ps1'"),
            format!(".\\{action}.ps1; exit $LASTEXITCODE"),
        ]
    }

    fn environment(&self, task: &Task<'_>) -> Value {
        let (host, settings) = (self.host, task.settings);
        let mut environment: BTreeMap<String, String> = [
            ("BWS_ACTION_NAME", self.action),
            ("BWS_PLATFORM_NAME", &host.platform),
            ("BWS_PLATFORM_VERSION", &host.version),
            ("BWS_PLATFORM_FAMILY", host.family),
            ("BWS_ARCHITECTURE", host.architecture),
            ("BWS_INIT_SYSTEM", host.init_system),
            ("BWS_PACKAGE_MANAGER", host.package_manager),
            ("BWS_INSTANCE_ID", &settings.node_id),
            ("BWS_REGION", &settings.region),
            // A node of an activation has none of these, and the others do not tell the agent.
            ("BWS_INSTANCE_TYPE", ""),
            ("BWS_ACCOUNT_ID", ""),
            ("BWS_AVAILABILITY_ZONE", ""),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        for name in PROXIES {
            let value = std::env::var(name).unwrap_or_default();
            environment.insert(name.to_owned(), value);
        }
        environment.extend(self.arguments.clone());
        json!(environment)
    }
}

impl Ran {
    fn impossible(plugin: &'static str, error: String) -> Self {
        Self {
            outcome: Outcome::Failed(Status::Failed),
            status: Status::Failed,
            code: 1,
            plugin,
            streams: None,
            error: Some(error),
        }
    }
}

fn outcome(status: &Status) -> Outcome {
    match status {
        Status::Success | Status::Skipped => Outcome::Success,
        Status::SuccessAndReboot | Status::PassedAndReboot => Outcome::Reboot,
        Status::Cancelled => Outcome::Cancelled,
        Status::Failed
        | Status::TimedOut
        | Status::NotStarted
        | Status::InProgress
        | Status::Unknown(_) => Outcome::Failed(status.clone()),
    }
}
