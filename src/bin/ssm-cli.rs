//! What an operator on a host asks of its agent.

use std::process::ExitCode;

fn main() -> ExitCode {
    ssm_agent::cli::main(std::env::args_os().collect())
}
