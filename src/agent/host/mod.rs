//! Room host.
