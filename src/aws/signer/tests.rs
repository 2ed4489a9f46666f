use std::time::Duration;

use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::*;

const TOKEN_BODY: &[u8] = br#"{"Fingerprint":"8a0f16b0-fded-4044-ba46-709a519a01b7"}"#;
const TOKEN_BODY_HASH: &str = "145a3a7ceaed58c7131b0fe3e5fce963bda82a030329b30e7e58e73660d6846e";
const TOKEN_HEADERS: [(&str, &str); 2] = [
    ("content-type", "application/x-amz-json-1.1"),
    ("x-amz-target", "AmazonSSM.RequestManagedInstanceRoleToken"),
];

#[test]
fn canonical_request_of_a_token_call_is_the_one_seen_on_the_wire() {
    let url = Url::parse("http://127.0.0.1:8080/").unwrap();

    let (names, canonical) = canonical_request(
        token_call(&url),
        &host_header(&url).unwrap(),
        "20261122T100523Z",
        &hex_sha256(TOKEN_BODY),
    );

    assert_eq!(names, "content-type;host;x-amz-date;x-amz-target");
    assert_eq!(
        canonical,
        format!(
            "POST\n/\n\ncontent-type:application/x-amz-json-1.1\nhost:127.0.0.1:8080\n\
             x-amz-date:20261122T100523Z\nx-amz-target:AmazonSSM.RequestManagedInstanceRoleToken\n\n\
             content-type;host;x-amz-date;x-amz-target\n{TOKEN_BODY_HASH}"
        )
    );
}

