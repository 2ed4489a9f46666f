//! Test signers: the SDK's and the reference agent's.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PSS_SHA256;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use http::request::Parts;

use super::canonical;

/// Signs as the reference agent does for RequestManagedInstanceRoleToken.
pub(super) fn sign_with_key(key: &KeyPair, node_id: &str, body: &[u8]) -> Parts {
    let hash = canonical::hex(digest::digest(&digest::SHA256, body).as_ref());
    let signed = "content-type;host;x-amz-date;x-amz-target";
    let request = format!(
        "POST\n/\n\ncontent-type:application/x-amz-json-1.1\nhost:gw:8443\nx-amz-date:20150830T123600Z\n\
         x-amz-target:AmazonSSM.RequestManagedInstanceRoleToken\n\n{signed}\n{hash}"
    );
    let request = canonical::hex(digest::digest(&digest::SHA256, request.as_bytes()).as_ref());
    let scope = "20150830/us-east-1/ssm/aws4_request";
    let text = format!("AWS4-HMAC-SHA256\n20150830T123600Z\n{scope}\n{request}");
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(
        &RSA_PSS_SHA256,
        &SystemRandom::new(),
        text.as_bytes(),
        &mut signature,
    )
    .unwrap();
    let signature = STANDARD.encode(signature);
    parts(
        Request::builder()
            .method("POST")
            .uri("/")
            .header("content-type", "application/x-amz-json-1.1")
            .header("host", "gw:8443")
            .header("x-amz-date", "20150830T123600Z")
            .header("x-amz-target", "AmazonSSM.RequestManagedInstanceRoleToken")
            .header("x-amz-content-sha256", hash)
            .header(
                "authorization",
                format!("AWS4-HMAC-SHA256 Credential={node_id}/{scope}, SignedHeaders={signed}, Signature={signature}"),
            ),
    )
}

pub(super) fn sign_with_sdk(
    method: &str,
    uri: &str,
    body: &str,
    id: &str,
    secret: &str,
    token: Option<&str>,
    time: SystemTime,
) -> Parts {
    let absolute: http::Uri = uri.parse().unwrap();
    let authority = absolute.authority().unwrap().as_str();
    let headers = [
        ("host", authority),
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amz-target", "AmazonSSM.StartSession"),
        ("x-amz-meta", "a  b"),
    ];
    let identity = Credentials::new(id, secret, token.map(Into::into), None, "test").into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name("ssm")
        .time(time)
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    let signable = SignableRequest::new(
        method,
        uri,
        headers.into_iter(),
        SignableBody::Bytes(body.as_bytes()),
    );
    let (instructions, _) = sign(signable.unwrap(), &params).unwrap().into_parts();
    let mut request = headers
        .into_iter()
        .fold(
            Request::builder().method(method).uri(uri),
            |builder, (name, value)| builder.header(name, value),
        )
        .body(())
        .unwrap();
    instructions.apply_to_request_http1x(&mut request);
    let (mut parts, ()) = request.into_parts();
    // A server sees the path and query only.
    parts.uri = absolute.path_and_query().unwrap().as_str().parse().unwrap();
    parts
}

pub(super) fn parts(builder: http::request::Builder) -> Parts {
    builder.body(()).unwrap().into_parts().0
}
