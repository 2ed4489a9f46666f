//! The smux frame header (stub; see the wire work).
