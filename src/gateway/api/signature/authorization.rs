//! The `Authorization` header of a signed request.
//!
//! ```text
//! AWS4-HMAC-SHA256 Credential=<key id>/<date>/<region>/<service>/aws4_request,
//!                  SignedHeaders=<name>;<name>…, Signature=<signature>
//! ```
//!
//! Commas may or may not be followed by spaces. The RSA form has the same label.

use http::{HeaderMap, HeaderValue};

use super::SignatureError;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const TERMINATOR: &str = "aws4_request";

/// The parsed header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Authorization {
    pub(super) access_key_id: String,
    /// `date`, `region`, `service`, `aws4_request`.
    pub(super) scope: [String; 4],
    /// Lower-case names in the order given.
    pub(super) signed_headers: Vec<String>,
    pub(super) signature: String,
}

impl Authorization {
    /// Reads the header.
    ///
    /// # Errors
    /// [`SignatureError::Incomplete`].
    pub(super) fn parse(header: &HeaderValue) -> Result<Self, SignatureError> {
        let text = header
            .to_str()
            .map_err(|_| incomplete("Authorization header is not plain text."))?;
        let (algorithm, rest) = text.split_once(' ').unwrap_or((text, ""));
        if algorithm != ALGORITHM {
            return Err(incomplete(format!(
                "Unsupported AWS 'algorithm': '{algorithm}'"
            )));
        }
        let find = |name: &str| {
            let mut parts = rest
                .split(',')
                .filter_map(|part| part.trim().split_once('='));
            let found = parts.find(|(key, value)| *key == name && !value.is_empty());
            found.map(|(_, value)| value).ok_or_else(|| {
                incomplete(format!("Authorization header requires '{name}' parameter."))
            })
        };
        let (access_key_id, scope) = parse_credential(find("Credential")?)?;
        let signed_headers = find("SignedHeaders")?;
        Ok(Self {
            access_key_id,
            scope,
            signed_headers: signed_headers
                .split(';')
                .map(str::to_ascii_lowercase)
                .collect(),
            signature: find("Signature")?.to_owned(),
        })
    }

    /// Checks that the credential is scoped to `service`.
    ///
    /// # Errors
    /// [`SignatureError::Invalid`].
    pub(super) fn check_scope(&self, service: &str) -> Result<(), SignatureError> {
        let [_, _, scoped, terminator] = &self.scope;
        if terminator != TERMINATOR {
            return Err(SignatureError::Invalid(format!(
                "Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{terminator}'."
            )));
        }
        if scoped != service {
            return Err(SignatureError::Invalid(format!(
                "Credential should be scoped to correct service: '{service}'."
            )));
        }
        Ok(())
    }

    /// Checks that what decides the meaning of a request is signed: where it goes, when it was
    /// made and, if it is there, the operation.
    ///
    /// # Errors
    /// [`SignatureError::Invalid`].
    pub(super) fn check_signed_headers(&self, headers: &HeaderMap) -> Result<(), SignatureError> {
        let date = if headers.contains_key("x-amz-date") {
            "x-amz-date"
        } else {
            "date"
        };
        let target = headers
            .contains_key("x-amz-target")
            .then_some("x-amz-target");
        for name in ["host", date].into_iter().chain(target) {
            if !self.signed_headers.iter().any(|signed| signed == name) {
                return Err(SignatureError::Invalid(format!(
                    "'{name}' must be a 'SignedHeader' in the AWS Authorization."
                )));
            }
        }
        Ok(())
    }
}

fn parse_credential(text: &str) -> Result<(String, [String; 4]), SignatureError> {
    let parts: Vec<&str> = text.split('/').collect();
    match parts.as_slice() {
        [key, date, region, service, terminator] if !key.is_empty() && !region.is_empty() => {
            let scope = [date, region, service, terminator].map(|part| (*part).to_owned());
            Ok(((*key).to_owned(), scope))
        }
        _ => Err(incomplete(format!(
            "Credential must have exactly 5 slash-delimited elements, e.g. \
             keyid/date/region/service/term, got '{text}'"
        ))),
    }
}

fn incomplete(text: impl Into<String>) -> SignatureError {
    SignatureError::Incomplete(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Authorization, SignatureError> {
        Authorization::parse(&HeaderValue::from_str(text).unwrap())
    }

    #[test]
    fn header_is_read_with_and_without_spaces_after_commas() {
        let spaced = "AWS4-HMAC-SHA256 Credential=AKIA/20261122/us-east-1/ssm/aws4_request, \
                      SignedHeaders=host;X-Amz-Date, Signature=ab+/==";
        let dense = spaced.replace(", ", ",");

        let read = parse(spaced).unwrap();

        assert_eq!(read, parse(&dense).unwrap());
        assert_eq!(read.access_key_id, "AKIA");
        assert_eq!(read.scope, ["20261122", "us-east-1", "ssm", "aws4_request"]);
        assert_eq!(read.signed_headers, ["host", "x-amz-date"]);
        assert_eq!(read.signature, "ab+/==");
    }

    #[test]
    fn header_with_a_part_missing_names_the_part() {
        for (text, part) in [
            ("Bearer abc", "'algorithm'"),
            ("AWS4-HMAC-SHA256", "'Credential'"),
            (
                "AWS4-HMAC-SHA256 Credential=a/b/c/d, SignedHeaders=host, Signature=1",
                "5 slash",
            ),
            (
                "AWS4-HMAC-SHA256 Credential=a/b/c/d/e, Signature=1",
                "'SignedHeaders'",
            ),
            (
                "AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host",
                "'Signature'",
            ),
            (
                "AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host, Signature=",
                "'Signature'",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(matches!(error, SignatureError::Incomplete(_)), "{text}");
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
    }
}
