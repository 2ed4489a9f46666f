//! `aws:configurePackage`: packages of Distributor, installed and uninstalled by scripts of their own.
//!
//! | file | what it is |
//! |---|---|
//! | `inputs` | what the step is told |
//! | `service`, `platform` | what the services offer, and what of it is for this host |
//! | `fetch`, `archive` | brings a package's file here, and unpacks it |
//! | `repository`, `state`, `names`, `lock` | packages on this host |
//! | `preparation` | what is to be done, with everything that it takes at hand |
//! | `flow`, `scripts` | the order of the scripts, and their running |
//! | `trace`, `note`, `result` | what is told, what outlives the agent, what the service gets |
//!
//! Before each script it is noted which one runs. An agent that finds the note goes on with that script
//! and those that follow; what was done before is not done again.

mod archive;
mod fetch;
mod flow;
mod inputs;
mod lock;
mod names;
mod note;
mod platform;
mod preparation;
mod repository;
mod result;
mod scripts;
mod service;
mod state;
#[cfg(test)]
mod tests;
mod trace;

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::flow::{End, Next, Outcome, Phase, Plan};
use self::inputs::Inputs;
use self::lock::Lock;
use self::note::Note;
use self::platform::OperatingSystem;
use self::preparation::{Prepared, prepare};
use self::repository::Repository;
use self::scripts::{Ran, Script};
use self::service::Service;
use self::trace::{Trace, now};
use super::script::start_of;
use super::{Begun, Ended, Streams, Task, without_colons};
use crate::protocol::wire::command::Status;

/// How often others are shown that a package is still worked on.
const LOCK_REFRESH: Duration = Duration::from_secs(300);

/// A step on its way.
struct Step<'a> {
    task: Task<'a>,
    inputs: Inputs,
    service: Service<'a>,
    repository: Repository,
    /// Its own folder.
    folder: PathBuf,
}

/// Installs or uninstalls a package, or goes on with it.
pub(super) async fn run(task: Task<'_>, cancel: &CancellationToken) -> Ended {
    let inputs = match Inputs::read(task.properties) {
        Ok(inputs) => inputs,
        Err(text) => return Ended::failed(text),
    };
    let Some(client) = &task.services.client else {
        return Ended::failed("packages cannot be asked for: this agent has no service");
    };
    let (folder, streams) = task.places(&without_colons(&inputs.id));
    let step = Step {
        service: Service { client },
        repository: Repository::new(task.settings.state_folder()),
        task,
        inputs,
        folder,
    };
    match step.run(streams, cancel).await {
        Ok(ended) => ended,
        Err(text) => Ended::failed(text),
    }
}

