//! The other end of a client: a WebSocket server with a channel in the agent's role behind it.
//!
//! It takes any number of connections one after the other, as a gateway does after cuts.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use ssm_agent::protocol::channel::{Channel, Clock, Event, HandshakeRole, SendError, Settings};
use ssm_agent::protocol::wire::control::ChannelClosed;
use ssm_agent::protocol::wire::features::FEATURES_HEADER;
use ssm_agent::protocol::wire::handshake::HandshakeRequest;
use ssm_agent::protocol::wire::open_channel::OpenDataChannel;
use ssm_agent::protocol::wire::payload::Flag;
use ssm_agent::protocol::wire::{
    Message, MessageId, MessageType, Payload, PayloadType, PeerFeatures, SessionId, TerminalSize,
};
use ssm_agent::runtime::clock;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::http::uri::PathAndQuery;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

use crate::DEADLINE;

/// Id of every session here.
pub const SESSION: &str = "ada-0123456789abcdef0";
/// Token of the first connection.
pub const TOKEN: &str = "first-token";
const PATH: &str = "/v1/data-channel/ada-0123456789abcdef0?role=publish_subscribe";

type Socket = WebSocketStream<TcpStream>;

enum Command {
    Send(Payload),
    Close(ChannelClosed),
    Cut,
    FallSilent,
}

/// What the stand-in saw.
#[derive(Debug)]
enum Seen {
    Open(OpenDataChannel),
    Payload(Payload),
    HandshakeFailed(String),
}

pub struct StandIn {
    pub url: String,
    commands: mpsc::UnboundedSender<Command>,
    seen: mpsc::UnboundedReceiver<Seen>,
    typed: Vec<u8>,
    sizes: Vec<TerminalSize>,
    _tasks: JoinSet<()>,
}

impl StandIn {
    /// A shell, which needs no handshake.
    pub async fn shell() -> Self {
        Self::start(HandshakeRole::None).await
    }

    /// A session of another type, named in a handshake.
    pub async fn of_type(session_type: &str) -> Self {
        Self::with_properties(session_type, Value::Null).await
    }

    /// A port session with these properties.
    pub async fn of_port(properties: Value) -> Self {
        Self::with_properties("Port", properties).await
    }

    /// A port session with these properties, of an agent that calls itself this version.
    pub async fn of_port_at(version: &'static str, properties: Value) -> Self {
        Self::start_as(Some(version), request("Port", properties)).await
    }

    async fn with_properties(session_type: &str, properties: Value) -> Self {
        Self::start(request(session_type, properties)).await
    }

    async fn start(handshake: HandshakeRole) -> Self {
        Self::start_as(None, handshake).await
    }

