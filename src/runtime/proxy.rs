//! Which proxy the environment names for a host (contract stub).