impl Step<'_> {
    async fn run(&self, streams: Streams, cancel: &CancellationToken) -> Result<Ended, String> {
        let unwritable = |error| format!("cannot note how far the package is: {error}");
        let begun = self.task.begun;
        let noted = if begun == Begun::No {
            Note::forget(&self.folder).map_err(unwritable)?;
            None
        } else {
            Note::load(&self.folder, self.task.properties)
        };
        let Some(note) = noted else {
            let mut trace = Trace::new(streams).map_err(unwritable)?;
            let began = now();
            let preparing = prepare(self, &mut trace);
            let prepared = cancel.run_until_cancelled(preparing).await;
            let end = match prepared {
                None => End::Cancelled,
                Some(Prepared::Over(end)) => end,
                Some(Prepared::Work(work)) => {
                    let first = work.plan.first();
                    let end = self.work(&work, first, Begun::No, &mut trace, cancel);
                    let end = end.await.map_err(unwritable)?;
                    self.tell_service(&work, end, began, &mut trace).await;
                    end
                }
                Some(Prepared::Done { work, end }) => {
                    self.tell_service(&work, end, began, &mut trace).await;
                    end
                }
            };
            return Ok(self.conclude(end, &trace));
        };
        if let Some(end) = note.over {
            let trace = Trace::new(streams).map_err(unwritable)?;
            return Ok(ended(end, &trace));
        }
        let (Some(phase), Some(plan)) = (note.phase, note.plan) else {
            return Err("what was noted of the package cannot be read".to_owned());
        };
        let mut trace = Trace::resume(streams, note.lengths, note.sections).map_err(unwritable)?;
        let lock = self
            .repository
            .lock(&plan.package, self.inputs.operation.as_str());
        let lock = match lock {
            Ok(lock) => Arc::new(lock),
            Err(error) => {
                trace.error(&error.to_string());
                return Ok(self.conclude(End::Failed, &trace));
            }
        };
        let work = Work {
            host: OperatingSystem::of_this_host()?,
            plan,
            lock,
            kind: note.kind,
            version: note.version,
            previous: note.previous,
        };
        let began = trace.sections.first().map_or_else(now, |first| first.start);
        let end = self.work(&work, phase, begun, &mut trace, cancel);
        let end = end.await.map_err(unwritable)?;
        self.tell_service(&work, end, began, &mut trace).await;
        Ok(self.conclude(end, &trace))
    }

    /// Runs the scripts from `phase` on to the end. Only what keeps the next one from being noted is an
    /// error: a script that is not noted would run again.
    async fn work(
        &self,
        work: &Work,
        mut phase: Phase,
        mut begun: Begun,
        trace: &mut Trace,
        cancel: &CancellationToken,
    ) -> std::io::Result<End> {
        let plan = &work.plan;
        loop {
            Note::of(self.task.properties, work, phase, trace).save(&self.folder)?;
            let subject = plan.subject(phase);
            let version = plan.version(subject);
            if let Some(state) = plan.state_during(phase) {
                let noted = self.repository.state(&plan.package);
                // An agent before this one may have come so far.
                if (noted.state, noted.version.as_str()) != (state, version) || begun == Begun::No {
                    self.repository.enter(&plan.package, version, state)?;
                }
            }
            work.lock.touch();
            let outcome = self.run_script(work, phase, begun, trace, cancel).await;
            begun = Begun::No;
            let transition = plan.after(phase, &outcome);
            if let Some(text) = &transition.info {
                trace.info(text);
            }
            if let Some(text) = &transition.error {
                trace.error(text);
            }
            if let Some(subject) = transition.remove {
                self.remove(plan, plan.version(subject), trace).await;
            }
            if let Some((subject, state)) = transition.state {
                let version = plan.version(subject);
                if let Err(error) = self.repository.enter(&plan.package, version, state) {
                    trace.error(&format!("cannot note how far the package is: {error}"));
                }
            }
            match transition.next {
                Next::Run(next) => phase = next,
                Next::End(end) => return Ok(end),
            }
        }
    }

    async fn run_script(
        &self,
        work: &Work,
        phase: Phase,
        begun: Begun,
        trace: &mut Trace,
        cancel: &CancellationToken,
    ) -> Outcome {
        let (plan, action) = (&work.plan, phase.action());
        let version = plan.version(plan.subject(phase));
        let folder = self.repository.version(&plan.package, version);
        let script = Script {
            package: &folder,
            version,
            action,
            host: &work.host,
            arguments: &self.inputs.arguments,
            folder: &self.folder,
        };
        let operation = format!("execute action: {action}");
        let began = now();
        let shell = match script.shell() {
            Ok(Some(shell)) => shell,
            Ok(None) => return Outcome::Missing,
            Err(text) => {
                trace.error(&text);
                trace.section(&operation, began, 1, &text);
                return Outcome::Failed(Status::Failed);
            }
        };
        trace.info(&format!("Initiating {} {version} {action}", plan.package));
        let ran: Ran = tokio::select! {
            ran = script.run(&self.task, shell, begun, cancel) => ran,
            never = refresh(&work.lock) => match never {},
        };
        trace.info(&format!(
            "Plugin {} ResultStatus {}",
            ran.plugin,
            ran.status.as_str()
        ));
        if let Some(streams) = &ran.streams {
            trace.streams_of(action, streams).await;
        }
        if let Some(text) = &ran.error {
            trace.error(text);
        }
        let error = ran.error.as_deref().unwrap_or_default();
        trace.section(&operation, began, ran.code, error);
        ran.outcome
    }

    /// Deletes a version that is not needed any more. If it stays, it takes room and nothing else.
    async fn remove(&self, plan: &Plan, version: &str, trace: &Trace) {
        let (repository, package) = (self.repository.clone(), plan.package.clone());
        let owned = version.to_owned();
        let removed = tokio::task::spawn_blocking(move || repository.remove(&package, &owned));
        let removed = removed.await.map_err(std::io::Error::other);
        if let Err(error) = removed.and_then(|removed| removed) {
            trace.error(&format!(
                "cannot delete {} {version}: {error}",
                plan.package
            ));
        }
    }

    /// Notes the end, and gives it to the runner.
    fn conclude(&self, end: End, trace: &Trace) -> Ended {
        let note = Note::over(self.task.properties, end);
        if let Err(error) = note.save(&self.folder) {
            // An agent that dies before the step is noted as ended would do it again.
            warn!(command = %self.task.command, %error, "cannot note that a package is done with");
        }
        ended(end, trace)
    }
}

/// What a step works on.
struct Work {
    plan: Plan,
    /// Shared with work that goes on for a moment after a cancellation.
    lock: Arc<Lock>,
    host: OperatingSystem,
    kind: service::Kind,
    /// The version that the service is told of.
    version: String,
    /// The version that was installed before; may be empty.
    previous: String,
}

/// Shows others from time to time that the package is still worked on.
async fn refresh(lock: &Lock) -> Infallible {
    loop {
        tokio::time::sleep(LOCK_REFRESH).await;
        lock.touch();
    }
}

fn ended(end: End, trace: &Trace) -> Ended {
    let (status, code) = match end {
        End::Success => (Status::Success, 0),
        End::Reboot => (Status::SuccessAndReboot, 0),
        End::Failed => (Status::Failed, 1),
        End::Cancelled => (Status::Cancelled, 1),
    };
    let streams = trace.streams().clone();
    Ended {
        status,
        code,
        output: start_of(&streams.output()),
        error_output: start_of(&streams.error_output()),
        streams: Some(streams),
    }
}
