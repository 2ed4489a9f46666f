//! Exit codes and the one place where a program's final error is printed.

use std::error::Error;
use std::fmt::Write as _;

/// All went well.
pub const OK: u8 = 0;
/// The command failed.
pub const FAILURE: u8 = 1;
/// The command line or the configuration is wrong.
pub const USAGE: u8 = 2;
/// There is no running agent to ask; as `systemctl status`.
pub const NOT_RUNNING: u8 = 3;
/// Added to the number of a signal that ended the program, as shells do.
pub const SIGNAL_BASE: u8 = 128;
/// A command of `ssm-cli` failed; as in the reference.
pub const REFUSED: u8 = 255;
/// A client left its session, or lost it for good, while the other side was still running; as `ssh`.
pub const DISCONNECTED: u8 = 255;

/// An error with the next step for the person who reads it:
/// `.map_err(|error| Hint::with(error, "..."))` puts one anywhere in
/// the chain, and [`report`] prints it last.
#[derive(Debug)]
pub struct Hint {
    text: String,
    source: Box<dyn Error + Send + Sync>,
}

impl Hint {
    /// Adds a hint to `source`.
    pub fn with(source: impl Into<Box<dyn Error + Send + Sync>>, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            source: source.into(),
        }
    }

    /// The error that the hint is for.
    pub fn error(&self) -> &(dyn Error + Send + Sync + 'static) {
        self.source.as_ref()
    }
}

impl std::fmt::Display for Hint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.source.fmt(f)
    }
}

impl Error for Hint {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.source()
    }
}

/// Prints `error: …`, a `caused by: …` line for each cause, and the `hint: …` if there is one, to
/// standard error.
pub fn report(error: &(dyn Error + 'static)) {
    // A closed standard error leaves nobody to tell.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), describe(error).as_bytes());
}

/// The text that [`report`] prints.
pub fn describe(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut hint = None;
    let mut above = String::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        if hint.is_none() {
            hint = cause.downcast_ref::<Hint>().map(|hint| hint.text.as_str());
        }
        let line = cause.to_string();
        // An error that spells out its source ("cannot connect: refused") has said it already.
        if above.is_empty() {
            let _ = writeln!(text, "error: {line}");
        } else if !above.ends_with(&line) {
            let _ = writeln!(text, "caused by: {line}");
        }
        above = line;
        next = cause.source();
    }
    if let Some(hint) = hint {
        let _ = writeln!(text, "hint: {hint}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum TestError {
        #[error("cannot read the vault")]
        Vault(#[source] std::io::Error),
        #[error("cannot register: {0}")]
        Spelled(#[source] Box<TestError>),
    }

    #[test]
    fn each_cause_has_its_line() {
        let error = TestError::Vault(std::io::Error::other("permission denied"));

        assert_eq!(
            describe(&error),
            "error: cannot read the vault\ncaused by: permission denied\n"
        );
    }

    #[test]
    fn a_cause_that_was_spelled_out_is_not_repeated() {
        let vault = TestError::Vault(std::io::Error::other("permission denied"));
        let error = TestError::Spelled(Box::new(vault));

        assert_eq!(
            describe(&error),
            "error: cannot register: cannot read the vault\ncaused by: permission denied\n"
        );
    }

    #[test]
    fn a_hint_comes_last_and_is_found_anywhere_in_the_chain() {
        let vault = TestError::Vault(std::io::Error::other("permission denied"));
        let error = anyhow::Error::new(Hint::with(vault, "run it as root")).context("cannot start");

        assert_eq!(
            describe(error.as_ref()),
            "error: cannot start\ncaused by: cannot read the vault\n\
             caused by: permission denied\nhint: run it as root\n"
        );
    }
}
