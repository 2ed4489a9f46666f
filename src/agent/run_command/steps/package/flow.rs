//! The order of a package's scripts: what follows one by how it ended. It decides only; nothing is run
//! or written here.
//!
//! ```text
//!  Check --not installed--> Uninstall old --> Install new --> Validate --> installed
//!                                                  | failed       | failed
//!                                                  v              v
//!                            failed <-- Validate <-- Install old <-- Uninstall new
//! ```
//!
//! In place, `Update` stands for the first two. A script may ask for a reboot; the next run goes on from
//! the state that was noted.

use serde::{Deserialize, Serialize};

use super::state::State;
use crate::protocol::wire::command::Status;

/// What is to be done with a package, and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) package: String,
    /// The version to install; none if it is to be uninstalled.
    pub(super) new: Option<String>,
    /// The version that goes, or that comes back if the new one fails.
    pub(super) old: Option<String>,
    /// Whether the new version takes the place of the old one by its update script.
    pub(super) in_place: bool,
    pub(super) standing: Standing,
    /// Whether the manifest is not the one by which the version was installed.
    pub(super) is_changed: bool,
}

/// How the version to install stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Standing {
    /// It is not here.
    Absent,
    /// It is installed.
    Installed,
    /// It is here, and nobody wrote down how.
    Unknown,
    /// A reboot was asked for while it was installed or updated.
    Installing,
    /// While the old version was installed again in its place.
    RollbackInstall,
    /// While it was uninstalled because it failed.
    RollbackUninstall,
}

/// A version that a script is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    New,
    Old,
}

/// A script to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// Whether there is anything to do.
    Check,
    Uninstall {
        rollback: bool,
    },
    Install {
        rollback: bool,
    },
    Update,
    /// Whether what was done had success.
    Validate {
        rollback: bool,
    },
}

/// How a script ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Success,
    /// The package has no such script.
    Missing,
    Reboot,
    Failed(Status),
    Cancelled,
}

/// How a step ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum End {
    Success,
    Failed,
    Cancelled,
    Reboot,
}

/// What follows a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Transition {
    /// What is told.
    pub(super) info: Option<String>,
    pub(super) error: Option<String>,
    /// What is deleted.
    pub(super) remove: Option<Subject>,
    /// What is noted.
    pub(super) state: Option<(Subject, State)>,
    pub(super) next: Next,
}

/// Another script, or the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Run(Phase),
    End(End),
}

impl Phase {
    /// The word for it, which names the script too.
    pub(super) fn action(self) -> &'static str {
        match self {
            Self::Check | Self::Validate { .. } => "validate",
            Self::Uninstall { .. } => "uninstall",
            Self::Install { .. } => "install",
            Self::Update => "update",
        }
    }
}

impl Transition {
    fn to(next: Next) -> Self {
        Self {
            info: None,
            error: None,
            remove: None,
            state: None,
            next,
        }
    }

    fn end(end: End, subject: Subject, state: State) -> Self {
        Self {
            state: Some((subject, state)),
            ..Self::to(Next::End(end))
        }
    }

    fn telling(self, text: String) -> Self {
        Self {
            info: Some(text),
            ..self
        }
    }

    fn complaining(self, text: String) -> Self {
        Self {
            error: Some(text),
            ..self
        }
    }

    fn removing(self, subject: Option<Subject>) -> Self {
        Self {
            remove: subject,
            ..self
        }
    }
}

impl Plan {
    /// The first script.
    pub(super) fn first(&self) -> Phase {
        match (self.new.is_some(), self.standing) {
            (false, _) => Phase::Uninstall { rollback: false },
            (true, Standing::Absent | Standing::RollbackUninstall) => self.work(),
            (
                true,
                Standing::Installed
                | Standing::Unknown
                | Standing::Installing
                | Standing::RollbackInstall,
            ) => Phase::Check,
        }
    }

    /// The version that a script is run for.
    pub(super) fn subject(&self, phase: Phase) -> Subject {
        let is_old = match phase {
            Phase::Check => self.standing == Standing::RollbackInstall,
            Phase::Uninstall { rollback } => !rollback,
            Phase::Install { rollback } | Phase::Validate { rollback } => rollback,
            Phase::Update => false,
        };
        if is_old { Subject::Old } else { Subject::New }
    }

    /// A version as text.
    pub(super) fn version(&self, subject: Subject) -> &str {
        let version = match subject {
            Subject::New => &self.new,
            Subject::Old => &self.old,
        };
        version.as_deref().unwrap_or_default()
    }

    /// What is noted before a script runs.
    pub(super) fn state_during(&self, phase: Phase) -> Option<State> {
        match phase {
            Phase::Check | Phase::Validate { .. } => None,
            Phase::Uninstall { rollback: true } => Some(State::RollbackUninstall),
            Phase::Uninstall { rollback: false } if self.new.is_some() => Some(State::Upgrading),
            Phase::Uninstall { rollback: false } => Some(State::Uninstalling),
            Phase::Install { rollback: true } => Some(State::RollbackInstall),
            Phase::Install { rollback: false } => Some(State::Installing),
            Phase::Update => Some(State::Updating),
        }
    }

    /// What there is to do once it is known that it has to be done.
    fn work(&self) -> Phase {
        let install = if self.in_place && self.old.is_some() {
            Phase::Update
        } else {
            Phase::Install { rollback: false }
        };
        match self.standing {
            Standing::Installing => install,
            Standing::RollbackInstall => Phase::Install { rollback: true },
            Standing::RollbackUninstall => Phase::Uninstall { rollback: true },
            Standing::Absent | Standing::Installed | Standing::Unknown => {
                if self.old.is_some() && !self.in_place {
                    Phase::Uninstall { rollback: false }
                } else {
                    install
                }
            }
        }
    }

