//! What a document says of a source: an object, or the JSON text of one.

use serde_json::{Map, Value};

use super::super::super::document::member;
use super::DownloadError;

/// The members of `sourceInfo`. It may hold passwords, so that no text repeats it.
pub(super) struct SourceInfo(Map<String, Value>);

impl SourceInfo {
    /// Reads it.
    pub(super) fn read(value: &Value) -> Result<Self, DownloadError> {
        let object = match value {
            Value::Object(members) => Some(members.clone()),
            Value::String(text) => match serde_json::from_str(text) {
                Ok(Value::Object(members)) => Some(members),
                Ok(_) | Err(_) => None,
            },
            _ => None,
        };
        object
            .map(Self)
            .ok_or_else(|| invalid("sourceInfo must be an object, or the JSON text of one"))
    }

    /// A text without spaces around it; empty if absent.
    pub(super) fn text(&self, name: &str) -> Result<String, DownloadError> {
        self.exact_text(name).map(|text| text.trim().to_owned())
    }

    /// A text as it is; empty if absent.
    pub(super) fn exact_text(&self, name: &str) -> Result<String, DownloadError> {
        match member(&self.0, name) {
            None => Ok(String::new()),
            Some(Value::String(text)) if !text.contains('\0') => Ok(text.clone()),
            Some(_) => Err(invalid(&format!("sourceInfo.{name} must be a string"))),
        }
    }

    /// A boolean, or the text of one; false if absent.
    pub(super) fn flag(&self, name: &str) -> Result<bool, DownloadError> {
        let flag = match member(&self.0, name) {
            None => Some(false),
            Some(Value::Bool(flag)) => Some(*flag),
            Some(Value::String(text)) => match text.trim().to_ascii_lowercase().as_str() {
                "" => Some(false),
                word => word.parse().ok(),
            },
            Some(_) => None,
        };
        flag.ok_or_else(|| invalid(&format!("sourceInfo.{name} must be true or false")))
    }
}

/// Inputs that cannot be read. The reference repeats them, passwords and all.
pub(super) fn invalid(what: &str) -> DownloadError {
    DownloadError::Input(format!(
        "Invalid format in plugin properties;\nerror {what}"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn object_and_its_text_say_the_same() {
        for value in [
            json!({"URL": " u ", "allowInsecureDownload": true, "n": null}),
            json!(r#"{"url": "u", "allowinsecuredownload": "True"}"#),
        ] {
            let info = SourceInfo::read(&value).unwrap();
            assert_eq!(info.text("url").unwrap(), "u");
            assert!(info.flag("allowInsecureDownload").unwrap());
            assert_eq!(info.text("n").unwrap(), "");
        }
    }

    #[test]
    fn what_is_no_such_thing_is_refused_without_repeating_it() {
        for value in [
            json!("secret"),
            json!(["secret"]),
            json!(r#"["secret"]"#),
            json!(7),
        ] {
            let refused = SourceInfo::read(&value).err().unwrap().to_string();
            assert!(!refused.contains("secret"), "{refused}");
        }
        let info = SourceInfo::read(&json!({"password": ["secret"], "flag": "secret"})).unwrap();
        assert!(
            !info
                .text("password")
                .unwrap_err()
                .to_string()
                .contains("\"secret")
        );
        assert!(
            !info
                .flag("flag")
                .unwrap_err()
                .to_string()
                .contains("secret")
        );
    }
}
