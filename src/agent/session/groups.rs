//! The control groups of sessions.

use tracing::warn;

use super::settings::Settings;
use crate::agent::host::control_group::{ControlGroup, Delegated};
use crate::protocol::wire::SessionId;

/// Makes the group of a session, if sessions have groups. A host in trouble is when a session is needed
/// most, so it goes without one rather than not at all.
pub(super) fn make(settings: &Settings, session: &SessionId) -> Option<ControlGroup> {
    let made = settings.control_groups.as_ref()?.make(&name(session));
    if let Err(error) = &made {
        warn!(%error, "the session gets no control group of its own");
    }
    made.ok()
}

/// The group of a session that did not start.
pub(super) fn discard(group: Option<ControlGroup>) {
    if let Some(group) = group {
        group.remove();
    }
}

/// Kills what is left of a session whose keeper is gone. It may take some milliseconds.
pub fn end_left(session: &SessionId) {
    let left = Delegated::of_this_process().and_then(|groups| groups.find(&name(session)));
    if let Some(group) = left {
        group.end();
    }
}

fn name(session: &SessionId) -> String {
    format!("session-{session}")
}
