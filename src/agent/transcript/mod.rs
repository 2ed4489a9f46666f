//! Room transcript.
