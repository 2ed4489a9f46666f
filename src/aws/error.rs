//! What can go wrong with a call, and what a service's refusal looks like.
//!
//! | service | body of a refusal |
//! |---|---|
//! | Systems Manager | JSON `{"__type": "prefix#Code", "message": "…"}`, also `Message`, also no prefix |
//! | message gateway | XML or text; the code is the `Code` element or the root element's name |
//!
//! Either may name the code in the header `x-amzn-errortype`, followed by `:` and a URL.

use http::HeaderMap;
use serde_json::Value;

use super::credentials::CredentialError;
use super::http::HttpError;
use super::signer::SignError;

/// More of a body than this is not kept in an error.
const MAX_MESSAGE: usize = 2048;

/// Codes that mean "more slowly".
const THROTTLING: [&str; 8] = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
    "TooManyUpdates",
    "RequestLimitExceeded",
    "ProvisionedThroughputExceededException",
    "SlowDown",
];
/// Codes that a wrong clock leads to.
const CLOCK: [&str; 7] = [
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "RequestTimeTooSkewed",
    "RequestExpired",
    "RequestInTheFuture",
    "AuthFailure",
    "IncompleteSignature",
];
/// Codes that fresh credentials may cure.
const STALE_CREDENTIALS: [&str; 5] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "TokenRefreshRequired",
];

/// Why a call gave no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The service answered with a refusal.
    #[error("{operation} was refused: {} (HTTP status {status})", describe(.code, .message))]
    Service {
        /// The operation, or the path of the message gateway.
        operation: String,
        /// The service's code without its namespace; empty if it gave none.
        code: String,
        /// The service's text; of the message gateway, the beginning of the body.
        message: String,
        /// The HTTP status.
        status: u16,
    },
    /// There was no answer.
    #[error("{operation} got no answer")]
    Network {
        /// The operation.
        operation: String,
        /// What went wrong.
        #[source]
        cause: HttpError,
    },
    /// There is nothing to sign with.
    #[error("{operation} cannot be signed")]
    Credentials {
        /// The operation.
        operation: String,
        /// Why there is nothing.
        #[source]
        cause: CredentialError,
    },
    /// Signing failed.
    #[error("{operation} cannot be signed")]
    Sign {
        /// The operation.
        operation: String,
        /// What went wrong.
        #[source]
        cause: SignError,
    },
    /// The request or the answer is not the JSON that the operation has.
    #[error("{operation} has an unexpected {what}")]
    Decode {
        /// The operation.
        operation: String,
        /// `request` or `answer`.
        what: &'static str,
        /// What is wrong with it.
        #[source]
        cause: serde_json::Error,
    },
    /// The XML of the answer is not what the operation has.
    #[error("{operation} has an unexpected answer: {reason}")]
    Answer {
        /// The operation.
        operation: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The URL of the call is not one.
    #[error("{operation} has no valid URL or header: {reason}")]
    Address {
        /// The operation.
        operation: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl CallError {
    /// The service's code, if the service refused and gave one.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Service { code, .. } if !code.is_empty() => Some(code),
            _ => None,
        }
    }

    /// The HTTP status of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Service { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether a refusal's text contains `text`.
    pub fn body_contains(&self, text: &str) -> bool {
        matches!(self, Self::Service { message, .. } if message.contains(text))
    }

    /// Whether the service refused who asked, or what they asked for: asking again the same way
    /// gets the same answer until somebody changes a policy.
    pub fn is_denied(&self) -> bool {
        matches!(self.code(), Some("AccessDeniedException" | "AccessDenied"))
            || self.body_contains("<AccessDeniedException>")
    }

    /// Whether the service is overloaded or broken, so that a later attempt may succeed.
    pub fn is_transient_refusal(&self) -> bool {
        let throttled = self.code().is_some_and(|code| THROTTLING.contains(&code));
        throttled || matches!(self.status(), Some(429 | 500..))
    }

    pub(super) fn blames_clock(&self) -> bool {
        self.code().is_some_and(|code| CLOCK.contains(&code)) || self.status() == Some(403)
    }

    pub(super) fn blames_credentials(&self) -> bool {
        self.code()
            .is_some_and(|code| STALE_CREDENTIALS.contains(&code))
    }

    /// Reads a refusal.
    pub(super) fn refusal(operation: &str, status: u16, headers: &HeaderMap, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        let header = headers
            .get("x-amzn-errortype")
            .and_then(|value| value.to_str().ok());
        let code = header
            .or_else(|| member(&json, &["__type", "code", "Code"]))
            .map(strip_namespace)
            .or_else(|| xml_code(&text));
        let message = member(&json, &["message", "Message"]);
        Self::Service {
            operation: operation.to_owned(),
            code: code.unwrap_or_default().to_owned(),
            message: cut(message.unwrap_or(&text)),
            status,
        }
    }
}

