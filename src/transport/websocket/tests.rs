use super::*;

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use rcgen::CertificateParams;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::runtime::tls;
use crate::transport::testing::{
    Identity, accept, accept_key, read_head, serve_plain, upgrade_answer,
};

#[tokio::test]
async fn messages_cross_a_tls_connection_both_ways() {
    let identity = Identity::for_names(&["localhost"]);
    let (address, server) = identity.serve(echo_one).await;
    let url = format!("wss://localhost:{}/v1/x?role=a", address.port());

    let (mut socket, headers) = dial_direct(&url, &identity.trusting()).await.unwrap();
    let large = vec![7_u8; 100_000];
    socket.send(Message::binary(large.clone())).await.unwrap();
    let answer = socket.next().await.unwrap().unwrap();

    assert_eq!(answer.into_data(), large);
    assert_eq!(headers["x-ssm-features"], "max-payload=32768");
    let request = server.await.unwrap();
    assert!(
        request.starts_with("GET /v1/x?role=a HTTP/1.1\r\n"),
        "{request}"
    );
    let host = format!("host: localhost:{}\r\n", address.port());
    assert!(request.to_lowercase().contains(&host), "{request}");
    assert!(request.contains("X-Probe: 1\r\n"), "{request}");
}

#[tokio::test]
async fn an_expired_certificate_is_named_with_its_date_and_a_hint() {
    let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let identity = Identity::from_params(&params);

    let error = dial_refusing_certificate(&identity, &identity.trusting()).await;

    assert!(
        error
            .to_string()
            .ends_with("expired on 2021-01-01T00:00:00Z"),
        "{error}"
    );
    assert_eq!(
        error.hint(),
        Some("renew the certificate, or correct this host's clock")
    );
}

