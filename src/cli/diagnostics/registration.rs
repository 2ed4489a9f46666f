//! Whether this host is registered with an activation.

use super::subject::Subject;
use super::verdict::Verdict;
use crate::agent::identity::{Kind, Vault};
use crate::runtime::cause::in_one_line;

/// Reads the vault.
pub(super) fn check(subject: &Subject) -> Verdict {
    if let Ok(who) = &subject.who
        && who.kind == Kind::OnPrem
    {
        return Verdict::success(format!(
            "Instance has hybrid registration with instance id {} in region {}",
            who.node_id, who.region
        ));
    }
    match Vault::new(&subject.places.state).registration() {
        Ok(_) => Verdict::skipped("Instance does not have hybrid registration"),
        Err(error) => Verdict::failed(
            in_one_line(&error),
            "run it as root; a damaged registration is made anew with `ssm-agent register`",
        ),
    }
}
