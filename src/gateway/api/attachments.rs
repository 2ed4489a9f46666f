//! `GET /v1/attachments/<sha256>/<name>?expires=…&token=…`: files of packages, for whoever was given the
//! URL.

use std::fs::File;
use std::io::{self, Read as _};
use std::time::SystemTime;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use http::{StatusCode, header};
use serde::Deserialize;
use tracing::debug;
use uuid::Uuid;

use super::ApiState;
use super::answer::{ApiError, respond};

/// Bytes that are read and sent at a time.
const PIECE: usize = 64 << 10;

/// Routes of attachments.
pub(super) fn routes(state: ApiState) -> Router {
    Router::new()
        .route("/v1/attachments/{sha256}/{name}", get(read))
        .with_state(state)
}

/// Lets one get a file.
#[derive(Debug, Deserialize)]
struct Permit {
    expires: u64,
    token: String,
}

async fn read(
    State(state): State<ApiState>,
    Path((sha256, _name)): Path<(String, String)>,
    permit: Result<Query<Permit>, QueryRejection>,
) -> Response {
    match file(&state, &sha256, permit.ok()).await {
        Ok((file, length)) => {
            let headers = [
                (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
                (header::CONTENT_LENGTH, length.to_string()),
            ];
            (headers, Body::from_stream(pieces(file, length))).into_response()
        }
        Err(error) => {
            let request_id = Uuid::new_v4();
            let (code, message) = (error.code(), error.message());
            debug!(%request_id, code, message, "request for an attachment is refused");
            respond(request_id, Err(error))
        }
    }
}

async fn file(
    state: &ApiState,
    sha256: &str,
    permit: Option<Query<Permit>>,
) -> Result<(File, u64), ApiError> {
    let denied = || {
        let text = "The URL is not valid, or not any more.";
        ApiError::access_denied(text.to_owned()).with_status(StatusCode::FORBIDDEN)
    };
    let Query(permit) = permit.ok_or_else(denied)?;
    let now = SystemTime::now();
    let attachments = &state.attachments;
    if !attachments.is_allowed(sha256, permit.expires, &permit.token, now) {
        return Err(denied());
    }
    let found = attachments.open(sha256).await;
    let found = found.map_err(|error| ApiError::internal(&error))?;
    found.ok_or_else(|| {
        let text = "The file is not there any more.";
        ApiError::new("ResourceNotFoundException", text).with_status(StatusCode::NOT_FOUND)
    })
}

/// The file piece by piece; the next one is read once the one before is on its way.
fn pieces(file: File, length: u64) -> impl stream::Stream<Item = io::Result<Bytes>> {
    stream::try_unfold((file, length), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let read = tokio::task::spawn_blocking(move || {
            let size = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let mut piece = vec![0; size];
            // A file that became shorter breaks the answer off.
            file.read_exact(&mut piece)?;
            io::Result::Ok((file, piece))
        });
        let (file, piece) = read.await.map_err(io::Error::other)??;
        let left = left.saturating_sub(piece.len() as u64);
        Ok(Some((Bytes::from(piece), (file, left))))
    })
}
