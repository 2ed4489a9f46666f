//! Golden vectors, round trips and malformed input of every wire format.
#![allow(
    clippy::unwrap_used,
    reason = "a test program fails by panicking; its helpers do too"
)]

mod golden;
mod malformed;
mod round_trip;
