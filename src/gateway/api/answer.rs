//! AWS JSON 1.1: how requests are read, and how results and errors look.
//!
//! A result is the operation's JSON with status 200. An error is
//! `{"__type": <code>, "message": <text>}` with status 400 for the caller's mistakes and 500 for ours;
//! the code is repeated in `x-amzn-ErrorType`. Both carry `x-amzn-RequestId`.

use std::borrow::Cow;
use std::time::SystemTime;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::signature::SignatureError;
use crate::gateway::broker::BrokerError;
use crate::gateway::store::StoreError;
use crate::runtime::cause::in_one_line;

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.1");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// An error in AWS's shape.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: Cow<'static, str>,
}

impl ApiError {
    /// The caller's mistake, with AWS's code for it.
    pub(super) fn new(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code,
            message: message.into(),
        }
    }

    /// The caller is known and may not do this.
    pub(super) fn access_denied(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new("AccessDeniedException", message)
    }

    /// A value breaks a constraint of the service model.
    pub(super) fn validation(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new("ValidationException", message)
    }

    /// Our mistake or our disk's: `error` is logged, the caller learns no more than that.
    pub(super) fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = %in_one_line(error), "request failed");
        Self::unknown()
    }

    /// Our mistake, already logged.
    pub(super) fn unknown() -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            code: "InternalServerError",
            message: "An error occurred on the server side.".into(),
        }
    }

    /// Another status than 400.
    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// AWS's code.
    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    /// The text for people.
    pub(super) fn message(&self) -> &str {
        &self.message
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::internal(&error)
    }
}

impl From<BrokerError> for ApiError {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::NotConnected(_) => Self::new("TargetNotConnected", error.to_string()),
            BrokerError::NotFound(_) => Self::new("DoesNotExistException", error.to_string()),
            BrokerError::Store(error) => Self::internal(&error),
            BrokerError::Stopping => Self::internal(&error),
        }
    }
}

impl From<SignatureError> for ApiError {
    fn from(error: SignatureError) -> Self {
        match error {
            SignatureError::Store(error) => Self::internal(&error),
            error => Self::new(error.code(), error.to_string()),
        }
    }
}

/// Reads the JSON of a request; an empty body counts as `{}`.
///
/// # Errors
/// `SerializationException`.
pub(super) fn read<Q: DeserializeOwned>(body: &[u8]) -> Result<Q, ApiError> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body)
        .map_err(|error| ApiError::new("SerializationException", error.to_string()))
}

/// The JSON of a result.
///
/// # Errors
/// `InternalServerError`; results are plain data, so it does not come to that.
pub(super) fn reply<R: Serialize>(result: &R) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(result).map_err(|error| ApiError::internal(&error))
}

/// The response to a call.
pub(super) fn respond(request_id: Uuid, outcome: Result<Vec<u8>, ApiError>) -> Response {
    let (status, error, body) = match outcome {
        Ok(body) => (StatusCode::OK, None, body),
        Err(error) => {
            let body = serde_json::json!({"__type": error.code, "message": error.message});
            (
                error.status,
                Some(error.code),
                body.to_string().into_bytes(),
            )
        }
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
    if let Ok(id) = HeaderValue::from_str(&request_id.to_string()) {
        headers.insert(REQUEST_ID, id);
    }
    if let Some(code) = error {
        headers.insert(ERROR_TYPE, HeaderValue::from_static(code));
    }
    response
}

/// `time` as the protocol writes it: seconds since 1970, with milliseconds.
pub(super) fn epoch_seconds(time: SystemTime) -> f64 {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    since.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn error_carries_code_twice_message_and_request_id() {
        let id = Uuid::new_v4();

        let response = respond(
            id,
            Err(ApiError::new("TargetNotConnected", "i-1 is not connected.")),
        );

        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(
            response.headers()["content-type"],
            "application/x-amz-json-1.1"
        );
        assert_eq!(response.headers()["x-amzn-errortype"], "TargetNotConnected");
        assert_eq!(response.headers()["x-amzn-requestid"], id.to_string());
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["__type"], "TargetNotConnected");
        assert_eq!(body["message"], "i-1 is not connected.");
    }

    #[test]
    fn internal_error_tells_the_caller_nothing() {
        let error = ApiError::internal(&std::io::Error::other("/secret/path is full"));

        assert_eq!(error.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!error.message().contains("secret"));
    }

    #[test]
    fn body_that_is_no_json_is_a_serialization_error() {
        assert_eq!(
            read::<serde_json::Value>(b"{").unwrap_err().code(),
            "SerializationException"
        );
        assert_eq!(
            read::<serde_json::Value>(b"").unwrap(),
            serde_json::json!({})
        );
    }
}
