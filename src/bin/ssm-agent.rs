//! The agent.

use std::ffi::OsString;
use std::process::ExitCode;

/// In packages this program is `ssm-cli` too, which takes half of their size away: `packaging/ssm-cli`
/// calls it with this word.
const CLI: &str = "cli";

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|word| word == CLI) {
        arguments.remove(0);
        return ssm_agent::cli::main(arguments);
    }
    ssm_agent::agent::main()
}
