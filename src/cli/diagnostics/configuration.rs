//! Whether the agent can read its configuration.

use super::subject::Subject;
use super::verdict::Verdict;

/// Reads it as the agent does.
pub(super) fn check(subject: &Subject) -> Verdict {
    let path = subject.places.config.display();
    match &subject.settings {
        Err(missing) => Verdict::failed(&missing.note, &missing.hint),
        Ok(_) if !subject.places.config.exists() => {
            Verdict::success(format!("{path} does not exist, the defaults apply"))
        }
        Ok(_) if subject.warnings.is_empty() => Verdict::success(format!("{path} is usable")),
        Ok(_) => Verdict::success(format!(
            "{path} is usable, but: {}",
            subject.warnings.join("; ")
        )),
    }
}
