use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use axum::http::Method;
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Map;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::*;
use crate::gateway::api::signature::Verifier;
use crate::gateway::attachments::Attachments;
use crate::gateway::broker::{self, Broker, StartRequest, Ticket};
use crate::gateway::recordings::{self, Recordings};
use crate::gateway::store::Store;
use crate::gateway::store::sessions::SessionLimits;
use crate::protocol::wire::open_channel::{
    OpenControlChannel, OpenDataChannel, decode_token_response,
};
use crate::protocol::wire::{Message, MessageType};

/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(20);
const NODE: &str = "mi-0123456789abcdef0";
const CREATE: &str = r#"{"MessageSchemaVersion":"1.0","RequestId":"r","ClientId":""}"#;

#[tokio::test]
async fn agent_opens_its_control_channel_and_learns_our_features() {
    let gateway = Gateway::start().await;

    let mut control = gateway.control().await;

    let features = &control.1[FEATURES_HEADER];
    assert_eq!(*features, PeerFeatures::ours().to_string());
    gateway.start_session().await;
    assert_eq!(
        next(&mut control.0).await.message_type,
        MessageType::InteractiveShell
    );
}

#[tokio::test]
async fn agent_and_client_meet_on_a_data_channel() {
    let gateway = Gateway::start().await;
    let _control = gateway.control().await;
    let ticket = gateway.start_session().await;
    let path = format!("/v1/data-channel/{}", ticket.session_id);

    let (status, body) = gateway.post(&path, Some(&gateway.node)).await;
    assert_eq!(status, StatusCode::CREATED);
    let token = decode_token_response(&body).unwrap();
    let (mut agent, _) = gateway.dial(&path, Some(&gateway.node)).await.unwrap();
    agent.send(open(&token, Some(NODE))).await.unwrap();
    let (mut client, headers) = gateway.dial(&path, None).await.unwrap();
    assert!(headers.contains_key(FEATURES_HEADER));
    client.send(open(&ticket.token, None)).await.unwrap();

    let first = next(&mut agent).await;
    assert_eq!(first.message_type, MessageType::StartPublication);
}

#[tokio::test]
async fn client_that_signs_needs_a_good_signature() {
    let gateway = Gateway::start().await;
    let _control = gateway.control().await;
    let path = format!(
        "/v1/data-channel/{}",
        gateway.start_session().await.session_id
    );
    let person = gateway.person().await;
    let stranger = Credentials::from_keys("AKIDEXAMPLE", "secret", None);

    assert!(gateway.dial(&path, Some(&person)).await.is_ok());
    let (status, body) = gateway.dial(&path, Some(&stranger)).await.err().unwrap();
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(body.contains("UnrecognizedClientException"), "{body}");
}

#[tokio::test]
async fn channels_of_a_node_are_its_agents_only() {
    let gateway = Gateway::start().await;
    let person = gateway.person().await;
    let own = format!("/v1/control-channel/{NODE}");
    let other = "/v1/control-channel/mi-fedcba98765432100";

    for (path, signer) in [(other, Some(&gateway.node)), (&own, Some(&person))] {
        let (status, body) = gateway.post(path, signer).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert!(body.starts_with(b"<AccessDeniedException>"), "{body:?}");
        let (status, _) = gateway.dial(path, signer).await.err().unwrap();
        assert_eq!(status, StatusCode::FORBIDDEN);
    }
    let (status, body) = gateway.post(&own, None).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(body.starts_with(b"<MissingAuthenticationToken"), "{body:?}");
    assert!(gateway.dial(&own, None).await.is_err());
}

#[tokio::test]
async fn agent_of_a_session_that_is_over_is_told_in_words_it_knows() {
    let gateway = Gateway::start().await;
    let path = "/v1/data-channel/alice-0123456789abcdef0";

    let (status, body) = gateway.post(path, Some(&gateway.node)).await;
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("Session is already terminated"), "{text}");

    let (status, text) = gateway.dial(path, Some(&gateway.node)).await.err().unwrap();
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("Session is already terminated"), "{text}");
}

#[tokio::test]
async fn session_id_with_signs_of_its_own_passes_through_the_path() {
    let gateway = Gateway::start().await;
    let _control = gateway.control().await;
    let ticket = gateway
        .start_session_of("arn:aws:iam::1:user/al@ex=a,m.ple+x")
        .await;
    let path = format!("/v1/data-channel/{}", ticket.session_id);

    let (status, _) = gateway.post(&path, Some(&gateway.node)).await;

    assert_eq!(status, StatusCode::CREATED);
}

#[tokio::test]
async fn malformed_requests_are_refused() {
    let gateway = Gateway::start().await;
    let node = Some(&gateway.node);
    let control = format!("/v1/control-channel/{NODE}");

    for (path, body) in [
        (control.as_str(), "no json"),
        (control.as_str(), &" ".repeat(Limit::OPEN_MESSAGE + 1)),
        ("/v1/data-channel/..%2F", CREATE),
    ] {
        let (status, body) = gateway.request(Method::POST, path, body, node).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}");
        assert!(body.starts_with(b"<ValidationException>"), "{body:?}");
    }
    let (status, _) = gateway.request(Method::GET, &control, "", node).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "not an upgrade");
}

type Channel = WebSocketStream<TcpStream>;

