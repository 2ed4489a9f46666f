//! Signatures: Signature Version 4 with an access key, and its RSA variant with a node's key.
//!
//! The RSA variant keeps the canonical request, the string to sign and the label of SigV4 and
//! differs in three points: the node's id stands for the access key, the signature is base64 of
//! RSA-PSS over the string to sign, and `x-amz-content-sha256` is sent without being signed.

use std::time::SystemTime;

use aws_lc_rs::digest;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};
use jiff::Timestamp;
use url::Url;

use super::credentials::Credentials;
use super::node_key::{KeyError, NodeKey};

/// Algorithm label of both variants, in the header and in the string to sign.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
/// Carries the proof of a key beside an ordinary signature.
const KEY_PROOF: HeaderName = HeaderName::from_static("ssm-asymmetrickeyauthorization");
const X_AMZ_CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// What is signed for: the service and region that a signature is valid in, and its time.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The signing name, such as `ssm`.
    pub service: &'static str,
    /// The region.
    pub region: &'a str,
    /// The time by the service's clock.
    pub time: SystemTime,
}

/// The parts of a request that a signature covers. `host` and the date are added by the signer.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The method.
    pub method: &'a str,
    /// The whole URL.
    pub url: &'a Url,
    /// Headers to sign, lower-case names in alphabetical order.
    pub headers: &'a [(&'static str, &'a str)],
    /// The body.
    pub body: &'a [u8],
}

/// Why a request cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The SigV4 library refuses the request.
    #[error("request cannot be signed")]
    SigV4(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The node's key failed.
    #[error("request cannot be signed with the node's key")]
    Key(#[from] KeyError),
    /// The URL has no host, or the node id cannot stand in a header.
    #[error("request cannot be signed: {0} cannot stand in a header")]
    Header(&'static str),
}

/// The headers to add: `authorization`, `x-amz-date` and, for temporary credentials,
/// `x-amz-security-token`.
///
/// # Errors
/// [`SignError`].
pub fn sign_with_credentials(
    parts: Parts<'_>,
    scope: Scope<'_>,
    credentials: &Credentials,
) -> Result<HeaderMap, SignError> {
    let refused = |error: Box<dyn std::error::Error + Send + Sync>| SignError::SigV4(error);
    let identity = credentials.clone().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(scope.region)
        .name(scope.service)
        .time(scope.time)
        .settings(settings(scope.service))
        .build()
        .map_err(|error| refused(error.into()))?
        .into();
    let request = SignableRequest::new(
        parts.method,
        parts.url.as_str(),
        parts.headers.iter().copied(),
        SignableBody::Bytes(parts.body),
    )
    .map_err(|error| refused(error.into()))?;
    let (instructions, _) = sign(request, &params)
        .map_err(|error| refused(error.into()))?
        .into_parts();
    let mut signed = http::Request::new(());
    instructions.apply_to_request_http1x(&mut signed);
    Ok(std::mem::take(signed.headers_mut()))
}

/// S3 alone takes a path as it is sent, and wants the hash of the body in a header.
fn settings(service: &str) -> SigningSettings {
    let mut settings = SigningSettings::default();
    if service == "s3" {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    settings
}

/// The headers to add: `authorization`, `x-amz-date` and `x-amz-content-sha256`.
///
/// # Errors
/// [`SignError`].
pub fn sign_with_node_key(
    parts: Parts<'_>,
    scope: Scope<'_>,
    node_id: &str,
    key: &NodeKey,
) -> Result<HeaderMap, SignError> {
    let date = Timestamp::try_from(scope.time).map_err(|_| SignError::Header("the date"))?;
    let date = date.strftime("%Y%m%dT%H%M%SZ").to_string();
    let body_hash = hex_sha256(parts.body);
    let host = host_header(parts.url).ok_or(SignError::Header("the host"))?;
    let (names, canonical) = canonical_request(parts, &host, &date, &body_hash);
    let scope_text = format!(
        "{}/{}/{}/aws4_request",
        &date[..8],
        scope.region,
        scope.service
    );
    let signature = key.sign(string_to_sign(&date, &scope_text, &canonical).as_bytes())?;
    let authorization = format!(
        "{ALGORITHM} Credential={node_id}/{scope_text}, SignedHeaders={names}, Signature={signature}"
    );

    let value = |text: String| {
        HeaderValue::try_from(text)
            .map_err(|_: InvalidHeaderValue| SignError::Header("the node id"))
    };
    let mut authorization = value(authorization)?;
    authorization.set_sensitive(true);
    Ok(HeaderMap::from_iter([
        (AUTHORIZATION, authorization),
        (X_AMZ_DATE, value(date)?),
        (X_AMZ_CONTENT_SHA256, value(body_hash)?),
    ]))
}

/// The headers of a signed request with one more, which proves `key`: its signature of the whole
/// `authorization` header.
///
/// # Errors
/// [`SignError`].
pub fn with_key_proof(mut headers: HeaderMap, key: &NodeKey) -> Result<HeaderMap, SignError> {
    let missing = SignError::Header("the signature");
    let authorization = headers.get(AUTHORIZATION).ok_or(missing)?;
    let signature = key.sign(authorization.as_bytes())?;
    let mut proof = HeaderValue::try_from(format!("Signature={signature}"))
        .map_err(|_: InvalidHeaderValue| SignError::Header("the key's signature"))?;
    proof.set_sensitive(true);
    headers.insert(KEY_PROOF, proof);
    Ok(headers)
}

/// The names of the signed headers, and the canonical request.
fn canonical_request(
    parts: Parts<'_>,
    host: &str,
    date: &str,
    body_hash: &str,
) -> (String, String) {
    let mut headers = parts.headers.to_vec();
    headers.extend([("host", host), ("x-amz-date", date)]);
    headers.sort_unstable();
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}:{}\n", value.trim()))
        .collect();
    let canonical = format!(
        "{}\n{}\n{}\n{lines}\n{names}\n{body_hash}",
        parts.method,
        parts.url.path(),
        parts.url.query().unwrap_or_default(),
    );
    (names, canonical)
}

fn string_to_sign(date: &str, scope: &str, canonical: &str) -> String {
    format!(
        "{ALGORITHM}\n{date}\n{scope}\n{}",
        hex_sha256(canonical.as_bytes())
    )
}

/// What the HTTP client sends as `Host`: without the scheme's own port, which [`Url`] leaves out.
fn host_header(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    })
}

fn hex_sha256(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA256, bytes)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests;
