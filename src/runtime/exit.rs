//! Exit codes and the one place where a program's final error is printed (contract stub).

/// All went well.
pub const OK: u8 = 0;
/// The command failed.
pub const FAILURE: u8 = 1;
/// The command line or the configuration is wrong.
pub const USAGE: u8 = 2;
