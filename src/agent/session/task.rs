//! One session from its start message to its outcome: checks what is asked for and runs its kind.

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use tokio::select;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::command;
use super::encryption::kms_key_id;
use super::end::{End, Stop};
use super::kind::Kind;
use super::outcome::Outcome;
use super::settings::Settings;
use super::terminal::DEFAULT_SIZE;
use super::trail::{self, Trail};
use super::{port, shell};
use crate::agent::host::users::SsmUser;
use crate::agent::parameter_store::look_up;
use crate::agent::transcript::{About, Target, Transcript};
use crate::protocol::wire::TerminalSize;
use crate::protocol::wire::control::StartSession;
use crate::protocol::wire::session_document::SessionDocument;
use crate::runtime::cause::in_one_line;
use crate::transport::{Connector, PumpSettings};

/// What all sessions share.
pub(super) struct Context {
    pub(super) settings: Settings,
    pub(super) transcript: Transcript,
    pub(super) ssm_user: SsmUser,
    /// Cancelled when all sessions have to end.
    pub(super) stopping: CancellationToken,
    /// Why they have to.
    pub(super) stop: OnceLock<Stop>,
}

/// One session: what was asked for, and what ends it.
pub(super) struct Session {
    pub(super) context: Arc<Context>,
    pub(super) start: StartSession,
    /// The KMS key that the session's data is to be encrypted with, once the document was read.
    pub(super) kms_key_id: Option<String>,
    /// The services that get its record, once the document was read.
    pub(super) targets: Vec<Target>,
    /// Liveness of its data channel, as the document wants it once that was read.
    pub(super) pump: PumpSettings,
    /// Cancelled when this session shall end, and when the agent stops.
    pub(super) cancel: CancellationToken,
}

impl Session {
    /// What its record says of it: `user` is who it runs as, `command` what runs.
    pub(super) fn about(&self, user: &str, command: &str, size: TerminalSize) -> About {
        let start = &self.start;
        About {
            session_id: start.session_id.clone(),
            node_id: self.context.settings.node_id.clone(),
            user: user.to_owned(),
            owner: start.session_owner.clone(),
            document: start.document_name.clone(),
            reason: start.reason.clone(),
            size,
            started: SystemTime::now(),
            command: command.to_owned(),
        }
    }
}

/// Runs a session to its end.
pub(super) async fn run<C: Connector>(mut session: Session, connector: C) -> Outcome {
    let id = session.start.session_id.clone();
    let checked = select! {
        checked = check(&session) => checked,
        () = session.cancel.cancelled() => {
            let outcome = End::of_cancelled(&session).outcome(id);
            trail::refuse(&session.context, &session.start, &outcome.reason);
            return outcome;
        }
    };
    let kind = match checked {
        Ok(Checked {
            kind,
            kms_key_id,
            targets,
            pump,
        }) => {
            session.kms_key_id = kms_key_id;
            session.targets = targets;
            session.pump = pump;
            kind
        }
        Err(refusal) => {
            info!(refusal, "session refused");
            trail::refuse(&session.context, &session.start, &refusal);
            return Outcome::failed(id, refusal);
        }
    };
    info!(
        kind = kind.name(),
        document = session.start.document_name,
        owner = session.start.session_owner,
        encrypted = session.kms_key_id.is_some(),
        "session starts"
    );
    let trail = Trail::start(&session, &kind);
    let outcome = match kind {
        Kind::Shell(shell) => shell::run(shell, session, connector).await,
        Kind::Command(command) => command::run(command, session, connector).await,
        Kind::Port(port) => port::run(port, session, connector).await,
    };
    info!(
        status = ?outcome.status,
        output = outcome.output,
        exit_code = outcome.exit_code,
        "session ended"
    );
    trail.end(&outcome);
    outcome
}

/// What a document asks for.
struct Checked {
    kind: Kind,
    kms_key_id: Option<String>,
    targets: Vec<Target>,
    pump: PumpSettings,
}

/// Resolves the document, picks the kind and the KMS key that is wanted, and asks the services that
/// shall get the record; the error is the text for the person.
async fn check(session: &Session) -> Result<Checked, String> {
    let Session { context, start, .. } = session;
    let document = resolve(session).await?;
    let preferences = document
        .preferences()
        .map_err(|error| in_one_line(&error))?;
    let kind = Kind::of(
        &document,
        &preferences,
        &start.run_as_user,
        context.settings.in_container,
    );
    let kind = kind.map_err(|error| in_one_line(&error))?;
    let kms_key_id = kms_key_id(&preferences, &kind);
    if kms_key_id.is_some() && context.settings.keys.is_none() {
        return Err(
            "the session preferences ask for KMS encryption, which is not available to this agent"
                .to_owned(),
        );
    }
    let targets = match kind {
        Kind::Shell(_) => Some(context.settings.record.targets(&preferences)),
        Kind::Command(_) => Some(context.settings.record.targets_of_command(&preferences)),
        // Its bytes are not recorded.
        Kind::Port(_) => None,
    };
    if let Some(targets) = &targets {
        let about = session.about(&start.run_as_user, "", DEFAULT_SIZE);
        context.transcript.check(about, targets).await?;
    }
    Ok(Checked {
        kind,
        kms_key_id,
        targets: targets.unwrap_or_default(),
        pump: context.settings.pump_of(&preferences),
    })
}

async fn resolve(session: &Session) -> Result<SessionDocument, String> {
    let document = &session.start.document_content;
    let values = &session.start.parameters;
    let names = document
        .references(values)
        .map_err(|error| in_one_line(&error))?;
    let store = session.context.settings.parameters.as_deref();
    let stored = look_up(store, &names).await?;
    document
        .resolve_with(values, &stored)
        .map_err(|error| in_one_line(&error))
}
