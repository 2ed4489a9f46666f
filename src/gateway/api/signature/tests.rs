mod signer;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use http::Request;

use signer::{parts, sign_with_key, sign_with_sdk};

use super::*;
use crate::gateway::store::activations::NewActivation;
use crate::gateway::store::nodes::NewNode;

/// The key pair of AWS's published examples.
const ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// 2015-08-30T12:36:00Z, the time of AWS's published examples.
const EXAMPLE_TIME: Duration = Duration::from_secs(1_440_938_160);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + EXAMPLE_TIME
}

#[tokio::test]
async fn published_examples_verify() {
    let verifier = verifier().await;

    for (name, service, method, uri, headers, signed, signature) in EXAMPLES {
        let mut builder = Request::builder()
            .method(method)
            .uri(uri)
            .header("x-amz-date", "20150830T123600Z");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={ID}/20150830/us-east-1/{service}/aws4_request, \
             SignedHeaders={signed}, Signature={signature}"
        );
        let parts = parts(builder.header("authorization", authorization));

        let caller = verifier.verify_at(service, &parts, b"", now()).await;

        assert_eq!(caller.unwrap(), alice(), "{name}");
    }
}

type Example = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
    &'static str,
);

/// The worked example of the SigV4 documentation and vectors of AWS's signature test suite.
const EXAMPLES: [Example; 5] = [
    (
        "documentation: IAM ListUsers",
        "iam",
        "GET",
        "/?Action=ListUsers&Version=2010-05-08",
        &[
            ("host", "iam.amazonaws.com"),
            (
                "content-type",
                "application/x-www-form-urlencoded; charset=utf-8",
            ),
        ],
        "content-type;host;x-amz-date",
        "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
    ),
    (
        "get-vanilla",
        "service",
        "GET",
        "/",
        &[("host", "example.amazonaws.com")],
        "host;x-amz-date",
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    (
        "get-vanilla-query-order-key-case",
        "service",
        "GET",
        "/?Param2=value2&Param1=value1",
        &[("host", "example.amazonaws.com")],
        "host;x-amz-date",
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    (
        "get-header-value-trim",
        "service",
        "GET",
        "/",
        &[
            ("host", "example.amazonaws.com"),
            ("my-header1", " value1"),
            ("my-header2", " \"a   b   c\""),
        ],
        "host;my-header1;my-header2;x-amz-date",
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    ),
    (
        "post-vanilla",
        "service",
        "POST",
        "/",
        &[("host", "example.amazonaws.com")],
        "host;x-amz-date",
        "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
    ),
];

#[tokio::test]
async fn requests_signed_by_the_sdk_verify_whatever_their_path_query_and_headers() {
    let verifier = verifier().await;

    for (method, uri, body) in [
        (
            "POST",
            "https://127.0.0.1:8443/",
            "{\"Target\":\"mi-0123456789abcdef0\"}",
        ),
        (
            "POST",
            "https://gw.example/v1/data-channel/alice@lab=a,b+c-0123",
            "{}",
        ),
        (
            "GET",
            "https://gw.example/v1/data-channel/alice%40lab-0123?role=publish_subscribe",
            "",
        ),
        (
            "GET",
            "https://gw.example/v1/control-channel/mi-0?role=subscribe&stream=input",
            "",
        ),
        ("GET", "https://gw.example/x?b=2&a=%20%2f~&a=1&empty", ""),
    ] {
        let parts = sign_with_sdk(method, uri, body, ID, SECRET, None, now());

        let caller = verifier
            .verify_at("ssm", &parts, body.as_bytes(), now())
            .await;

        assert_eq!(caller.unwrap(), alice(), "{method} {uri}");
    }
}

#[tokio::test]
async fn changed_requests_do_not_verify() {
    let verifier = verifier().await;
    let signed = || sign_with_sdk("POST", "https://gw/p?a=1", "{}", ID, SECRET, None, now());
    let header = |name: &'static str, value: &str| {
        let mut parts = signed();
        parts.headers.insert(name, value.parse().unwrap());
        parts
    };
    let mut other_method = signed();
    other_method.method = http::Method::PUT;
    let mut other_path = signed();
    other_path.uri = "/q?a=1".parse().unwrap();
    let mut other_query = signed();
    other_query.uri = "/p?a=2".parse().unwrap();

    for (what, parts, body) in [
        ("body", signed(), "{} "),
        ("method", other_method, "{}"),
        ("path", other_path, "{}"),
        ("query", other_query, "{}"),
        (
            "target",
            header("x-amz-target", "AmazonSSM.DeleteActivation"),
            "{}",
        ),
        ("host", header("host", "elsewhere"), "{}"),
        ("time", header("x-amz-date", "20150830T123601Z"), "{}"),
    ] {
        let error = verifier
            .verify_at("ssm", &parts, body.as_bytes(), now())
            .await
            .unwrap_err();
        assert_eq!(error.code(), "InvalidSignatureException", "{what}");
    }
}

#[tokio::test]
async fn request_outside_the_window_is_refused_with_both_times() {
    let verifier = verifier().await;
    let parts = sign_with_sdk("POST", "https://gw/", "", ID, SECRET, None, now());
    let verify_at = |time| verifier.verify_at("ssm", &parts, b"", time);

    let late = verify_at(now() + WINDOW + Duration::from_secs(1))
        .await
        .unwrap_err();
    let early = verify_at(now() - WINDOW - Duration::from_secs(1))
        .await
        .unwrap_err();

    assert_eq!(
        late.to_string(),
        "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z \
         (20150830T124101Z - 5 min.)"
    );
    assert_eq!(
        early.to_string(),
        "Signature not yet current: 20150830T123600Z is still later than 20150830T123559Z \
         (20150830T123059Z + 5 min.)"
    );
    assert!(verify_at(now() + WINDOW).await.is_ok());
    assert!(verify_at(now() - WINDOW).await.is_ok());
}

#[tokio::test]
async fn unsigned_parts_and_unsigned_payloads_are_refused() {
    let verifier = verifier().await;
    let signed = || sign_with_sdk("POST", "https://gw/", "{}", ID, SECRET, None, now());
    let mut bare = signed();
    bare.headers.remove("authorization");
    let mut unsigned_payload = signed();
    unsigned_payload
        .headers
        .insert("x-amz-content-sha256", "UNSIGNED-PAYLOAD".parse().unwrap());
    let mut without_target = signed();
    let authorization = without_target.headers["authorization"].to_str().unwrap();
    let authorization = authorization.replace(";x-amz-target", "");
    without_target
        .headers
        .insert("authorization", authorization.parse().unwrap());

    for (parts, code) in [
        (bare, "MissingAuthenticationTokenException"),
        (unsigned_payload, "InvalidSignatureException"),
        (without_target, "InvalidSignatureException"),
    ] {
        let error = verifier
            .verify_at("ssm", &parts, b"{}", now())
            .await
            .unwrap_err();
        assert_eq!(error.code(), code);
    }
}

#[tokio::test]
async fn signature_for_another_service_is_refused() {
    let verifier = verifier().await;
    let parts = sign_with_sdk("POST", "https://gw/", "{}", ID, SECRET, None, now());

    let error = verifier
        .verify_at("ssmmessages", &parts, b"{}", now())
        .await
        .unwrap_err();

    assert_eq!(
        error.to_string(),
        "Credential should be scoped to correct service: 'ssmmessages'."
    );
}

#[tokio::test]
async fn wrong_secret_and_unknown_and_revoked_keys_are_told_apart_as_in_aws() {
    let verifier = verifier().await;
    let store = verifier.store.clone();
    let code_of = async |id: &str, secret: &str| {
        let parts = sign_with_sdk("POST", "https://gw/", "", id, secret, None, now());
        let error = verifier
            .verify_at("ssm", &parts, b"", now())
            .await
            .unwrap_err();
        error.code()
    };

    assert_eq!(code_of(ID, "wrong").await, "InvalidSignatureException");
    assert_eq!(
        code_of("AKIAUNKNOWN", SECRET).await,
        "UnrecognizedClientException"
    );
    assert!(store.revoke_access_key(ID, now()).await.unwrap());
    assert_eq!(code_of(ID, SECRET).await, "UnrecognizedClientException");
}

#[tokio::test]
async fn node_credentials_need_their_token_and_end() {
    let verifier = verifier().await;
    let node_id = "i-0123456789abcdef0";
    verifier
        .store
        .create_node_access_key("lab", node_id, now())
        .await
        .unwrap();
    let issued = verifier
        .store
        .issue_credentials(node_id, now())
        .await
        .unwrap()
        .unwrap();
    let verify = async |token: Option<&str>, time| {
        let id = &issued.access_key_id;
        let parts = sign_with_sdk(
            "POST",
            "https://gw/",
            "",
            id,
            issued.secret.expose(),
            token,
            time,
        );
        verifier.verify_at("ssm", &parts, b"", time).await
    };
    let token = Some(issued.session_token.expose());

    let caller = verify(token, now()).await.unwrap();
    let without = verify(None, now()).await.unwrap_err();
    let other = verify(Some("another token"), now()).await.unwrap_err();
    let late = verify(token, issued.expires).await.unwrap_err();

    assert_eq!(
        caller,
        Caller::Node {
            node_id: node_id.into()
        }
    );
    assert_eq!(without.code(), "UnrecognizedClientException");
    assert_eq!(other.code(), "UnrecognizedClientException");
    assert_eq!(late.code(), "ExpiredTokenException");
}

#[tokio::test]
async fn node_proves_itself_with_its_rsa_key() {
    let verifier = verifier().await;
    let (key, node_id) = registered_node(&verifier.store).await;
    let (_, other_id) = registered_node(&verifier.store).await;
    let body = br#"{"Fingerprint":"8a0f16b0-fded-4044-ba46-709a519a01b7"}"#;
    let signed = sign_with_key(&key, &node_id, body);
    let stolen = sign_with_key(&key, &other_id, body);
    let unknown = sign_with_key(&key, "mi-00000000000000000", body);

    let proven = verifier
        .verify_node_key_at(&signed, body, now())
        .await
        .unwrap();
    let changed = verifier
        .verify_node_key_at(&signed, b"{}", now())
        .await
        .unwrap_err();
    let stolen = verifier
        .verify_node_key_at(&stolen, body, now())
        .await
        .unwrap_err();
    let unknown = verifier
        .verify_node_key_at(&unknown, body, now())
        .await
        .unwrap_err();
    let elsewhere = verifier
        .verify_at("ssm", &signed, body, now())
        .await
        .unwrap_err();

    assert_eq!(proven, node_id);
    assert_eq!(changed.code(), "InvalidSignatureException");
    assert_eq!(stolen.code(), "InvalidSignatureException");
    assert_eq!(unknown.code(), "UnrecognizedClientException");
    assert_eq!(elsewhere.code(), "UnrecognizedClientException");
}

fn alice() -> Caller {
    Caller::Person {
        access_key_id: ID.into(),
        name: "alice".into(),
        arn: "arn:aws:iam::000000000000:user/alice".into(),
        run_as: "deploy".into(),
        auditor: false,
    }
}

async fn verifier() -> Verifier {
    let store = Store::open_in_memory().unwrap();
    store
        .call(|connection| {
            connection.execute(
                "INSERT INTO access_keys VALUES (?1, ?2, 'alice', NULL, 0, NULL, 'deploy', 0)",
                [ID, SECRET],
            )
        })
        .await
        .unwrap();
    Verifier::new(store)
}

async fn registered_node(store: &Store) -> (KeyPair, String) {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let spki: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
    let activation = NewActivation {
        description: None,
        default_instance_name: None,
        iam_role: "role".into(),
        registration_limit: 1,
        expires: now() + Duration::from_secs(60),
        tags: Vec::new(),
    };
    let issued = store.create_activation(activation, now()).await.unwrap();
    let node = NewNode {
        public_key: STANDARD.encode(spki.as_ref()),
        fingerprint: "8a0f16b0-fded-4044-ba46-709a519a01b7".into(),
    };
    let node_id = store
        .register_node(&issued.activation_id, issued.code, node, now())
        .await
        .unwrap()
        .unwrap();
    (key, node_id)
}