fn member<'a>(json: &'a Value, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| json.get(name)?.as_str())
}

fn describe(code: &str, message: &str) -> String {
    match (code, message) {
        ("", "") => "no reason given".to_owned(),
        ("", text) | (text, "") => text.to_owned(),
        (code, message) => format!("{code}: {message}"),
    }
}

/// `prefix#Code:url` without prefix and URL.
fn strip_namespace(text: &str) -> &str {
    let text = text.split(':').next().unwrap_or_default();
    text.rsplit('#').next().unwrap_or_default().trim()
}

fn xml_code(text: &str) -> Option<&str> {
    let code = text
        .split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once("</Code>"))
        .map(|(code, _)| code.trim());
    code.or_else(|| {
        let names = text.split('<').skip(1).map(|tag| {
            let end = tag.find(|c: char| !c.is_ascii_alphanumeric());
            &tag[..end.unwrap_or(tag.len())]
        });
        names.into_iter().find(|name| name.ends_with("Exception"))
    })
}

fn cut(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, errortype: Option<&str>, body: &str) -> CallError {
        let mut headers = HeaderMap::new();
        if let Some(text) = errortype {
            headers.insert("x-amzn-errortype", text.parse().unwrap());
        }
        CallError::refusal("StartSession", status, &headers, body.as_bytes())
    }

    #[test]
    fn code_is_found_wherever_a_service_puts_it() {
        let table = [
            (
                None,
                r#"{"__type":"TargetNotConnected","message":"m"}"#,
                "TargetNotConnected",
            ),
            (
                None,
                r#"{"__type":"com.amazonaws.ssm#InvalidActivation"}"#,
                "InvalidActivation",
            ),
            (
                Some("ThrottlingException:http://internal/"),
                "{}",
                "ThrottlingException",
            ),
            (
                Some("a.b#AccessDeniedException"),
                r#"{"__type":"Other"}"#,
                "AccessDeniedException",
            ),
            (
                None,
                "<AccessDeniedException><Message>no</Message></AccessDeniedException>",
                "AccessDeniedException",
            ),
            (
                None,
                "<ErrorResponse><Error><Code>Expired</Code></Error></ErrorResponse>",
                "Expired",
            ),
            (None, "<html>bad gateway</html>", ""),
            (None, "", ""),
            (None, r#"["__type"]"#, ""),
            (None, r#"{"__type":null,"message":null}"#, ""),
        ];

        for (header, body, expected) in table {
            let error = refusal(400, header, body);
            assert_eq!(error.code().unwrap_or_default(), expected, "{body}");
        }
    }

    #[test]
    fn message_is_read_in_both_spellings() {
        for body in [r#"{"message":"why"}"#, r#"{"Message":"why"}"#] {
            let error = refusal(400, None, body);
            assert!(error.body_contains("why"));
            assert!(!error.body_contains("{"));
        }
    }

    #[test]
    fn refusal_reads_as_a_sentence() {
        let error = refusal(
            400,
            None,
            r#"{"__type":"TargetNotConnected","message":"mi-1 is off"}"#,
        );

        assert_eq!(
            error.to_string(),
            "StartSession was refused: TargetNotConnected: mi-1 is off (HTTP status 400)"
        );
    }

    #[test]
    fn text_of_the_gateway_can_be_searched() {
        let error = refusal(
            400,
            None,
            "<AccessDeniedException><Message>no</Message></AccessDeniedException>",
        );

        assert!(error.body_contains("<AccessDeniedException>"));
        assert!(error.is_denied());
    }

    #[test]
    fn long_bodies_are_cut_between_characters() {
        let error = refusal(500, None, &"é".repeat(5000));

        let CallError::Service { message, .. } = error else {
            panic!("a refusal is a service error");
        };
        assert_eq!(message.chars().count(), MAX_MESSAGE + 1);
    }

    #[test]
    fn causes_of_refusals_are_told_apart() {
        let of = |status, code: &str| refusal(status, Some(code), "");

        assert!(of(400, "ThrottlingException").is_transient_refusal());
        assert!(of(503, "").is_transient_refusal());
        assert!(!of(400, "InvalidActivation").is_transient_refusal());
        assert!(of(400, "InvalidSignatureException").blames_clock());
        assert!(of(403, "").blames_clock());
        assert!(of(400, "ExpiredTokenException").blames_credentials());
        assert!(!of(400, "AccessDeniedException").blames_credentials());
    }
}
