//! The login step: a process of our own program that becomes a user's login shell.
//!
//! ```text
//! agent --spawn on a terminal--> PROGRAM login [--user U] … --exec--> -bash
//! ```
//!
//! Everything that must happen between fork and exec happens here instead, in an ordinary
//! single-threaded process: session, controlling terminal, signals, limits, owner of the terminal, groups, user, folder,
//! environment. `request` is what the agent asks for, `plan` decides without touching anything,
//! `enter` does it.

mod enter;
mod plan;
mod request;

use std::ffi::OsString;
use std::process::ExitCode;

pub use enter::LoginError;
pub use request::{Request, RequestError};

/// The word that makes a program of ours run this step; its arguments follow.
pub const SUBCOMMAND: &str = "login";

/// Runs the login step with the arguments after [`SUBCOMMAND`]. It returns only on failure, having
/// told the person at the terminal.
///
/// Call it first in `main`, before anything starts a thread: the change of user is made for a
/// process with one thread.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let request = match Request::parse(args) {
        Ok(request) => request,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(crate::runtime::exit::USAGE);
        }
    };
    let error = enter::run(&request);
    eprintln!("error: {error}");
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        eprintln!("caused by: {error}");
        cause = error.source();
    }
    ExitCode::from(error.exit_code())
}

#[cfg(test)]
mod tests;