    async fn start_as(version: Option<&'static str>, handshake: HandshakeRole) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}{PATH}", listener.local_addr().unwrap());
        let (commands, commanded) = mpsc::unbounded_channel();
        let (tell, seen) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let end = FarEnd {
                channel: channel(handshake),
                version,
                held: VecDeque::new(),
                commands: commanded,
                tell,
            };
            end.run(listener).await;
        });
        Self {
            url,
            commands,
            seen,
            typed: Vec::new(),
            sizes: Vec::new(),
            _tasks: tasks,
        }
    }

    /// Response of StartSession for a session here.
    pub fn response(&self) -> String {
        let url = &self.url;
        format!(r#"{{"SessionId":"{SESSION}","TokenValue":"{TOKEN}","StreamUrl":"{url}"}}"#)
    }

    pub fn output(&self, bytes: impl Into<Bytes>) {
        self.send(Payload::Output(bytes.into()));
    }

    pub fn send(&self, payload: Payload) {
        self.commands.send(Command::Send(payload)).unwrap();
    }

    /// Waits until the client has refused the handshake, and says why it did.
    pub async fn refused(&mut self) -> String {
        loop {
            let seen = timeout(DEADLINE, self.seen.recv()).await;
            match seen.expect("a refusal in time").expect("a client") {
                Seen::HandshakeFailed(reason) => return reason,
                Seen::Open(_) => {}
                Seen::Payload(payload) => panic!("{payload:?} although the handshake failed"),
            }
        }
    }

    /// Waits for a flag of the client.
    pub async fn flag(&mut self) -> Flag {
        loop {
            if let Seen::Payload(Payload::Flag(flag)) = self.next().await {
                return flag;
            }
        }
    }

    /// Ends the session as a gateway does.
    pub fn close(&self, exit_code: Option<i32>, output: &str) {
        let closed = ChannelClosed {
            message_type: "channel_closed".into(),
            message_id: String::new(),
            destination_id: "mi-0123456789abcdef0".into(),
            session_id: SESSION.into(),
            schema_version: 1,
            created_date: "2026-11-22".into(),
            output: output.into(),
            exit_code,
        };
        self.commands.send(Command::Close(closed)).unwrap();
    }

    /// Cuts the connection.
    pub fn cut(&self) {
        self.commands.send(Command::Cut).unwrap();
    }

    /// Leaves the connection open, but neither reads nor writes; takes the next one.
    pub fn fall_silent(&self) {
        self.commands.send(Command::FallSilent).unwrap();
    }

    /// Waits for the next connection's open message.
    pub async fn opened(&mut self) -> OpenDataChannel {
        loop {
            if let Seen::Open(open) = self.next().await {
                return open;
            }
        }
    }

    /// Waits until the end of all that was typed so far is `end`; returns all of it.
    pub async fn typed_until(&mut self, end: &[u8]) -> Vec<u8> {
        while !self.typed.ends_with(end) {
            self.next().await;
        }
        self.typed.clone()
    }

    /// Waits until `length` bytes were typed; returns all of them.
    pub async fn typed_bytes(&mut self, length: usize) -> Vec<u8> {
        while self.typed.len() < length {
            self.next().await;
        }
        self.typed.clone()
    }

    /// Sends back what is typed, until that was so many bytes.
    pub async fn echo(&mut self, length: usize) {
        let mut echoed = 0;
        while echoed < length {
            if let Seen::Payload(Payload::Output(bytes)) = self.next().await {
                echoed += bytes.len();
                self.output(bytes);
            }
        }
    }

    /// Waits until the client's terminal has this size.
    pub async fn resized_to(&mut self, cols: u16, rows: u16) {
        while self.sizes.last() != Some(&TerminalSize { cols, rows }) {
            self.next().await;
        }
    }

    /// The sizes so far.
    pub fn sizes(&self) -> &[TerminalSize] {
        &self.sizes
    }

    async fn next(&mut self) -> Seen {
        let seen = timeout(DEADLINE, self.seen.recv())
            .await
            .unwrap_or_else(|_| panic!("nothing more came; typed so far: {}", self.typed.len()))
            .expect("the stand-in has ended");
        match &seen {
            Seen::Payload(Payload::Output(bytes)) => self.typed.extend_from_slice(bytes),
            Seen::Payload(Payload::Size(size)) => self.sizes.push(*size),
            Seen::HandshakeFailed(text) => panic!("handshake failed: {text}"),
            Seen::Open(_) | Seen::Payload(_) => {}
        }
        seen
    }
}

fn request(session_type: &str, properties: Value) -> HandshakeRole {
    HandshakeRole::Request {
        session_type: session_type.into(),
        properties,
        encryption: None,
    }
}

/// A message of an agent that calls itself this version.
fn renamed(message: Bytes, version: &str) -> Bytes {
    let decoded = Message::decode(&message).unwrap();
    if decoded.payload_type != PayloadType::HandshakeRequest {
        return message;
    }
    let request = HandshakeRequest {
        agent_version: version.into(),
        ..HandshakeRequest::decode(&decoded.payload).unwrap()
    };
    Message {
        payload: request.encode(),
        ..decoded
    }
    .encode()
}

fn channel(handshake: HandshakeRole) -> Channel {
    let (instant, unix_ms) = clock::anchor();
    let id = SessionId::new(SESSION).unwrap();
    let settings = Settings {
        peer: PeerFeatures::ours(),
        ..Settings::agent(id, handshake, Clock { instant, unix_ms }, 7)
    };
    Channel::new(settings, instant)
}

/// The task behind a stand-in.
struct FarEnd {
    channel: Channel,
    /// What it calls itself, if not what our agent does.
    version: Option<&'static str>,
    /// What is to be sent once the handshake is over and there is room.
    held: VecDeque<Payload>,
    commands: mpsc::UnboundedReceiver<Command>,
    tell: mpsc::UnboundedSender<Seen>,
}

enum Wake {
    Frame(Option<Frame>),
    Command(Option<Command>),
    Timeout,
}

enum After {
    Go,
    NextConnection { keep: bool },
    End,
}

impl FarEnd {
    async fn run(mut self, listener: TcpListener) {
        let mut silent = Vec::new();
        loop {
            let mut socket = self.accept(&listener).await;
            match self.serve(&mut socket).await {
                After::NextConnection { keep: true } => silent.push(socket),
                After::NextConnection { keep: false } => {}
                After::Go | After::End => return,
            }
        }
    }

