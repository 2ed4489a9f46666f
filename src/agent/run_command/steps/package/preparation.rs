//! What is to be done with a package: its manifest is asked for, what is here is looked at, and what is
//! not here is brought.

use std::path::Path;
use std::sync::Arc;

use super::flow::{End, Plan, Standing};
use super::inputs::Operation;
use super::platform::OperatingSystem;
use super::service::{Offer, Source};
use super::state::{InstallState, State};
use super::trace::{Trace, now};
use super::{Step, Work, fetch};
use crate::runtime::cause::in_one_line;

/// What came of it.
pub(super) enum Prepared {
    /// Nothing: it ends so, and the service is not told.
    Over(End),
    /// There is nothing to be done, or it cannot be done.
    Done { work: Box<Work>, end: End },
    /// There is something to be done.
    Work(Box<Work>),
}

/// Prepares a step.
pub(super) async fn prepare(step: &Step<'_>, trace: &mut Trace) -> Prepared {
    let inputs = &step.inputs;
    let host = match OperatingSystem::of_this_host() {
        Ok(host) => host,
        Err(text) => return over(trace, &text),
    };
    let began = now();
    let offer = step.service.find(&inputs.name, inputs.version.as_deref());
    let offer = match offer.await {
        Ok(offer) => offer,
        Err(text) => return over(trace, &text),
    };
    trace.section("download manifest", began, 0, "");
    let action = inputs.operation.as_str();
    let lock = match step.repository.lock(&offer.package, action) {
        Ok(lock) => Arc::new(lock),
        Err(error) => return over(trace, &error.to_string()),
    };
    // They are there only after a reboot that a script asked for.
    let traces = step.repository.take_traces(&offer.package);
    let has_rebooted = !traces.is_empty();
    trace.sections.splice(0..0, traces);
    let state = step.repository.state(&offer.package);
    let mut work = Work {
        plan: Plan {
            package: offer.package.clone(),
            new: None,
            old: None,
            in_place: inputs.in_place,
            standing: Standing::Absent,
            is_changed: false,
        },
        lock,
        host,
        kind: offer.kind,
        version: offer.version.clone(),
        previous: state.installed_version().to_owned(),
    };
    let began = now();
    let prepared = match inputs.operation {
        Operation::Install => install(step, &offer, &state, has_rebooted, &mut work, trace).await,
        Operation::Uninstall => uninstall(step, &offer, &state, &mut work, trace).await,
    };
    let operation = format!("prepare {action}");
    match prepared {
        Ok(true) => {
            trace.section(&operation, began, 0, "");
            Prepared::Work(Box::new(work))
        }
        Ok(false) => {
            trace.section(&operation, began, 1, "");
            let work = Box::new(work);
            let end = End::Success;
            Prepared::Done { work, end }
        }
        Err(text) => {
            trace.error(&text);
            trace.section(&operation, began, 1, &text);
            let work = Box::new(work);
            let end = End::Failed;
            Prepared::Done { work, end }
        }
    }
}

fn over(trace: &Trace, text: &str) -> Prepared {
    trace.error(text);
    Prepared::Over(End::Failed)
}

/// Whether there is something to be done; an error is the text for the reply.
async fn install(
    step: &Step<'_>,
    offer: &Offer,
    state: &InstallState,
    has_rebooted: bool,
    work: &mut Work,
    trace: &Trace,
) -> Result<bool, String> {
    let installed = installed_version(state);
    let kept = step.repository.manifest(&offer.package, &offer.kept_as);
    let is_changed = kept.as_ref() != Some(&offer.manifest);
    let is_here = step
        .repository
        .check(&offer.package, &offer.version)
        .is_ok();
    let is_stale = state.version == offer.version && (state.state == State::Failed || is_changed);
    if !is_here || is_stale {
        bring(step, offer, work).await?;
    }
    let is_document = offer.kind == super::service::Kind::Document;
    let kept =
        step.repository
            .keep_manifest(&offer.package, &offer.kept_as, &offer.text, is_document);
    kept.map_err(|error| format!("failed to write manifest to file: {error}"))?;
    work.plan.is_changed = is_changed;
    work.plan.standing = standing(state, &offer.version, has_rebooted);
    work.plan.new = Some(offer.version.clone());
    if !installed.is_empty() && (installed != offer.version || is_changed) {
        match ensure(step, offer, &installed, work).await {
            Ok(()) => work.plan.old = Some(installed),
            // The new one is installed all the same, with nothing to go back to.
            Err(text) => trace.error(&text),
        }
    }
    Ok(true)
}

