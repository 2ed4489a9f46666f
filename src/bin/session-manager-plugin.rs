//! The client under the name and argument contract that the AWS CLI expects.

use std::process::ExitCode;

fn main() -> ExitCode {
    ssm_agent::client::plugin::main()
}
