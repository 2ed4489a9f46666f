//! Stories that need root: who a session runs as, the account that is made for sessions, and records
//! on disks that are full.
//!
//! Each runs in a mount namespace of its own with a copy of `/etc` and an empty `/home`, so that the
//! host they run on stays as it is. They are not among the tests of `cargo test`; run them with
//! `cargo test --test root`. They need `useradd` and `sudo`, and never skip.
#![allow(
    clippy::unwrap_used,
    reason = "a test program fails by panicking; its helpers do too"
)]

mod disk;
mod namespace;
mod pam;
mod recording;
mod run_as;
mod ssm_user;
mod world;
