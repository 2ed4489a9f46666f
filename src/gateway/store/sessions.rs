//! Sessions (contract stub).

pub(super) const SCHEMA: &str = "";
