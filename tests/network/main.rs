//! Sessions over a network that is far away, drops packets, or goes away for a while.
//!
//! Each story has two hosts, network namespaces of its own, and between them a link in this process
//! that delays, drops and cuts. They are not among the tests of `cargo test`; run them with
//! `cargo test --test network`, with `-- --nocapture` to see what they measure. They need root,
//! `/dev/net/tun` and `ip` (iproute2), and never skip.
#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a test program fails by panicking; its helpers do too, and its figures have three digits"
)]

mod cuts;
mod distance;
mod host;
mod link;
mod loss;
#[allow(
    dead_code,
    reason = "shared by three test programs, each of which uses a part"
)]
#[path = "../e2e/programs.rs"]
mod programs;
#[allow(dead_code, reason = "shared with the figures, which use more of it")]
#[path = "../bench/figures/session.rs"]
mod session;
mod stage;
mod transfer;
