//! Room session.
