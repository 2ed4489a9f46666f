//! The ssm endpoint of a stand-in: answers ResumeSession and TerminateSession, checks no signature.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What ResumeSession answers.
#[derive(Clone)]
pub enum Resume {
    Token(&'static str),
    Null,
    Denied,
}

#[derive(Default)]
struct Shared {
    calls: Mutex<Vec<(String, Value)>>,
    resumes: Mutex<VecDeque<Resume>>,
}

pub struct Endpoint {
    pub url: String,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

impl Endpoint {
    /// Serves; each ResumeSession gets the next of `resumes`, and null when they are used up.
    pub async fn start(resumes: impl IntoIterator<Item = Resume>) -> Self {
        let shared = Arc::new(Shared {
            resumes: Mutex::new(resumes.into_iter().collect()),
            ..Shared::default()
        });
        let router = Router::new()
            .route("/", post(answer))
            .with_state(Arc::clone(&shared));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            url,
            shared,
            _server: server,
        }
    }

    /// The operations that were called, in order.
    pub fn operations(&self) -> Vec<String> {
        let calls = self.shared.calls.lock().unwrap();
        calls
            .iter()
            .map(|(operation, _)| operation.clone())
            .collect()
    }

    /// The requests of the calls, in order.
    pub fn requests(&self) -> Vec<Value> {
        let calls = self.shared.calls.lock().unwrap();
        calls.iter().map(|(_, request)| request.clone()).collect()
    }
}

async fn answer(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: String) -> Response {
    let target = headers["x-amz-target"].to_str().unwrap();
    let operation = target.strip_prefix("AmazonSSM.").unwrap().to_owned();
    let request: Value = serde_json::from_str(&body).unwrap();
    let session = request["SessionId"].clone();
    shared
        .calls
        .lock()
        .unwrap()
        .push((operation.clone(), request));
    if operation == "TerminateSession" {
        return json!({ "SessionId": session }).to_string().into_response();
    }
    let resume = shared.resumes.lock().unwrap().pop_front();
    let token = match resume.unwrap_or(Resume::Null) {
        Resume::Token(token) => json!(token),
        Resume::Null => Value::Null,
        Resume::Denied => {
            let refusal = json!({"__type": "AccessDeniedException", "message": "not yours"});
            return (StatusCode::BAD_REQUEST, refusal.to_string()).into_response();
        }
    };
    // The URL is a trap: the first one holds for the whole session.
    json!({"SessionId": session, "TokenValue": token, "StreamUrl": "ws://127.0.0.1:1/trap"})
        .to_string()
        .into_response()
}