async fn uninstall(
    step: &Step<'_>,
    offer: &Offer,
    state: &InstallState,
    work: &mut Work,
    trace: &Trace,
) -> Result<bool, String> {
    let installed = state.installed_version().to_owned();
    let wanted = match &step.inputs.version {
        Some(_) => offer.version.clone(),
        None => installed.clone(),
    };
    let is_gone = matches!(state.state, State::None | State::Uninstalled);
    if installed.is_empty() || wanted != installed || is_gone {
        trace.info(&format!("version: {wanted} is not installed"));
        return Ok(false);
    }
    ensure(step, offer, &installed, work).await?;
    work.plan.old = Some(installed);
    Ok(true)
}

/// The version that has to go before another one comes. One that failed is there in parts.
fn installed_version(state: &InstallState) -> String {
    match state.state {
        State::None => String::new(),
        State::Failed => state.version.clone(),
        _ => state.installed_version().to_owned(),
    }
}

/// How the version `new` stands. That something was under way counts only if it asked for a reboot;
/// otherwise an agent died in the middle of it.
fn standing(state: &InstallState, new: &str, has_rebooted: bool) -> Standing {
    let is_new = state.version == new;
    match state.state {
        State::Installed if is_new => Standing::Installed,
        State::Unknown if is_new => Standing::Unknown,
        State::Installing | State::Updating if is_new && has_rebooted => Standing::Installing,
        State::RollbackUninstall if is_new && has_rebooted => Standing::RollbackUninstall,
        State::RollbackInstall
            if has_rebooted && !is_new && state.version == state.last_installed_version =>
        {
            Standing::RollbackInstall
        }
        _ => Standing::Absent,
    }
}

/// Brings a version that is not here, or not whole.
async fn ensure(step: &Step<'_>, offer: &Offer, version: &str, work: &Work) -> Result<(), String> {
    if step.repository.check(&offer.package, version).is_ok() {
        return Ok(());
    }
    if version == offer.version {
        return bring(step, offer, work).await;
    }
    let other = step.service.find_again(offer, version).await?;
    if other.package != offer.package || other.version != version {
        let (package, got) = (&offer.package, &other.version);
        return Err(format!(
            "failed to download manifest - asked for {package} {version}, the service has {got}"
        ));
    }
    bring(step, &other, work).await
}

/// Downloads and unpacks a version.
async fn bring(step: &Step<'_>, offer: &Offer, work: &Work) -> Result<(), String> {
    let source = offer.source(&work.host)?;
    let (package, version) = (&offer.package, &offer.version);
    let file = step.repository.download(package, version);
    let file =
        file.map_err(|error| format!("failed to create directory for downloads: {error}"))?;
    let client = step.service.client;
    let mut fetched = fetch::fetch(client, &source, &file).await;
    if fetched.is_err()
        && let Ok(again) = step.service.find_again(offer, version).await
        && again.manifest == offer.manifest
        && let Ok(source) = again.source(&work.host)
    {
        // The place may have been named for a while only.
        fetched = fetch::fetch(client, &source, &file).await;
    }
    let unpacked = match fetched {
        Ok(()) => unpack(step, offer, work, &file).await,
        Err(error) => Err(format!(
            "failed to download installation package reliably, {}, {}",
            shown(&source),
            in_one_line(&error)
        )),
    };
    // Whatever comes of it, nobody needs it any more.
    let _ = tokio::fs::remove_file(&file).await;
    unpacked
}

async fn unpack(step: &Step<'_>, offer: &Offer, work: &Work, file: &Path) -> Result<(), String> {
    let (repository, package) = (step.repository.clone(), offer.package.clone());
    let (version, archive) = (offer.version.clone(), file.to_owned());
    let lock = Arc::clone(&work.lock);
    let unpacking = tokio::task::spawn_blocking(move || {
        // A cancellation does not wait for this, so that nobody else may begin before it is over.
        let _lock = lock;
        let unpacked = repository.unpack(&package, &version, &archive);
        unpacked.map_err(|error| {
            let place = repository.version(&package, &version);
            format!(
                "failed to extract package installer package {} from {}, {error}",
                archive.display(),
                place.display()
            )
        })?;
        repository
            .check(&package, &version)
            .map_err(|error| error.to_string())
    });
    unpacking
        .await
        .unwrap_or_else(|error| Err(format!("failed to extract package: {error}")))
}

/// Where the file is, without the part of the URL that lets one have it.
fn shown(source: &Source) -> String {
    let mut url = source.url.clone();
    url.set_query(None);
    let _ = url.set_password(None);
    url.to_string()
}
