//! Test callers: a tool that signs with keys, a host that signs with its RSA key.

use std::sync::Arc;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PSS_SHA256};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::task::AbortOnDropHandle;

use super::Running;
use crate::runtime::tls;

const CONTENT_TYPE: &str = "application/x-amz-json-1.1";
pub(super) const FINGERPRINT: &str = "8a0f16b0-fded-4044-ba46-709a519a01b7";

/// Either the JSON of a result or the code of an error.
type Outcome = Result<Value, String>;
type TlsConnection = http1::Connection<TokioIo<TlsStream<TcpStream>>, Full<Bytes>>;

/// What a person or an agent calls with.
pub(super) struct Tool {
    url: url::Url,
    tls: Arc<rustls::ClientConfig>,
    credentials: Credentials,
}

impl Tool {
    pub(super) fn new(running: &Running, id: &str, secret: &str, token: Option<&str>) -> Self {
        Self {
            url: running.url.clone(),
            tls: tls::client_config_with(running.ca_pem.as_deref().unwrap()).unwrap(),
            credentials: Credentials::new(id, secret, token.map(Into::into), None, "test"),
        }
    }

    pub(super) fn access_key_id(&self) -> &str {
        self.credentials.access_key_id()
    }

    pub(super) async fn ssm(&self, operation: &str, request: Value) -> Outcome {
        self.signed("ssm", &format!("AmazonSSM.{operation}"), &request)
            .await
    }

    pub(super) async fn delivery(&self, operation: &str, request: Value) -> Outcome {
        let target = format!("EC2WindowsMessageDeliveryService.{operation}");
        self.signed("ec2messages", &target, &request).await
    }

    pub(super) async fn unsigned(&self, target: &str, request: Value) -> Outcome {
        self.send(self.request(target, &request)).await
    }

    async fn signed(&self, service: &str, target: &str, request: &Value) -> Outcome {
        let mut request = self.request(target, request);
        self.sign(service, self.url.as_str(), &mut request);
        self.send(request).await
    }

    /// A signed request for `path` of the message gateway; gives the status and the body as it comes.
    pub(super) async fn rest(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let (host, port) = (self.url.host_str().unwrap(), self.url.port().unwrap());
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", format!("{host}:{port}"))
            .body(Bytes::copy_from_slice(body))
            .unwrap();
        let url = self.url.join(path).unwrap();
        self.sign("ssmmessages", url.as_str(), &mut request);
        let (mut sender, connection) = self.connect().await;
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            // The gateway may end the connection, which shows in the body.
            let _ = connection.await;
        }));
        let response = sender.send_request(request.map(Full::new)).await.unwrap();
        let (head, body) = response.into_parts();
        Answer {
            head,
            body,
            _connection: connection,
        }
    }

    fn sign(&self, service: &str, url: &str, request: &mut Request<Bytes>) {
        let identity = self.credentials.clone().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region("us-east-1")
            .name(service)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .unwrap()
            .into();
        let headers = request.headers().iter();
        let headers = headers.map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
        let body = SignableBody::Bytes(request.body());
        let method = request.method().as_str();
        let signable = SignableRequest::new(method, url, headers, body).unwrap();
        let (instructions, _) = sign(signable, &params).unwrap().into_parts();
        instructions.apply_to_request_http1x(request);
    }

    fn request(&self, target: &str, request: &Value) -> Request<Bytes> {
        let (host, port) = (self.url.host_str().unwrap(), self.url.port().unwrap());
        Request::post("/")
            .header("host", format!("{host}:{port}"))
            .header("content-type", CONTENT_TYPE)
            .header("x-amz-target", target)
            .body(request.to_string().into())
            .unwrap()
    }

    /// A TLS connection.
    async fn connect(&self) -> (SendRequest<Full<Bytes>>, TlsConnection) {
        let (host, port) = (self.url.host_str().unwrap(), self.url.port().unwrap());
        let stream = TcpStream::connect((host, port)).await.unwrap();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.tls));
        let stream = connector.connect(name, stream).await.unwrap();
        http1::handshake(TokioIo::new(stream)).await.unwrap()
    }

    /// Sends over a TLS connection of its own, and reads the answer in AWS's shape.
    async fn send(&self, request: Request<Bytes>) -> Outcome {
        let (mut sender, connection) = self.connect().await;
        let exchange = async move {
            let response = sender.send_request(request.map(Full::new)).await.unwrap();
            let (parts, body) = response.into_parts();
            (parts, body.collect().await.unwrap().to_bytes())
        };
        // The server may end the connection after an early answer, which is no failure.
        let ((parts, body), _) = tokio::join!(exchange, connection);
        assert_eq!(parts.headers["content-type"], CONTENT_TYPE);
        assert!(parts.headers.contains_key("x-amzn-requestid"));
        assert!(parts.headers.contains_key("date"));
        let body: Value = serde_json::from_slice(&body).unwrap();
        if parts.status.is_success() {
            return Ok(body);
        }
        assert_eq!(
            body["__type"],
            parts.headers["x-amzn-errortype"].to_str().unwrap()
        );
        assert!(body["message"].is_string());
        Err(body["__type"].as_str().unwrap().to_owned())
    }
}

