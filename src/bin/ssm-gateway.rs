//! The control endpoint.

use std::process::ExitCode;

fn main() -> ExitCode {
    ssm_agent::gateway::main()
}
