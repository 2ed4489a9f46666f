//! xtaci smux version 1, which multiplexes TCP connections over one data channel.

pub mod frame;
