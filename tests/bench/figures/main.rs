//! The figures of the README, as ratios measured in one run:
//! `cargo bench --profile dist --bench figures`, with the build that packages have.
//!
//! Gateway and agent are processes of their own, the client runs in this one. What ours is measured
//! against does the same work without sessions: a plain pseudo-terminal, alone, over one TCP
//! connection, or through as many TLS connections as a session has. A word after `--` picks the
//! measurements whose names contain it; `--check` makes the run fail if a target that is a ratio, or
//! does not hang on the machine, is missed.
#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a measuring program fails by panicking; its figures have three digits"
)]

mod agent;
mod bucket;
mod commands;
mod echo;
mod many;
mod output;
mod plain;
mod ports;
#[allow(
    dead_code,
    reason = "shared by two test programs, each of which uses a part"
)]
#[path = "../../e2e/programs.rs"]
mod programs;
mod prompt;
mod recording;
mod report;
mod session;
mod stand_ins;

use std::process::ExitCode;

use report::Report;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_check = arguments.iter().any(|argument| argument == "--check");
    let filter = arguments
        .into_iter()
        .find(|argument| !argument.starts_with('-'))
        .unwrap_or_default();
    let mut report = Report::new(is_check);
    // As the client's program does.
    ssm_agent::runtime::memory::keep_freed();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        if "agent".contains(&filter) {
            agent::measure(&mut report).await;
        }
        if "prompt".contains(&filter) {
            prompt::measure(&mut report).await;
        }
        if "echo".contains(&filter) {
            echo::measure(&mut report).await;
        }
        if "output".contains(&filter) {
            output::measure(&mut report).await;
        }
        if "recording".contains(&filter) {
            recording::measure(&mut report).await;
        }
        if "ports".contains(&filter) {
            ports::measure(&mut report).await;
        }
        if "commands".contains(&filter) {
            commands::measure(&mut report).await;
        }
        if "many".contains(&filter) {
            many::measure(&mut report).await;
        }
    });
    report.end()
}
