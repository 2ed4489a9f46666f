//! What tests of callers of AWS share.

pub(crate) mod server;
