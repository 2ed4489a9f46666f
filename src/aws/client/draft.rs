//! A request before it has its signature.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use url::Url;

use super::Service;

/// A request as it is before it is signed.
pub(in crate::aws) struct Draft<'a> {
    pub(in crate::aws) operation: &'a str,
    pub(in crate::aws) service: Service,
    /// The region it is signed for, if not that of the service.
    pub(in crate::aws) region: Option<&'a str>,
    pub(in crate::aws) method: Method,
    pub(in crate::aws) url: Url,
    pub(in crate::aws) timeout: Duration,
    /// The statuses of answers to return.
    pub(in crate::aws) success: &'static [StatusCode],
    /// Headers that are signed, lower-case names in alphabetical order.
    pub(in crate::aws) headers: Vec<(&'static str, String)>,
    pub(in crate::aws) body: Bytes,
}
