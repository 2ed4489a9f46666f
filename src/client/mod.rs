//! The client: the person's end of a session.