    /// Takes the next connection and its open message.
    async fn accept(&mut self, listener: &TcpListener) -> Socket {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let Ok(mut socket) = accept_hdr_async(stream, upgrade).await else {
                continue;
            };
            // The client's first frame may be a ping.
            while let Some(Ok(frame)) = socket.next().await {
                if let Frame::Text(text) = frame {
                    let open = OpenDataChannel::decode(text.as_bytes()).unwrap();
                    let _ = self.tell.send(Seen::Open(open));
                    return socket;
                }
            }
        }
    }

    async fn serve(&mut self, socket: &mut Socket) -> After {
        self.channel.handle_connected(Instant::now().into_std());
        loop {
            if self.flush(socket).await.is_err() {
                self.channel.handle_disconnected(Instant::now().into_std());
                return After::NextConnection { keep: false };
            }
            let timeout = self.channel.poll_timeout().map_or_else(
                || Instant::now() + Duration::from_secs(3600),
                Instant::from_std,
            );
            let wake = tokio::select! {
                frame = socket.next() => Wake::Frame(frame.and_then(Result::ok)),
                command = self.commands.recv() => Wake::Command(command),
                () = sleep_until(timeout) => Wake::Timeout,
            };
            match self.handle(wake, socket).await {
                After::Go => {}
                After::NextConnection { keep } => {
                    self.channel.handle_disconnected(Instant::now().into_std());
                    return After::NextConnection { keep };
                }
                After::End => return After::End,
            }
        }
    }

    async fn handle(&mut self, wake: Wake, socket: &mut Socket) -> After {
        let now = Instant::now().into_std();
        match wake {
            Wake::Frame(Some(Frame::Binary(bytes))) => {
                self.channel.handle_message(bytes, now).unwrap();
            }
            Wake::Frame(Some(_)) => {}
            Wake::Frame(None) | Wake::Command(Some(Command::Cut)) => {
                return After::NextConnection { keep: false };
            }
            Wake::Command(Some(Command::FallSilent)) => {
                return After::NextConnection { keep: true };
            }
            Wake::Command(Some(Command::Send(payload))) => {
                self.held.push_back(payload);
            }
            Wake::Command(Some(Command::Close(closed))) => {
                let _ = self.flush(socket).await;
                let message = Message {
                    message_type: MessageType::ChannelClosed,
                    created_ms: clock::unix_ms(),
                    sequence_number: 0,
                    flags: 0,
                    id: MessageId::from_random([7; 16]),
                    payload_type: PayloadType::None,
                    payload: closed.encode(),
                };
                let _ = socket.send(Frame::Binary(message.encode())).await;
            }
            Wake::Command(None) => return After::End,
            Wake::Timeout => self.channel.handle_timeout(now),
        }
        After::Go
    }

    async fn flush(
        &mut self,
        socket: &mut Socket,
    ) -> Result<(), tokio_tungstenite::tungstenite::Error> {
        let now = Instant::now().into_std();
        while let Some(event) = self.channel.poll_event() {
            if let Event::HandshakeFailed(text) = event {
                let _ = self.tell.send(Seen::HandshakeFailed(text));
            }
        }
        while let Some(payload) = self.held.front() {
            match self.channel.send(payload.clone(), now) {
                Ok(()) => drop(self.held.pop_front()),
                Err(SendError::NotOpen | SendError::WindowFull) => break,
                Err(SendError::Closed) => panic!("the session is over"),
            }
        }
        while let Some(payload) = self.channel.poll_delivery(now) {
            let _ = self.tell.send(Seen::Payload(payload));
        }
        while let Some(message) = self.channel.poll_transmit(now) {
            let message = match self.version {
                Some(version) => renamed(message, version),
                None => message,
            };
            socket.feed(Frame::Binary(message)).await?;
        }
        socket.flush().await
    }
}

#[expect(clippy::result_large_err, reason = "the signature is the library's")]
fn upgrade(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let asked = request.uri().path_and_query().map(PathAndQuery::as_str);
    if asked != Some(PATH) {
        let mut refusal = ErrorResponse::new(Some("no such channel".into()));
        *refusal.status_mut() = StatusCode::FORBIDDEN;
        return Err(refusal);
    }
    let features = PeerFeatures::ours().to_string();
    response
        .headers_mut()
        .insert(FEATURES_HEADER, features.parse().unwrap());
    Ok(response)
}
