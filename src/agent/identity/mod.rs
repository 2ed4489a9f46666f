//! Room identity.
