//! The two lines that `script(1)` writes around a session, which the reference's copies have.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::entry::{About, End};

/// The line before everything.
pub fn first_line(about: &About) -> String {
    let (time, command) = (clock(about.started), on_one_line(&about.command));
    format!("Script started on {time} [COMMAND=\"{command}\" <not executed on terminal>]\n")
}

/// What follows everything, on a line of its own.
pub fn last_line(about: &About, at: Duration, end: &End) -> String {
    let time = clock(about.started.checked_add(at).unwrap_or(about.started));
    match end.exit_code {
        Some(code) => format!("\nScript done on {time} [COMMAND_EXIT_CODE=\"{code}\"]\n"),
        // As `script` itself tells why it stopped.
        None => format!("\nScript done on {time} [<{}>]\n", on_one_line(&end.reason)),
    }
}

fn clock(time: SystemTime) -> String {
    let time = Timestamp::try_from(time).unwrap_or_default();
    time.strftime("%Y-%m-%d %H:%M:%S+00:00").to_string()
}

fn on_one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}
