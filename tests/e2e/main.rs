//! End to end: our real programs on the loopback interface, with a real shell.
#![allow(
    clippy::unwrap_used,
    reason = "a test program fails by panicking; its helpers do too"
)]

mod bridge;
mod cli;
mod commands;
mod encryption;
mod keepers;
mod kms;
mod offline;
mod openssh;
mod ports;
#[allow(
    dead_code,
    reason = "shared by two test programs, each of which uses a part"
)]
mod programs;
mod quickstart;
mod recordings;
mod sessions;
mod shell;
mod uploads;
