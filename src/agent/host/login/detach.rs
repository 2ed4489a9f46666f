//! A login without a terminal: its own session, no input, and a way to tell the agent of a failure.
//!
//! The agent makes the writing end of a pipe the standard input. It is moved aside, closed on exec:
//! the agent reads either the reason of a failure or, once the command has taken over, nothing.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use nix::unistd::{dup2_stdin, setsid};

/// Where the agent listens for a failure.
pub(super) struct Report(File);

/// Leaves the agent's session and gives away the standard input.
///
/// # Errors
/// What the kernel says. Nobody but standard error can be told then.
pub(super) fn detach() -> io::Result<Report> {
    let report = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    dup2_stdin(File::open("/dev/null")?)?;
    setsid()?;
    Ok(Report(report))
}

impl Report {
    /// Tells the agent.
    ///
    /// # Errors
    /// What the kernel says; an agent that went away hears nothing.
    pub(super) fn tell(mut self, failure: &str) -> io::Result<()> {
        self.0.write_all(failure.as_bytes())
    }
}