#[tokio::test]
async fn a_certificate_nobody_vouches_for_hints_at_ssl_cert_file() {
    let identity = Identity::for_names(&["localhost"]);

    let error = dial_refusing_certificate(&identity, &tls::client_config()).await;

    assert!(
        error
            .to_string()
            .ends_with("is not signed by an authority this host trusts"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("SSL_CERT_FILE"));
}

#[tokio::test]
async fn a_certificate_for_another_name_says_which() {
    let identity = Identity::for_names(&["other.example"]);

    let error = dial_refusing_certificate(&identity, &identity.trusting()).await;

    assert!(
        error.to_string().contains("is for another name")
            && error.to_string().contains("other.example"),
        "{error}"
    );
}

#[tokio::test]
async fn a_refused_upgrade_carries_status_and_body() {
    let (address, _server) = serve_plain(|mut stream| async move {
        read_head(&mut stream).await;
        // Head and body in two packets: the body has to be waited for.
        let head = "HTTP/1.1 403 Forbidden\r\nContent-Length: 16\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        tokio::task::yield_now().await;
        stream.write_all(b"token is used up").await.unwrap();
    })
    .await;

    let error = dial_plain(address).await.unwrap_err();

    let DialError::Refused { status, body } = error else {
        panic!("{error}");
    };
    assert_eq!((status, body.as_str()), (403, "token is used up"));
}

#[tokio::test]
async fn an_answer_for_another_key_is_no_websocket() {
    let (address, _server) = serve_plain(|mut stream| async move {
        read_head(&mut stream).await;
        stream
            .write_all(upgrade_answer("bm9uc2Vuc2U=").as_bytes())
            .await
            .unwrap();
        let _ = stream.read(&mut [0; 1]).await;
    })
    .await;

    let error = dial_plain(address).await.unwrap_err();

    assert!(error.to_string().contains("not for our key"), "{error}");
}

#[tokio::test]
async fn garbage_instead_of_http_is_no_websocket() {
    let (address, _server) = serve_plain(|mut stream| async move {
        stream
            .write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
            .await
            .unwrap();
        let _ = stream.read(&mut [0; 1024]).await;
    })
    .await;

    let error = dial_plain(address).await.unwrap_err();

    assert!(matches!(error, DialError::NotWebSocket { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_answers_times_out() {
    let (address, _server) = serve_plain(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.read(&mut [0; 1]).await;
    })
    .await;

    let error = dial_plain(address).await.unwrap_err();

    let DialError::Timeout { step, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(step, Step::Upgrade);
}

#[tokio::test]
async fn frames_sent_right_behind_the_upgrade_are_read() {
    let (address, _server) = serve_plain(|mut stream| async move {
        let mut answer = upgrade_answer(&accept_key(&read_head(&mut stream).await)).into_bytes();
        answer.extend_from_slice(&[0x82, 0x02, b'h', b'i']);
        stream.write_all(&answer).await.unwrap();
        let _ = stream.read(&mut [0; 1]).await;
    })
    .await;

    let (mut socket, _) = dial_plain(address).await.unwrap();

    assert_eq!(socket.next().await.unwrap().unwrap().into_data(), "hi");
}

#[tokio::test]
async fn a_ping_may_come_first_and_is_answered_and_fragments_are_joined() {
    let (near, far) = tokio::io::duplex(64 << 10);
    let mut far = far;
    let mut socket = accept_upgraded(Box::new(near)).await;

    far.write_all(&masked(0x89, b"keepalive")).await.unwrap();
    far.write_all(&masked(0x02, b"first ")).await.unwrap();
    far.write_all(&masked(0x89, b"between")).await.unwrap();
    far.write_all(&masked(0x80, b"second")).await.unwrap();
    let mut received = Vec::new();
    for _ in 0..3 {
        received.push(socket.next().await.unwrap().unwrap());
    }

    assert_eq!(
        received,
        [
            Message::Ping("keepalive".into()),
            Message::Ping("between".into()),
            Message::binary(&b"first second"[..]),
        ]
    );
    let mut pong = [0; 11];
    far.read_exact(&mut pong).await.unwrap();
    assert_eq!(&pong, b"\x8a\x09keepalive");
}

#[tokio::test]
async fn a_message_over_the_limit_is_an_error_before_it_is_read() {
    let (near, mut far) = tokio::io::duplex(64 << 10);
    let mut socket = accept_upgraded(Box::new(near)).await;

    let length = u64::try_from(MAX_MESSAGE + 1).unwrap();
    far.write_all(&[0x82, 0xff]).await.unwrap();
    far.write_all(&length.to_be_bytes()).await.unwrap();
    far.write_all(&[0; 4]).await.unwrap();

    assert!(socket.next().await.unwrap().is_err());
}

#[tokio::test]
async fn a_proxy_opens_the_tunnel_and_gets_its_credentials() {
    let identity = Identity::for_names(&["gateway.test"]);
    let (gateway, _server) = identity.serve(echo_one).await;
    let (proxy, request) = serve_plain(move |mut stream| async move {
        let request = read_head(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            .await
            .unwrap();
        let mut upstream = TcpStream::connect(gateway).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut upstream).await;
        request
    })
    .await;
    let proxies = proxies(&format!("http://user:pass@{proxy}"));

    let tls = identity.trusting();
    let (mut socket, _) = dial_with("wss://gateway.test/x", probe_headers(), &tls, &proxies)
        .await
        .unwrap();
    socket.send(Message::binary(&b"hello"[..])).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap().into_data(), "hello");

    drop(socket);
    let request = request.await.unwrap();
    assert!(
        request.starts_with("CONNECT gateway.test:443 HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains("Proxy-Authorization: Basic dXNlcjpwYXNz\r\n"),
        "{request}"
    );
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_with_its_status() {
    let (proxy, _server) = serve_plain(|mut stream| async move {
        read_head(&mut stream).await;
        let answer = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let proxies = proxies(&proxy.to_string());

    let error = dial_with(
        "wss://gateway.test/x",
        HeaderMap::new(),
        &tls::client_config(),
        &proxies,
    )
    .await
    .unwrap_err();

    assert_eq!(
        error.to_string(),
        format!("the proxy http://{proxy} refused to connect to gateway.test:443 with status 407")
    );
    assert!(error.hint().unwrap().contains("HTTPS_PROXY"));
}

#[tokio::test]
async fn what_is_no_websocket_url_is_refused() {
    for url in ["https://host/", "wss://", "nonsense"] {
        let error = dial(url, HeaderMap::new(), &tls::client_config())
            .await
            .unwrap_err();

        assert!(matches!(error, DialError::Url { .. }), "{error}");
    }
}

/// Answers one upgrade with our features, echoes one message and returns the request's head.
async fn echo_one(stream: Box<dyn Stream>) -> String {
    let (mut socket, head) = accept(stream).await;
    let message = socket.next().await.unwrap().unwrap();
    socket.send(message).await.unwrap();
    head
}

async fn dial_direct(
    url: &str,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<(Socket, HeaderMap), DialError> {
    dial_with(url, probe_headers(), tls, &proxy::Settings::default()).await
}

async fn dial_plain(address: SocketAddr) -> Result<(Socket, HeaderMap), DialError> {
    dial_direct(&format!("ws://{address}/x"), &tls::client_config()).await
}

async fn dial_refusing_certificate(
    identity: &Identity,
    tls: &Arc<rustls::ClientConfig>,
) -> DialError {
    let (address, _server) = identity.serve(echo_one).await;
    let url = format!("wss://localhost:{}/", address.port());
    let error = dial_direct(&url, tls).await.unwrap_err();
    assert!(matches!(error, DialError::Certificate { .. }), "{error:?}");
    error
}

fn probe_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("x-probe", "1".parse().unwrap());
    headers
}

fn proxies(https: &str) -> proxy::Settings {
    proxy::Settings::from_lookup(|name| (name == "HTTPS_PROXY").then(|| https.to_owned()))
}

/// A client's frame with a mask of zeros.
fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![
        opcode,
        0x80 | u8::try_from(payload.len()).unwrap(),
        0,
        0,
        0,
        0,
    ];
    frame.extend_from_slice(payload);
    frame
}
