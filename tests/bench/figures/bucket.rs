//! A stand-in for S3 that counts what one object is made of and keeps nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};

/// Largest request: a part has 8 MiB.
const REQUEST: usize = 64 << 20;

/// Where it listens, and what came.
pub struct Bucket {
    pub url: String,
    objects: Arc<Mutex<Objects>>,
}

/// Lengths of parts by number, and whether all of it was this byte.
#[derive(Default)]
struct Objects {
    parts: BTreeMap<u32, usize>,
    other_bytes: usize,
    is_complete: bool,
}

impl Bucket {
    /// Serves until the process ends.
    pub async fn start() -> Self {
        let objects = Arc::<Mutex<Objects>>::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .fallback(handle)
            .with_state(Arc::clone(&objects));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, objects }
    }

    /// The length of the object, if it is complete and all of it is `x`.
    pub fn length(&self) -> Option<usize> {
        let objects = self.objects.lock().unwrap();
        let is_right = objects.is_complete && objects.other_bytes == 0;
        is_right.then(|| objects.parts.values().sum())
    }
}

async fn handle(State(objects): State<Arc<Mutex<Objects>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let body = to_bytes(body, REQUEST).await.unwrap();
    let number = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("partNumber="))
        .map(|number| number.parse().unwrap());
    let mut objects = objects.lock().unwrap();
    match (parts.method, number) {
        (Method::HEAD, _) => StatusCode::OK.into_response(),
        (Method::PUT, number) => {
            objects.other_bytes += body.iter().filter(|byte| **byte != b'x').count();
            objects.parts.insert(number.unwrap_or(0), body.len());
            objects.is_complete |= number.is_none();
            ([("etag", "\"e\"")], Body::empty()).into_response()
        }
        (Method::POST, _) if query.starts_with("uploads") => {
            "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
                .into_response()
        }
        (Method::POST, _) => {
            objects.is_complete = true;
            "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"
                .into_response()
        }
        // There is no default encryption, and nothing else to ask for.
        (_, _) => {
            let code = "ServerSideEncryptionConfigurationNotFoundError";
            let body = format!("<Error><Code>{code}</Code></Error>");
            (StatusCode::NOT_FOUND, body).into_response()
        }
    }
}
