//! End to end: our real programs on the loopback interface, with a real shell.

mod programs;
mod quickstart;
mod sessions;
