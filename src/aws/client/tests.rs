use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::*;
use crate::aws::credentials::{CredentialFuture, Credentials, NoCredentials, StaticCredentials};
use crate::aws::http::{HttpError, RESPONSE_LIMIT};
use crate::aws::tests::server::{Reply, TestServer, start_proxy};

#[tokio::test]
async fn json_call_carries_target_type_and_signature() {
    let server = TestServer::start(|_, _| Reply::json(r#"{"SessionId":"s-1"}"#)).await;

    let answer: Value = server
        .client()
        .ssm("StartSession", &json!({"Target": "mi-1"}))
        .await
        .unwrap();

    assert_eq!(answer, json!({"SessionId": "s-1"}));
    let seen = &server.seen()[0];
    assert_eq!(seen.path, "/");
    assert_eq!(seen.header("x-amz-target"), "AmazonSSM.StartSession");
    assert_eq!(seen.header("content-type"), "application/x-amz-json-1.1");
    assert_eq!(seen.header("content-length"), seen.body.len().to_string());
    assert_eq!(seen.header("host"), server.address.to_string());
    assert_eq!(seen.json(), json!({"Target": "mi-1"}));
    assert!(
        seen.header("authorization")
            .contains("/test-1/ssm/aws4_request")
    );
}

#[tokio::test]
async fn unsigned_call_has_no_authorization() {
    let server = TestServer::start(|_, _| Reply::json("{}")).await;

    let _: Value = server
        .client_with(NoCredentials)
        .ssm_unsigned("RegisterManagedInstance", &json!({}))
        .await
        .unwrap();

    assert!(!server.seen()[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn empty_answer_is_an_empty_object() {
    let server = TestServer::start(|_, _| Reply::json("")).await;

    let answer: Value = server.client().ssm("Op", &json!({})).await.unwrap();

    assert_eq!(answer, json!({}));
}

#[tokio::test]
async fn refusal_tells_code_message_and_status() {
    let server = TestServer::start(|_, _| Reply::refusal("TargetNotConnected")).await;

    let error = call(&server).await.unwrap_err();

    assert_eq!(error.code(), Some("TargetNotConnected"));
    assert_eq!(error.status(), Some(400));
    assert!(error.body_contains("refused"));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn overload_is_retried_until_it_passes() {
    let server = TestServer::start(|count, _| match count {
        0 => Reply::refusal("ThrottlingException"),
        1 => Reply(503, vec![], String::new()),
        _ => Reply::json("{}"),
    })
    .await;

    call(&server).await.unwrap();

    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn refused_signature_is_repeated_with_the_time_of_the_service() {
    let server = TestServer::start(|count, _| {
        let date = ("date", "Wed, 21 Oct 2015 07:28:00 GMT".to_owned());
        match count {
            0 => Reply(
                403,
                vec![date],
                r#"{"__type":"InvalidSignatureException","message":"Signature expired"}"#.into(),
            ),
            _ => Reply(200, vec![date], "{}".into()),
        }
    })
    .await;
    let client = server.client();
    let clone = client.clone();

    let _: Value = client.ssm("Op", &json!({})).await.unwrap();
    let _: Value = clone.ssm("Op", &json!({})).await.unwrap();

    let dates: Vec<String> = server
        .seen()
        .iter()
        .map(|seen| seen.header("x-amz-date")[..9].to_owned())
        .collect();
    assert_eq!(dates.len(), 3);
    assert_ne!(dates[0], "20151021T");
    assert_eq!(dates[1..], ["20151021T", "20151021T"]);
}

#[tokio::test]
async fn expired_credentials_are_renewed_and_the_call_repeated() {
    let server = TestServer::start(|_, seen| {
        if seen.header("authorization").contains("Credential=AKID1/") {
            Reply::json("{}")
        } else {
            Reply::refusal("ExpiredTokenException")
        }
    })
    .await;
    let client = server.client_with(Numbered::default());

    let _: Value = client.ssm("Op", &json!({})).await.unwrap();

    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn missing_credentials_are_named_before_anything_is_sent() {
    let server = TestServer::start(|_, _| Reply::json("{}")).await;

    let refused: Result<Value, _> = server
        .client_with(NoCredentials)
        .ssm("Op", &json!({}))
        .await;

    assert!(matches!(refused, Err(CallError::Credentials { .. })));
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn answer_that_is_not_json_is_an_error() {
    let server = TestServer::start(|_, _| Reply::json("<html>captive portal</html>")).await;

    let error = call(&server).await.unwrap_err();

    assert!(matches!(error, CallError::Decode { what: "answer", .. }));
}

#[tokio::test]
async fn answer_without_end_is_not_read() {
    let server = TestServer::start(|_, _| Reply::json(&"x".repeat(RESPONSE_LIMIT + 1))).await;
    let client = server.client();

    let refused: Result<Value, _> = client.ssm("StartSession", &json!({})).await;

    let Err(CallError::Network { cause, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(matches!(cause, HttpError::TooLarge { .. }), "{cause:?}");
}

#[tokio::test]
async fn nobody_listening_is_told_with_the_host() {
    let server = TestServer::start(|_, _| Reply::json("{}")).await;
    let client = server.client();
    drop(server);

    let refused: Result<Value, _> = client.ssm("Op", &json!({})).await;

    let error = refused.unwrap_err();
    let CallError::Network { cause, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(cause.to_string(), "cannot connect to 127.0.0.1");
    assert!(cause.is_unsent());
}

#[tokio::test]
async fn gateway_call_is_a_success_only_with_created() {
    let server = TestServer::start_tls(|count, _| match count {
        0 => Reply(201, vec![], "<R><TokenValue>t</TokenValue></R>".into()),
        _ => Reply(200, vec![], "<AccessDeniedException>".into()),
    })
    .await;
    let client = server.client();

    let first = client
        .messages("/v1/control-channel/mi-1", "{}".into())
        .await;
    let second = client
        .messages("/v1/control-channel/mi-1", "{}".into())
        .await;

    assert_eq!(first.unwrap(), "<R><TokenValue>t</TokenValue></R>");
    assert!(second.unwrap_err().body_contains("<AccessDeniedException>"));
    let seen = &server.seen()[0];
    assert_eq!(seen.path, "/v1/control-channel/mi-1");
    assert_eq!(seen.header("content-type"), "application/json");
    let authorization = seen.header("authorization");
    assert!(authorization.contains("SignedHeaders=content-type;host;x-amz-date,"));
    assert!(authorization.contains("/test-1/ssmmessages/aws4_request"));
}

#[tokio::test]
async fn certificate_that_nobody_vouches_for_is_refused() {
    let server = TestServer::start_tls(|_, _| Reply(201, vec![], String::new())).await;
    let other = TestServer::start_tls(|_, _| Reply(201, vec![], String::new())).await;
    let credentials = Arc::new(StaticCredentials::new("AKID", "secret", None));
    let client = Client::new(server.endpoints(), other.tls(), credentials);

    let error = client.messages("/v1/x", "{}".into()).await.unwrap_err();

    assert!(format!("{:#}", anyhow::Error::from(error)).contains("certificate"));
}

#[tokio::test]
async fn upgrade_is_signed_for_the_message_gateway() {
    let server = TestServer::start(|_, _| Reply::json("{}")).await;
    let client = server.client_with(StaticCredentials::new("AKID", "secret", Some("token")));
    let url = Url::parse("wss://127.0.0.1:1/v1/control-channel/mi-1?role=subscribe").unwrap();

    let headers = client.sign_upgrade(&url).await.unwrap();

    let authorization = headers["authorization"].to_str().unwrap();
    assert!(authorization.contains("SignedHeaders=host;x-amz-date;x-amz-security-token,"));
    assert!(authorization.contains("/ssmmessages/aws4_request"));
    assert_eq!(headers["x-amz-security-token"], "token");
}

#[tokio::test]
async fn proxy_of_the_environment_is_used() {
    let server = TestServer::start(|_, _| Reply::json("{}")).await;
    let (proxy_address, asked, _tasks) = start_proxy(server.address).await;
    let proxies = proxy::Settings::from_lookup(|name| {
        (name == "http_proxy").then(|| format!("http://user:pass@{proxy_address}"))
    });
    let endpoints = server
        .endpoints()
        .with_ssm("http://ssm.invalid:8080")
        .unwrap();
    let credentials = Arc::new(StaticCredentials::new("AKID", "secret", None));
    let client = Client::with_proxies(endpoints, server.tls(), credentials, &proxies);

    let _: Value = client.ssm("Op", &json!({})).await.unwrap();

    let asked = asked.lock().unwrap();
    assert!(asked[0].starts_with("CONNECT ssm.invalid:8080 HTTP/1.1\r\n"));
    assert!(asked[0].contains("Proxy-Authorization: Basic dXNlcjpwYXNz\r\n"));
    assert_eq!(server.seen()[0].header("host"), "ssm.invalid:8080");
}

#[test]
fn client_shows_no_credentials() {
    let endpoints = Endpoints::for_region("eu-west-1", None).unwrap();
    let credentials = Arc::new(StaticCredentials::new("AKID", "very-secret", None));
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(rustls::RootCertStore::empty())
    .with_no_client_auth();

    let client = Client::new(endpoints, Arc::new(tls), credentials);

    assert!(!format!("{client:?}").contains("very-secret"));
}

async fn call(server: &TestServer) -> Result<Value, CallError> {
    server.client().ssm("Op", &json!({})).await
}

/// Gives `AKID0` until that is refused, then `AKID1`.
#[derive(Default)]
struct Numbered(AtomicUsize);

impl CredentialSource for Numbered {
    fn credentials(&self) -> CredentialFuture<'_> {
        Box::pin(async {
            let id = format!("AKID{}", self.0.load(Ordering::Relaxed));
            Ok(Credentials::new(id, "secret", None, None, "test"))
        })
    }

    fn refused(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
