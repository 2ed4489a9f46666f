//! Text that never shows in logs or debug output.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A private key, an activation code, a token: whoever wants to see it says so.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() {
            "Secret(empty)"
        } else {
            "Secret(…)"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_shows_in_json_but_not_in_debug_output() {
        let secret = Secret::new("hidden-text");

        assert_eq!(serde_json::to_string(&secret).unwrap(), r#""hidden-text""#);
        assert!(!format!("{secret:?}").contains("hidden"));
    }
}
