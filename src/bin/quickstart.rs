//! One command from nothing to a recorded shell on this host.

use std::process::ExitCode;

fn main() -> ExitCode {
    ssm_agent::quickstart::main()
}
