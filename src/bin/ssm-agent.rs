//! The agent.

use std::process::ExitCode;

fn main() -> ExitCode {
    ssm_agent::agent::main()
}