    /// What follows the script of `phase`.
    pub(super) fn after(&self, phase: Phase, outcome: &Outcome) -> Transition {
        if *outcome == Outcome::Cancelled {
            let state = match phase {
                Phase::Check => return Transition::to(Next::End(End::Cancelled)),
                _ => State::Failed,
            };
            return Transition::end(End::Cancelled, self.subject(phase), state);
        }
        match phase {
            Phase::Check => self.after_check(outcome),
            Phase::Uninstall { rollback } => self.after_uninstall(rollback, outcome),
            Phase::Install { rollback } => match outcome {
                Outcome::Success | Outcome::Missing => {
                    Transition::to(Next::Run(Phase::Validate { rollback }))
                }
                Outcome::Reboot => Transition::to(Next::End(End::Reboot)),
                _ => self.after_failure(rollback, outcome),
            },
            Phase::Update => match outcome {
                Outcome::Success => Transition::to(Next::Run(Phase::Validate { rollback: false })),
                Outcome::Reboot => Transition::to(Next::End(End::Reboot)),
                // Nothing was done, so that there is nothing to roll back.
                Outcome::Missing => Transition::end(End::Failed, Subject::New, State::Failed)
                    .complaining(MISSING_UPDATE.to_owned()),
                _ => self.after_failure(false, outcome),
            },
            Phase::Validate { rollback } => match outcome {
                Outcome::Success | Outcome::Missing if rollback => self.rolled_back(),
                Outcome::Success | Outcome::Missing => self.installed(),
                Outcome::Reboot => Transition::to(Next::End(End::Reboot)),
                _ => self.after_failure(rollback, outcome),
            },
        }
    }

    fn after_check(&self, outcome: &Outcome) -> Transition {
        let (package, new) = (&self.package, self.version(Subject::New));
        let is_fine = matches!(outcome, Outcome::Success | Outcome::Missing);
        match self.standing {
            Standing::Installing if is_fine => self.installed(),
            Standing::RollbackInstall if is_fine => self.rolled_back(),
            Standing::Installed if is_fine && !self.is_changed => {
                Transition::to(Next::End(End::Success))
                    .telling(format!("{package} {new} is already installed"))
            }
            // Nobody wrote down that it was installed: its own script has to say so.
            Standing::Unknown if *outcome == Outcome::Success && !self.is_changed => {
                Transition::end(End::Success, Subject::New, State::Installed)
                    .telling(format!("{package} {new} is already installed"))
            }
            _ => Transition::to(Next::Run(self.work())),
        }
    }

    fn after_uninstall(&self, rollback: bool, outcome: &Outcome) -> Transition {
        let subject = self.subject(Phase::Uninstall { rollback });
        let version = self.version(subject);
        let install = Next::Run(Phase::Install { rollback });
        match outcome {
            Outcome::Reboot => Transition::to(Next::End(End::Reboot)),
            Outcome::Success | Outcome::Missing => {
                let text = format!("Successfully uninstalled {} {version}", self.package);
                if self.new.is_some() {
                    return Transition::to(install).telling(text);
                }
                Transition::end(End::Success, subject, State::None)
                    .telling(text)
                    .removing(Some(subject))
            }
            Outcome::Failed(_) | Outcome::Cancelled => {
                let text = format!(
                    "Failed to uninstall version {version} of package; uninstall status {}",
                    status(outcome)
                );
                // What is left of it does not keep the other version from being tried.
                if self.new.is_some() {
                    return Transition::to(install).complaining(text);
                }
                Transition::end(End::Failed, subject, State::Failed).complaining(text)
            }
        }
    }

    fn after_failure(&self, rollback: bool, outcome: &Outcome) -> Transition {
        let text = format!(
            "Failed to install package; install status {}",
            status(outcome)
        );
        // Of one version there is nothing else to go back to.
        let can_roll_back = !rollback && self.old.is_some() && self.old != self.new;
        if can_roll_back {
            let next = Next::Run(Phase::Uninstall { rollback: true });
            return Transition::to(next).complaining(text);
        }
        let subject = self.subject(Phase::Install { rollback });
        Transition::end(End::Failed, subject, State::Failed).complaining(text)
    }

    fn installed(&self) -> Transition {
        let text = format!(
            "Successfully installed {} {}",
            self.package,
            self.version(Subject::New)
        );
        let is_other = self.old.is_some() && self.old != self.new;
        Transition::end(End::Success, Subject::New, State::Installed)
            .telling(text)
            .removing(is_other.then_some(Subject::Old))
    }

    fn rolled_back(&self) -> Transition {
        let package = &self.package;
        let text = format!(
            "Failed to install {package} {}, successfully rolled back to {package} {}",
            self.version(Subject::New),
            self.version(Subject::Old)
        );
        Transition::end(End::Failed, Subject::Old, State::Installed)
            .telling(text)
            .removing(Some(Subject::New))
    }
}

const MISSING_UPDATE: &str = "missing update script required for in-place update\nPlease create a Distributor package with update script and retry the install with 'In-place update' installation type, or choose 'Uninstall and reinstall' installation type";

fn status(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Failed(status) => status.as_str(),
        Outcome::Cancelled => Status::Cancelled.as_str(),
        Outcome::Success | Outcome::Missing | Outcome::Reboot => Status::Success.as_str(),
    }
}

#[cfg(test)]
mod tests;
