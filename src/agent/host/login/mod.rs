//! The login step: a process of our own program that becomes a user's login shell.
//!
//! ```text
//! agent --spawn on a terminal--> PROGRAM login [--user U] … --exec--> -bash
//!                                       with --pam-service: --fork--> itself --exec--> -bash
//! ```
//!
//! Everything that must happen between fork and exec happens here instead, in an ordinary
//! single-threaded process: session, controlling terminal, signals, limits, owner of the terminal,
//! groups, user, folder, environment. `request` is what the agent asks for, `admission` says who may
//! log in, `plan` decides without touching anything, `enter` does it; without a terminal, `detach`
//! comes first. Where the host's rules for logins shall hold (`pam`), this process stays beside the
//! user's until the end (`attend`), and people at a terminal are written down (`presence`).

mod admission;
mod attend;
mod detach;
mod enter;
mod pam;
mod plan;
mod presence;
mod request;

use std::error::Error;
use std::ffi::OsString;
use std::process::ExitCode;

pub use admission::{Purpose, Refusal, admit};
pub use enter::LoginError;
pub use pam::PamError;
pub use request::{Request, RequestError};

use crate::runtime::exit;
use detach::{Report, detach};

/// The word that makes a program of ours run this step; its arguments follow.
pub const SUBCOMMAND: &str = "login";

/// Runs the login step with the arguments after [`SUBCOMMAND`]. It returns only on failure, having
/// told the person at the terminal, or the agent if there is no terminal.
///
/// Call it first in `main`, before anything starts a thread: the change of user is made for a
/// process with one thread.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let request = match Request::parse(args) {
        Ok(request) => request,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(exit::USAGE);
        }
    };
    let mut report = match request.detached.then(detach).transpose() {
        Ok(report) => report,
        Err(error) => {
            eprintln!("error: cannot give the standard input away: {error}");
            return ExitCode::from(exit::FAILURE);
        }
    };
    let error = enter::run(&request, &mut report);
    tell(&error, report);
    ExitCode::from(error.exit_code())
}

fn tell(error: &LoginError, report: Option<Report>) {
    if let Some(report) = report {
        let mut line = error.to_string();
        for cause in causes(error) {
            line.push_str(&format!(": {cause}"));
        }
        if report.tell(&line).is_ok() {
            return;
        }
    }
    eprintln!("error: {error}");
    for cause in causes(error) {
        eprintln!("caused by: {cause}");
    }
}

fn causes(error: &dyn Error) -> Vec<String> {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    causes
}

#[cfg(test)]
mod tests;
