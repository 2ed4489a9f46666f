//! A request before it has its signature.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use url::Url;

use super::Service;

/// A request as it is before it is signed.
pub(super) struct Draft<'a> {
    pub(super) operation: &'a str,
    pub(super) service: Service,
    pub(super) method: &'static str,
    pub(super) url: Url,
    pub(super) timeout: Duration,
    /// The statuses of answers to return.
    pub(super) success: &'static [StatusCode],
    pub(super) content_type: &'static str,
    /// The operation as AWS JSON names it.
    pub(super) target: Option<String>,
    pub(super) body: Bytes,
}

impl Draft<'_> {
    /// Headers that are signed, lower-case names in alphabetical order.
    pub(super) fn headers(&self) -> Vec<(&'static str, &str)> {
        let mut headers = vec![("content-type", self.content_type)];
        headers.extend(
            self.target
                .as_deref()
                .map(|target| ("x-amz-target", target)),
        );
        headers
    }
}