#[test]
fn string_to_sign_has_the_label_of_sigv4() {
    let text = string_to_sign(
        "20261122T100523Z",
        "20261122/us-east-1/ssm/aws4_request",
        "x",
    );

    assert_eq!(
        text,
        "AWS4-HMAC-SHA256\n20261122T100523Z\n20261122/us-east-1/ssm/aws4_request\n\
         2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    );
}

#[test]
fn node_signature_verifies_over_the_string_to_sign() {
    let url = Url::parse("https://ssm.us-east-1.amazonaws.com/").unwrap();
    let key = NodeKey::generate().unwrap();

    let headers = sign_with_node_key(token_call(&url), scope("ssm"), "mi-0123", &key).unwrap();

    let authorization = headers[AUTHORIZATION].to_str().unwrap();
    let (start, signature) = authorization.split_once(", Signature=").unwrap();
    assert_eq!(
        start,
        "AWS4-HMAC-SHA256 Credential=mi-0123/20261122/us-east-1/ssm/aws4_request, \
         SignedHeaders=content-type;host;x-amz-date;x-amz-target"
    );
    let (_, canonical) = canonical_request(
        token_call(&url),
        "ssm.us-east-1.amazonaws.com",
        "20261122T100523Z",
        TOKEN_BODY_HASH,
    );
    let signed = string_to_sign(
        "20261122T100523Z",
        "20261122/us-east-1/ssm/aws4_request",
        &canonical,
    );
    verify(&key, signed.as_bytes(), signature);
}

#[test]
fn node_signature_sends_the_body_hash_and_the_date_beside_it() {
    let url = Url::parse("https://ssm.us-east-1.amazonaws.com/").unwrap();
    let key = NodeKey::generate().unwrap();

    let headers = sign_with_node_key(token_call(&url), scope("ssm"), "mi-0123", &key).unwrap();

    assert_eq!(headers[X_AMZ_CONTENT_SHA256], TOKEN_BODY_HASH);
    assert_eq!(headers[X_AMZ_DATE], "20261122T100523Z");
    assert_eq!(headers.len(), 3);
}

#[test]
fn node_id_that_cannot_stand_in_a_header_is_refused() {
    let url = Url::parse("https://ssm.us-east-1.amazonaws.com/").unwrap();
    let key = NodeKey::generate().unwrap();

    let refused = sign_with_node_key(token_call(&url), scope("ssm"), "mi-\n", &key);

    assert!(matches!(refused, Err(SignError::Header("the node id"))));
}

#[test]
fn json_call_signs_its_type_and_target() {
    let url = Url::parse("https://ssm.us-east-1.amazonaws.com/").unwrap();

    let headers = sign_with_credentials(token_call(&url), scope("ssm"), &temporary()).unwrap();

    assert_eq!(
        signed_headers(&headers),
        "content-type;host;x-amz-date;x-amz-security-token;x-amz-target"
    );
    assert_eq!(headers["x-amz-security-token"], "token");
    assert_eq!(headers["x-amz-date"], "20261122T100523Z");
}

/// Computed independently, with the standard library of Python, from the rules of SigV4.
#[test]
fn upgrade_signature_matches_one_computed_elsewhere() {
    let url =
        Url::parse("wss://127.0.0.1:8443/v1/control-channel/mi-1?role=subscribe&stream=input")
            .unwrap();
    let parts = Parts {
        method: "GET",
        url: &url,
        headers: &[],
        body: b"",
    };

    let headers = sign_with_credentials(parts, scope("ssmmessages"), &permanent()).unwrap();

    assert_eq!(
        headers[AUTHORIZATION].to_str().unwrap(),
        "AWS4-HMAC-SHA256 Credential=AKID/20261122/us-east-1/ssmmessages/aws4_request, \
         SignedHeaders=host;x-amz-date, \
         Signature=c8da5a49239cbfa733fd666e4902fbc036956dee8270d89baf27c066d9ed628e"
    );
}

/// Computed as the one above: each character that is not unreserved is escaped once more.
#[test]
fn path_is_escaped_as_the_service_does() {
    let url = Url::parse("https://gateway/v1/data-channel/me@example.com-0a%2B").unwrap();
    let parts = Parts {
        method: "POST",
        url: &url,
        headers: &[("content-type", "application/json")],
        body: b"{}",
    };

    let headers = sign_with_credentials(parts, scope("ssmmessages"), &permanent()).unwrap();

    assert!(
        headers[AUTHORIZATION].to_str().unwrap().ends_with(
            "Signature=6648691138478e8530ececaa21f53e00cc06ec86cf7bc1201ec779f8c55fb30b"
        )
    );
}

#[test]
fn signature_is_marked_sensitive() {
    let url = Url::parse("https://gateway/").unwrap();
    let key = NodeKey::generate().unwrap();

    let by_key = sign_with_node_key(token_call(&url), scope("ssm"), "mi-1", &key).unwrap();
    let by_credentials =
        sign_with_credentials(token_call(&url), scope("ssm"), &temporary()).unwrap();

    assert!(by_key[AUTHORIZATION].is_sensitive());
    assert!(by_credentials["x-amz-security-token"].is_sensitive());
}

fn token_call(url: &Url) -> Parts<'_> {
    Parts {
        method: "POST",
        url,
        headers: &TOKEN_HEADERS,
        body: TOKEN_BODY,
    }
}

fn scope(service: &'static str) -> Scope<'static> {
    Scope {
        service,
        region: "us-east-1",
        time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_341_923),
    }
}

fn temporary() -> Credentials {
    Credentials::new("AKID", "secret", Some("token".into()), None, "test")
}

fn permanent() -> Credentials {
    Credentials::new("AKID", "secret", None, None, "test")
}

fn signed_headers(headers: &HeaderMap) -> &str {
    let text = headers[AUTHORIZATION].to_str().unwrap();
    let (_, rest) = text.split_once("SignedHeaders=").unwrap();
    rest.split_once(',').unwrap().0
}

fn verify(key: &NodeKey, message: &[u8], signature: &str) {
    let spki = BASE64.decode(key.public_text().unwrap()).unwrap();
    UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, spki)
        .verify(message, &BASE64.decode(signature).unwrap())
        .unwrap();
}
