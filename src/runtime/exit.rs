//! Exit codes and the one place where a program's final error is printed (contract stub).

/// All went well.
pub const OK: u8 = 0;
/// The command failed.
pub const FAILURE: u8 = 1;
/// The command line or the configuration is wrong.
pub const USAGE: u8 = 2;
/// Added to the number of a signal that ended the program, as shells do.
pub const SIGNAL_BASE: u8 = 128;
/// A client left its session, or lost it for good, while the other side was still running; as `ssh`.
pub const DISCONNECTED: u8 = 255;
