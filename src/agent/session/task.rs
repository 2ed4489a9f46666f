//! One session from its start message to its outcome: checks what is asked for and runs its kind.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::info;

use super::kind::Kind;
use super::outcome::{Outcome, in_one_line};
use super::settings::Settings;
use super::shell;
use crate::agent::host::users::SsmUser;
use crate::agent::transcript::Transcript;
use crate::protocol::wire::control::StartSession;
use crate::transport::Connector;

/// What all sessions share.
pub(super) struct Context {
    pub(super) settings: Settings,
    pub(super) transcript: Transcript,
    pub(super) ssm_user: SsmUser,
    /// Cancelled when the agent stops.
    pub(super) stopping: CancellationToken,
}

/// One session: what was asked for, and what ends it.
pub(super) struct Session {
    pub(super) context: Arc<Context>,
    pub(super) start: StartSession,
    /// Cancelled when this session shall end, and when the agent stops.
    pub(super) cancel: CancellationToken,
}

/// Runs a session to its end.
pub(super) async fn run<C: Connector>(session: Session, connector: C) -> Outcome {
    let id = session.start.session_id.clone();
    let kind = match check(&session.start) {
        Ok(kind) => kind,
        Err(refusal) => {
            info!(refusal, "session refused");
            return Outcome::failed(id, refusal);
        }
    };
    info!(
        kind = kind.name(),
        document = session.start.document_name,
        owner = session.start.session_owner,
        "session starts"
    );
    let outcome = match kind {
        Kind::Shell(shell) => shell::run(shell, session, connector).await,
    };
    info!(
        status = ?outcome.status,
        output = outcome.output,
        exit_code = outcome.exit_code,
        "session ended"
    );
    outcome
}

/// Resolves the document and picks the kind; the error is the text for the person.
fn check(start: &StartSession) -> Result<Kind, String> {
    let document = start
        .document_content
        .resolve(&start.parameters)
        .map_err(|error| in_one_line(&error))?;
    let preferences = document
        .preferences()
        .map_err(|error| in_one_line(&error))?;
    if !preferences.kms_key_id.is_empty() {
        return Err(
            "the session preferences ask for KMS encryption, which is not available in this build of the agent"
                .to_owned(),
        );
    }
    Kind::of(&document).map_err(|error| in_one_line(&error))
}
