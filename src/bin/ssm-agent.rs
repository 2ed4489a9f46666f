//! The agent.

use std::ffi::OsString;
use std::process::ExitCode;

/// In packages this program is `ssm-cli` too, which takes a third of their size away:
/// `packaging/ssm-cli` calls it with this word.
const CLI: &str = "cli";

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|word| word == CLI) {
        arguments.splice(..2, ["ssm-cli".into()]);
        return ssm_agent::cli::main(arguments);
    }
    ssm_agent::agent::main()
}
