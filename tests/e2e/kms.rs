//! Stands in for KMS: makes data keys, decrypts its own in the context that they were made in, and
//! remembers who asked.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// The one key that it has.
pub const KEY_ID: &str = "arn:aws:kms:us-east-1:111122223333:key/sessions";

/// A call that was made.
#[derive(Debug, Clone)]
pub struct Call {
    pub operation: String,
    pub access_key_id: String,
    pub context: Value,
}

#[derive(Default)]
struct Keys {
    made: Vec<(Vec<u8>, Value)>,
    calls: Vec<Call>,
    denied: Option<&'static str>,
    silent: Option<&'static str>,
}

/// A KMS at work.
pub struct Kms {
    pub url: String,
    keys: Arc<Mutex<Keys>>,
    _tasks: JoinSet<()>,
}

impl Kms {
    pub async fn start() -> Self {
        let keys = Arc::new(Mutex::new(Keys::default()));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&keys));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(async { axum::serve(listener, router).await.unwrap() });
        Self {
            url,
            keys,
            _tasks: tasks,
        }
    }

    /// Refuses an operation from here on.
    pub fn deny(&self, operation: &'static str) {
        self.keys.lock().unwrap().denied = Some(operation);
    }

    /// Takes calls of an operation from here on, and never answers them.
    pub fn silence(&self, operation: &'static str) {
        self.keys.lock().unwrap().silent = Some(operation);
    }

    pub fn calls(&self) -> Vec<Call> {
        self.keys.lock().unwrap().calls.clone()
    }
}

async fn answer(
    State(keys): State<Arc<Mutex<Keys>>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let header = |name: &str| headers[name].to_str().unwrap();
    let operation = header("x-amz-target").rsplit('.').next().unwrap();
    let credential = header("authorization").split("Credential=").nth(1).unwrap();
    let request: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(request["KeyId"], KEY_ID);
    let context = request["EncryptionContext"].clone();
    if keys.lock().unwrap().silent == Some(operation) {
        std::future::pending::<()>().await;
    }
    let mut keys = keys.lock().unwrap();
    keys.calls.push(Call {
        operation: operation.to_owned(),
        access_key_id: credential.split('/').next().unwrap().to_owned(),
        context: context.clone(),
    });
    if keys.denied == Some(operation) {
        let text = "you may not";
        return refuse("AccessDeniedException", text);
    }
    match operation {
        "GenerateDataKey" => {
            assert_eq!(request["NumberOfBytes"], 64);
            let number = u8::try_from(keys.made.len()).unwrap();
            let plaintext: Vec<u8> = (0..64).map(|byte| byte ^ number).collect();
            let answer = json!({
                "Plaintext": BASE64.encode(&plaintext),
                "CiphertextBlob": BASE64.encode([number]),
                "KeyId": KEY_ID,
            });
            keys.made.push((plaintext, context));
            (StatusCode::OK, answer.to_string())
        }
        "Decrypt" => {
            let blob = BASE64.decode(request["CiphertextBlob"].as_str().unwrap());
            let made = keys.made.get(usize::from(blob.unwrap()[0]));
            match made {
                Some((plaintext, bound_to)) if *bound_to == context => {
                    let answer = json!({"Plaintext": BASE64.encode(plaintext), "KeyId": KEY_ID});
                    (StatusCode::OK, answer.to_string())
                }
                _ => refuse("InvalidCiphertextException", ""),
            }
        }
        other => panic!("{other} is not wanted"),
    }
}

fn refuse(code: &str, text: &str) -> (StatusCode, String) {
    let body = json!({"__type": code, "message": text});
    (StatusCode::BAD_REQUEST, body.to_string())
}
