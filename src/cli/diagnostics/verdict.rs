//! What a check found.

use serde::Serialize;

/// A check and what it found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Finding {
    /// The check.
    pub(crate) check: String,
    /// What it found.
    #[serde(flatten)]
    pub(crate) verdict: Verdict,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Verdict {
    /// In one word.
    pub(crate) status: Outcome,
    /// In a sentence.
    pub(crate) note: String,
    /// The next step, of what failed. The reference has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

/// It in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Outcome {
    /// All is well.
    Success,
    /// It does not matter here, or cannot be found out.
    Skipped,
    /// Something is to be done.
    Failed,
}

impl Outcome {
    /// The word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Success => "Success",
            Self::Skipped => "Skipped",
            Self::Failed => "Failed",
        }
    }
}

impl Verdict {
    /// All is well.
    pub(crate) fn success(note: impl Into<String>) -> Self {
        Self {
            status: Outcome::Success,
            note: note.into(),
            hint: None,
        }
    }

    /// It does not matter here, or cannot be found out.
    pub(crate) fn skipped(note: impl Into<String>) -> Self {
        Self {
            status: Outcome::Skipped,
            note: note.into(),
            hint: None,
        }
    }

    /// Something is to be done: `hint`.
    pub(crate) fn failed(note: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            status: Outcome::Failed,
            note: note.into(),
            hint: Some(hint.into()),
        }
    }
}