/// An answer whose body is still under way.
pub(super) struct Answer {
    pub(super) head: http::response::Parts,
    body: hyper::body::Incoming,
    _connection: AbortOnDropHandle<()>,
}

impl Answer {
    pub(super) fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    /// The next bytes of the body; `None` at its end, an error if it broke off.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        let frame = self.body.frame().await?;
        Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
    }

    /// All of the body.
    pub(super) async fn text(self) -> String {
        let body = self.body.collect().await.unwrap().to_bytes();
        String::from_utf8(body.into()).unwrap()
    }
}

/// A host outside EC2 with a key of its own.
pub(super) struct Host {
    key: KeyPair,
}

impl Host {
    pub(super) fn new() -> Self {
        Self {
            key: KeyPair::generate(KeySize::Rsa2048).unwrap(),
        }
    }

    pub(super) fn public_key(&self) -> String {
        let der: PublicKeyX509Der<'_> = self.key.public_key().as_der().unwrap();
        STANDARD.encode(der.as_ref())
    }

    /// Registers and returns the node id.
    pub(super) async fn register(
        &self,
        running: &Running,
        id: &str,
        code: &str,
    ) -> Result<String, String> {
        let request = json!({
            "ActivationId": id, "ActivationCode": code, "Fingerprint": FINGERPRINT,
            "PublicKey": self.public_key(), "PublicKeyType": "Rsa"
        });
        let tool = Tool::new(running, "none", "none", None);
        let registered = tool
            .unsigned("AmazonSSM.RegisterManagedInstance", request)
            .await?;
        Ok(registered["InstanceId"].as_str().unwrap().to_owned())
    }

    /// Asks for credentials and returns a tool that signs with them.
    pub(super) async fn credentials(
        &self,
        running: &Running,
        node_id: &str,
    ) -> Result<Tool, String> {
        let request = json!({"Fingerprint": FINGERPRINT});
        let issued = self
            .call(running, node_id, "RequestManagedInstanceRoleToken", request)
            .await?;
        assert_eq!(issued["UpdateKeyPair"], false);
        assert!(issued["TokenExpirationDate"].is_u64());
        let text = |member: &str| issued[member].as_str().unwrap();
        let token = Some(text("SessionToken"));
        Ok(Tool::new(
            running,
            text("AccessKeyId"),
            text("SecretAccessKey"),
            token,
        ))
    }

    /// A call that is signed with the key.
    pub(super) async fn call(
        &self,
        running: &Running,
        node_id: &str,
        operation: &str,
        request: Value,
    ) -> Outcome {
        let tool = Tool::new(running, "none", "none", None);
        let mut request = tool.request(&format!("AmazonSSM.{operation}"), &request);
        let date = jiff::Timestamp::now()
            .strftime("%Y%m%dT%H%M%SZ")
            .to_string();
        let scope = format!("{}/us-east-1/ssm/aws4_request", &date[..8]);
        let signed = "content-type;host;x-amz-date;x-amz-target";
        let header = |name: &str| request.headers()[name].to_str().unwrap();
        let canonical = format!(
            "POST\n/\n\ncontent-type:{}\nhost:{}\nx-amz-date:{date}\nx-amz-target:{}\n\n{signed}\n{}",
            header("content-type"),
            header("host"),
            header("x-amz-target"),
            sha256_hex(request.body())
        );
        let text = format!(
            "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
            sha256_hex(canonical.as_bytes())
        );
        let mut signature = vec![0; self.key.public_modulus_len()];
        let random = SystemRandom::new();
        self.key
            .sign(&RSA_PSS_SHA256, &random, text.as_bytes(), &mut signature)
            .unwrap();
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={node_id}/{scope}, SignedHeaders={signed}, Signature={}",
            STANDARD.encode(signature)
        );
        let headers = request.headers_mut();
        headers.insert("x-amz-date", date.parse().unwrap());
        headers.insert("authorization", authorization.parse().unwrap());
        tool.send(request).await
    }
}

fn sha256_hex(bytes: &[u8]) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    hash.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
