//! Golden vectors, round trips and malformed input of every wire format.

mod golden;
mod malformed;
mod round_trip;
