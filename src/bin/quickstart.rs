//! One command from nothing to a recorded shell on this host.

fn main() {}
