//! Document contents: JSON and YAML, read, written, and turned into each other.

use serde_json::Value;

use super::super::super::answer::ApiError;
use super::super::super::validation::not_in_set;

/// Largest content; AWS's limit, in bytes.
const SIZE_LIMIT: usize = 64 << 10;

/// How a content is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Yaml,
}

impl Format {
    /// The format that a request names; JSON if it names none.
    ///
    /// # Errors
    /// `ValidationException`.
    pub(super) fn parse(given: Option<&str>) -> Result<Self, ApiError> {
        match given {
            None | Some("JSON") => Ok(Self::Json),
            Some("YAML") => Ok(Self::Yaml),
            Some("TEXT") => Err(ApiError::validation(
                "Documents of type Session and Command are JSON or YAML, not TEXT.",
            )),
            Some(other) => Err(not_in_set(
                "documentFormat",
                other,
                &["YAML", "JSON", "TEXT"],
            )),
        }
    }

    /// AWS's word.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Yaml => "YAML",
        }
    }

    /// Reads a content.
    ///
    /// # Errors
    /// `MaxDocumentSizeExceeded`, `InvalidDocumentContent`.
    pub(super) fn read(self, text: &str) -> Result<Value, ApiError> {
        if text.len() > SIZE_LIMIT {
            let text = format!("The size limit of a document is {} KB.", SIZE_LIMIT >> 10);
            return Err(ApiError::new("MaxDocumentSizeExceeded", text));
        }
        match self {
            Self::Json => serde_json::from_str(text)
                .map_err(|error| invalid(format!("JSON not well-formed. {error}"))),
            Self::Yaml => serde_saphyr::from_str(text)
                .map_err(|error| invalid(format!("YAML not well-formed. {error}"))),
        }
    }

    /// Writes a content.
    ///
    /// # Errors
    /// `InternalServerError`; what was read can be written, so it does not come to that.
    pub(super) fn write(self, value: &Value) -> Result<String, ApiError> {
        match self {
            Self::Json => Ok(format!("{value:#}")),
            Self::Yaml => {
                serde_saphyr::to_string(value).map_err(|error| ApiError::internal(&error))
            }
        }
    }
}

/// A content that no document can have.
pub(super) fn invalid(text: String) -> ApiError {
    ApiError::new("InvalidDocumentContent", text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_reads_as_the_same_json_and_back() {
        let yaml = "schemaVersion: '1.0'\ndescription: |\n  two\n  lines\nsessionType: Port\n\
                    parameters:\n  portNumber: {type: String, default: \"22\"}\n\
                    properties:\n  portNumber: \"{{ portNumber }}\"\n  text: 'yes'\n  flag: true\n";
        let value = json!({
            "schemaVersion": "1.0", "description": "two\nlines\n", "sessionType": "Port",
            "parameters": {"portNumber": {"type": "String", "default": "22"}},
            "properties": {"portNumber": "{{ portNumber }}", "text": "yes", "flag": true}
        });

        assert_eq!(Format::Yaml.read(yaml).unwrap(), value);
        for format in [Format::Yaml, Format::Json] {
            let written = format.write(&value).unwrap();
            assert_eq!(format.read(&written).unwrap(), value, "{written}");
        }
    }

    #[test]
    fn content_that_is_broken_or_too_large_is_refused() {
        let large = format!("\"{}\"", "x".repeat(SIZE_LIMIT));
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n\
                    c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n\
                    e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
                    g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: &h [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n";
        for (format, text, code) in [
            (Format::Json, "{", "InvalidDocumentContent"),
            (Format::Json, "a: b", "InvalidDocumentContent"),
            (Format::Yaml, "a: [", "InvalidDocumentContent"),
            (Format::Yaml, "a: 1\na: 2", "InvalidDocumentContent"),
            (Format::Yaml, bomb, "InvalidDocumentContent"),
            (Format::Json, &large, "MaxDocumentSizeExceeded"),
        ] {
            assert_eq!(format.read(text).unwrap_err().code(), code, "{text:.40}");
        }
    }

    #[test]
    fn format_is_json_or_yaml() {
        assert_eq!(Format::parse(None).unwrap(), Format::Json);
        assert_eq!(Format::parse(Some("YAML")).unwrap(), Format::Yaml);
        for format in ["TEXT", "XML"] {
            let refused = Format::parse(Some(format)).unwrap_err();
            assert_eq!(refused.code(), "ValidationException", "{format}");
        }
    }
}