struct Gateway {
    address: SocketAddr,
    store: Store,
    broker: Broker,
    node: Credentials,
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl Gateway {
    async fn start() -> Self {
        let store = Store::open_in_memory().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cancel = CancellationToken::new();
        let url = Url::parse(&format!("ws://{address}")).unwrap();
        let settings = broker::Settings::new(url);
        let (broker, run) = Broker::new(store.clone(), settings, cancel.clone())
            .await
            .unwrap();
        let kept = recordings::Settings::new("/nowhere");
        let (recordings, _) = Recordings::new(store.clone(), kept, cancel.clone())
            .await
            .unwrap();
        let router = routes(ApiState {
            store: store.clone(),
            broker: broker.clone(),
            recordings,
            attachments: Attachments::new(
                "/nowhere".as_ref(),
                "https://gateway.example".parse().unwrap(),
            ),
            verifier: Verifier::new(store.clone()),
            cancel,
        });
        let serve = async { axum::serve(listener, router).await.unwrap() };
        let key = store
            .create_node_access_key("node", NODE, SystemTime::now())
            .await
            .unwrap();
        let secret = key.secret.expose();
        Self {
            address,
            store,
            broker,
            node: Credentials::from_keys(key.access_key_id, secret, None),
            _tasks: [tokio::spawn(run), tokio::spawn(serve)].map(AbortOnDropHandle::new),
        }
    }

    async fn person(&self) -> Credentials {
        let now = SystemTime::now();
        let key = self
            .store
            .create_access_key("alice", None, now)
            .await
            .unwrap();
        Credentials::from_keys(key.access_key_id, key.secret.expose(), None)
    }

    async fn start_session(&self) -> Ticket {
        self.start_session_of("arn:aws:iam::000000000000:user/alice")
            .await
    }

    async fn start_session_of(&self, owner: &str) -> Ticket {
        let document = r#"{"schemaVersion":"1.0","sessionType":"Standard_Stream"}"#;
        let request = StartRequest {
            node_id: NODE.into(),
            document_name: "SSM-SessionManagerRunShell".into(),
            document: serde_json::from_str(document).unwrap(),
            parameters: Map::new(),
            owner: owner.into(),
            run_as_user: String::new(),
            reason: String::new(),
            limits: SessionLimits::default(),
        };
        self.broker.start_session(request).await.unwrap()
    }

    /// The node's control channel, open.
    async fn control(&self) -> (Channel, HeaderMap) {
        let path = format!("/v1/control-channel/{NODE}");
        let (status, body) = self.post(&path, Some(&self.node)).await;
        assert_eq!(status, StatusCode::CREATED);
        let query = format!("{path}?role=subscribe&stream=input");
        let (mut channel, headers) = self.dial(&query, Some(&self.node)).await.unwrap();
        let open = OpenControlChannel {
            cookie: None,
            message_schema_version: "1.0".into(),
            request_id: String::new(),
            token_value: decode_token_response(&body).unwrap(),
            agent_version: String::new(),
            platform_type: String::new(),
        };
        channel.send(Frame::text(open.encode())).await.unwrap();
        let connected = async {
            while !self.broker.is_connected(NODE) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, connected).await.unwrap();
        (channel, headers)
    }

    async fn post(&self, path: &str, signer: Option<&Credentials>) -> (StatusCode, bytes::Bytes) {
        self.request(Method::POST, path, CREATE, signer).await
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: &str,
        signer: Option<&Credentials>,
    ) -> (StatusCode, bytes::Bytes) {
        let url = format!("http://{}{path}", self.address);
        let mut request = http::Request::builder()
            .method(method)
            .uri(url)
            .body(body.to_owned())
            .unwrap();
        sign_request(&mut request, body, signer);
        let client = Client::builder(TokioExecutor::new()).build_http();
        let response = client
            .request(request.map(|body| Full::new(bytes::Bytes::from(body))))
            .await
            .unwrap();
        let status = response.status();
        (
            status,
            response.into_body().collect().await.unwrap().to_bytes(),
        )
    }

    /// Dials a WebSocket; the error is the status and body of the refusal.
    async fn dial(
        &self,
        path: &str,
        signer: Option<&Credentials>,
    ) -> Result<(Channel, HeaderMap), (StatusCode, String)> {
        use tungstenite::client::IntoClientRequest;
        let url = format!("ws://{}{path}", self.address);
        let mut request = url.into_client_request().unwrap();
        sign_request(&mut request, "", signer);
        let stream = TcpStream::connect(self.address).await.unwrap();
        match client_async(request, stream).await {
            Ok((channel, response)) => Ok((channel, response.headers().clone())),
            Err(tungstenite::Error::Http(response)) => {
                let body = response.body().clone().unwrap_or_default();
                Err((response.status(), String::from_utf8(body).unwrap()))
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn sign_request<B>(request: &mut http::Request<B>, body: &str, signer: Option<&Credentials>) {
    let Some(credentials) = signer else { return };
    let identity = credentials.clone().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("local")
        .name(SERVICE)
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    // Peers sign the address as HTTP has it.
    let uri = request.uri().to_string().replacen("ws://", "http://", 1);
    let signable = SignableRequest::new(
        request.method().as_str(),
        uri,
        std::iter::empty(),
        SignableBody::Bytes(body.as_bytes()),
    );
    let (instructions, _) = sign(signable.unwrap(), &params).unwrap().into_parts();
    instructions.apply_to_request_http1x(request);
}

fn open(token: &str, node: Option<&str>) -> Frame {
    let open = OpenDataChannel {
        message_schema_version: "1.0".into(),
        request_id: String::new(),
        token_value: token.into(),
        client_instance_id: node.map(Into::into),
        client_id: String::new(),
        client_version: None,
        features: None,
    };
    Frame::text(open.encode())
}

async fn next(channel: &mut Channel) -> Message {
    loop {
        match timeout(PATIENCE, channel.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap()
        {
            Frame::Binary(bytes) => return Message::decode(&bytes).unwrap(),
            Frame::Ping(_) | Frame::Pong(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
}
