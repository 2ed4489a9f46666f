//! S3 and CloudWatch Logs as far as records need them, which keep nothing but counts. What they cost
//! stays on the machine that is measured.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// Both services at one URL.
pub struct StandIns {
    pub url: String,
    counts: Arc<Counts>,
    serving: AbortHandle,
}

/// What they were given.
#[derive(Default)]
struct Counts {
    /// Length of each object, and of each upload in parts that is not complete.
    objects: Mutex<HashMap<String, u64>>,
    uploads: Mutex<HashMap<String, u64>>,
    made: AtomicU64,
    events: AtomicU64,
}

impl StandIns {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let counts = Arc::<Counts>::default();
        let router = Router::new()
            .fallback(answer)
            .layer(DefaultBodyLimit::max(64 << 20))
            .with_state(Arc::clone(&counts));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            url,
            counts,
            serving: serving.abort_handle(),
        }
    }

    /// How many objects there are.
    pub fn objects(&self) -> usize {
        self.counts.objects.lock().unwrap().len()
    }

    /// Bytes of all objects.
    pub fn stored(&self) -> u64 {
        self.counts.objects.lock().unwrap().values().sum()
    }

    /// Events of all log streams.
    pub fn events(&self) -> u64 {
        self.counts.events.load(Ordering::Relaxed)
    }
}

impl Drop for StandIns {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(
    State(counts): State<Arc<Counts>>,
    method: Method,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(target) = headers.get("x-amz-target") {
        return logs(&counts, target.to_str().unwrap(), &body);
    }
    let query = query.unwrap_or_default();
    let member = |name: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .clone()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.to_owned())
    };
    let key = uri.path().to_owned();
    let length = body.len() as u64;
    match (method.as_str(), member("uploadId")) {
        ("HEAD", _) => StatusCode::OK.into_response(),
        ("GET", _) => {
            let code = "ServerSideEncryptionConfigurationNotFoundError";
            (
                StatusCode::NOT_FOUND,
                format!("<Error><Code>{code}</Code></Error>"),
            )
                .into_response()
        }
        ("POST", None) => {
            let id = format!("u{}", counts.made.fetch_add(1, Ordering::Relaxed));
            counts.uploads.lock().unwrap().insert(id.clone(), 0);
            format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>")
                .into_response()
        }
        ("POST", Some(upload)) => {
            let whole = counts.uploads.lock().unwrap().remove(&upload).unwrap();
            counts.objects.lock().unwrap().insert(key, whole);
            let tag =
                "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>";
            tag.into_response()
        }
        ("PUT", None) => {
            counts.objects.lock().unwrap().insert(key, length);
            ([(header::ETAG, "\"e\"")], "").into_response()
        }
        ("PUT", Some(upload)) => {
            let range = headers.get("x-amz-copy-source-range");
            let copied = range.map(|range| {
                let last = range.to_str().unwrap().rsplit('-').next().unwrap();
                last.parse::<u64>().unwrap() + 1
            });
            *counts.uploads.lock().unwrap().get_mut(&upload).unwrap() += copied.unwrap_or(length);
            let text = if copied.is_some() {
                "<CopyPartResult><ETag>e</ETag></CopyPartResult>"
            } else {
                ""
            };
            ([(header::ETAG, "\"e\"")], text).into_response()
        }
        ("DELETE", _) => StatusCode::NO_CONTENT.into_response(),
        other => panic!("unexpected {other:?} {uri}"),
    }
}

fn logs(counts: &Counts, target: &str, body: &[u8]) -> Response {
    let (_, operation) = target.split_once('.').unwrap();
    let text = match operation {
        "DescribeLogGroups" => r#"{"logGroups":[{"logGroupName":"/bench"}]}"#,
        "DescribeLogStreams" => r#"{"logStreams":[]}"#,
        "GetLogEvents" => r#"{"events":[],"nextForwardToken":"f","nextBackwardToken":"b"}"#,
        "PutLogEvents" => {
            let mark = b"\"timestamp\"";
            let events = body.windows(mark.len()).filter(|part| part == mark).count();
            counts.events.fetch_add(events as u64, Ordering::Relaxed);
            r#"{"nextSequenceToken":"n"}"#
        }
        _ => "{}",
    };
    ([(header::CONTENT_TYPE, "application/x-amz-json-1.1")], text).into_response()
}
