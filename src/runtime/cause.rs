//! Errors in a line of a log or an answer.

use std::error::Error;

/// An error and its causes in one line. A cause that the error spells out itself is not repeated.
pub fn in_one_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Failure {
        text: &'static str,
        source: io::Error,
    }

    #[test]
    fn causes_follow_and_what_was_spelled_out_is_not_repeated() {
        for (text, expected) in [
            ("cannot read", "cannot read: no such thing"),
            ("cannot read: no such thing", "cannot read: no such thing"),
        ] {
            let source = io::Error::other("no such thing");
            assert_eq!(in_one_line(&Failure { text, source }), expected);
        }
    }
}
