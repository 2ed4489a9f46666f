//! Recordings: agents upload them, people read them.
//!
//! | request, signed for `ssmmessages` | from | answer |
//! |---|---|---|
//! | `PUT /v1/recordings/<session>?offset=…&entries=…` | the session's node | [`crate::protocol::wire::recording`] |
//! | `GET /v1/recordings?node=…&limit=…&from=…` | people | 200, JSON: `Recordings`, newest first, and `NextToken` |
//! | `GET /v1/recordings/<session>?offset=…&follow=true` | people | 200, the cast from the offset on |
//!
//! People read the recordings of their own sessions; those of others only with an auditor's key. With
//! `follow` the answer goes on while the recording grows, and ends in good order when it is complete.
//! An answer that ends otherwise (a follower that took nothing for 30 s, a gateway that stops) breaks
//! off without its last chunk; whoever reads asks again from where it ended. Errors have the shape of all
//! errors of the gateway.

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, RawQuery, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use http::{HeaderName, StatusCode, header};
use serde::{Deserialize, Serialize};
use tracing::{Instrument, debug, debug_span};
use uuid::Uuid;

use super::answer::{ApiError, epoch_seconds, reply, respond};
use super::dispatch::collect;
use super::signature::Caller;
use super::{ApiState, Impatience};
use crate::gateway::recordings::{AppendError, PATIENCE, ReadError};
use crate::gateway::store::recordings::{Agreement, Listed, RecordingFilter};
use crate::gateway::store::sessions::{Cursor, SessionStatus};
use crate::protocol::wire::SessionId;
use crate::protocol::wire::recording::{PART_LIMIT, Part, Progress};

const SERVICE: &str = "ssmmessages";
/// Asciicast's media type.
const CAST: &str = "application/x-asciicast";
/// Bytes of the recording when the answer began.
const BYTES: HeaderName = HeaderName::from_static("x-ssm-recording-bytes");
/// Whether it was complete then.
const COMPLETE: HeaderName = HeaderName::from_static("x-ssm-recording-complete");
/// Sessions on a page, if the request does not say, and at most.
const PAGE: u32 = 50;
const PAGE_LIMIT: u32 = 200;

/// Routes of recordings.
pub(super) fn routes(state: ApiState) -> Router {
    Router::new()
        .route("/v1/recordings", get(list))
        .route("/v1/recordings/{id}", put(append).get(read))
        .with_state(state)
}

type QueryOf<Q> = Result<Query<Q>, QueryRejection>;

async fn append(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    RawQuery(part): RawQuery,
    request: Request,
) -> Response {
    answer(
        "upload",
        append_part(&state, id, part.unwrap_or_default(), request),
    )
    .await
}

async fn append_part(
    state: &ApiState,
    id: String,
    part: String,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let body = collect(body, PART_LIMIT).await?;
    let node_id = match state.verifier.verify(SERVICE, &parts, &body).await? {
        Caller::Node { node_id } => node_id,
        Caller::Person { arn, .. } => {
            return Err(ApiError::access_denied(format!(
                "User: {arn} is not authorized to upload recordings"
            ))
            .with_status(StatusCode::FORBIDDEN));
        }
    };
    let part = Part::decode(&part).map_err(|error| ApiError::validation(error.to_string()))?;
    let id = session_id(id)?;
    let appended = state.recordings.append(&node_id, id, part, body).await;
    let (status, progress) = match appended {
        Ok(progress) => (StatusCode::OK, progress),
        Err(AppendError::Elsewhere(progress)) => (StatusCode::CONFLICT, progress),
        Err(error) => return Err(error.into()),
    };
    let json = [(header::CONTENT_TYPE, "application/json")];
    Ok((status, json, progress.encode()).into_response())
}

/// What to read.
#[derive(Debug, Deserialize)]
struct ReadQuery {
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    follow: bool,
}

async fn read(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    wanted: QueryOf<ReadQuery>,
    request: Request,
) -> Response {
    answer("read", read_cast(&state, id, wanted, request)).await
}

async fn read_cast(
    state: &ApiState,
    id: String,
    wanted: QueryOf<ReadQuery>,
    request: Request,
) -> Result<Response, ApiError> {
    let impatience = request.extensions().get::<Impatience>().cloned();
    let reader = reader(state, request).await?;
    let wanted = query(wanted)?;
    let id = session_id(id)?;
    // Before anything is opened, and the same for what is not there, so that nobody learns of
    // sessions by trying.
    let recording = state.store.recording(&id).await?;
    let theirs = recording.filter(|recording| reader.may_read(&recording.owner));
    if theirs.is_none() {
        return Err(ReadError::NotFound(id).into());
    }
    let reading = state.recordings.read(&id, wanted.offset, wanted.follow);
    let reading = reading.await?;
    if let Some(impatience) = impatience {
        impatience.set(PATIENCE);
    }
    let Progress {
        bytes, complete, ..
    } = reading.recording.progress;
    let headers = [
        (header::CONTENT_TYPE, CAST.to_owned()),
        (BYTES, bytes.to_string()),
        (COMPLETE, complete.to_string()),
    ];
    Ok((headers, Body::from_stream(reading.into_stream())).into_response())
}

/// What to list.
#[derive(Debug, Deserialize)]
struct ListQuery {
    node: Option<String>,
    limit: Option<u32>,
    from: Option<String>,
}

/// A page.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    recordings: Vec<Item>,
    next_token: Option<String>,
}

/// A recording in the list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    session_id: SessionId,
    target: String,
    owner: String,
    /// How the session stands; none once its history is forgotten.
    status: Option<&'static str>,
    start_date: f64,
    updated_date: f64,
    bytes: u64,
    complete: bool,
    sha256: Option<String>,
    /// Whether the node's own file has the same digest, where that says something.
    same_on_node: Option<bool>,
}

async fn list(
    State(state): State<ApiState>,
    wanted: QueryOf<ListQuery>,
    request: Request,
) -> Response {
    answer("list", list_page(&state, wanted, request)).await
}

async fn list_page(
    state: &ApiState,
    wanted: QueryOf<ListQuery>,
    request: Request,
) -> Result<Response, ApiError> {
    let reader = reader(state, request).await?;
    let wanted = query(wanted)?;
    let limit = wanted.limit.unwrap_or(PAGE);
    if !(1..=PAGE_LIMIT).contains(&limit) {
        return Err(ApiError::validation(format!(
            "limit is {limit}, allowed are 1 to {PAGE_LIMIT}"
        )));
    }
    let from = wanted.from.map(|text| {
        Cursor::parse(&text)
            .ok_or_else(|| ApiError::new("InvalidNextToken", "The specified token is not valid."))
    });
    let filter = RecordingFilter {
        node_id: wanted.node,
        owner: (!reader.auditor).then_some(reader.arn),
        all_sessions: false,
        from: from.transpose()?,
        limit,
    };
    let page = state.store.list_recordings(filter).await?;
    let page = Page {
        recordings: page.items.into_iter().filter_map(item).collect(),
        next_token: page.next,
    };
    let json = [(header::CONTENT_TYPE, "application/json")];
    Ok((json, reply(&page)?).into_response())
}

fn item(listed: Listed) -> Option<Item> {
    let recording = listed.recording?;
    let same_on_node = match recording.agreement() {
        Agreement::Unknown => None,
        Agreement::Same => Some(true),
        Agreement::Differs => Some(false),
    };
    Some(Item {
        session_id: listed.session_id,
        target: listed.node_id,
        owner: listed.owner,
        status: listed.status.map(SessionStatus::as_str),
        start_date: epoch_seconds(listed.start),
        updated_date: epoch_seconds(recording.updated),
        bytes: recording.progress.bytes,
        complete: recording.progress.complete,
        sha256: recording.sha256,
        same_on_node,
    })
}

/// A person who wants to read.
struct Reader {
    arn: String,
    auditor: bool,
}

impl Reader {
    fn may_read(&self, owner: &str) -> bool {
        self.auditor || self.arn == owner
    }
}

/// Which person signed `request`, which has no body.
async fn reader(state: &ApiState, request: Request) -> Result<Reader, ApiError> {
    let (parts, _) = request.into_parts();
    match state.verifier.verify(SERVICE, &parts, b"").await? {
        Caller::Person { arn, auditor, .. } => Ok(Reader { arn, auditor }),
        Caller::Node { node_id } => Err(ApiError::access_denied(format!(
            "node {node_id} is not authorized to read recordings"
        ))
        .with_status(StatusCode::FORBIDDEN)),
    }
}

fn query<Q>(query: QueryOf<Q>) -> Result<Q, ApiError> {
    let read = query.map_err(|error| ApiError::validation(error.body_text()));
    read.map(|Query(query)| query)
}

fn session_id(text: String) -> Result<SessionId, ApiError> {
    SessionId::new(text).map_err(|error| ApiError::validation(error.to_string()))
}

/// Runs a request and puts its error into an answer.
async fn answer(
    what: &'static str,
    run: impl Future<Output = Result<Response, ApiError>>,
) -> Response {
    let request_id = Uuid::new_v4();
    let outcome = run
        .instrument(debug_span!("recording", what, %request_id))
        .await;
    outcome.unwrap_or_else(|error| {
        let (code, message) = (error.code(), error.message());
        debug!(%request_id, what, code, message, "request for a recording is refused");
        respond(request_id, Err(error))
    })
}

impl From<AppendError> for ApiError {
    fn from(error: AppendError) -> Self {
        let refused = |code, status| Self::new(code, error.to_string()).with_status(status);
        match &error {
            AppendError::NotFound(_) => refused("ResourceNotFoundException", StatusCode::NOT_FOUND),
            AppendError::WrongNode => refused("AccessDeniedException", StatusCode::FORBIDDEN),
            AppendError::Elsewhere(_) => refused("ConflictException", StatusCode::CONFLICT),
            AppendError::Entries => refused("ValidationException", StatusCode::BAD_REQUEST),
            AppendError::TooLarge { .. } => refused(
                "RequestEntityTooLargeException",
                StatusCode::PAYLOAD_TOO_LARGE,
            ),
            AppendError::Full(why) => {
                tracing::warn!(why, "a recording is not taken");
                refused(
                    "InsufficientStorageException",
                    StatusCode::INSUFFICIENT_STORAGE,
                )
            }
            AppendError::Damaged => {
                tracing::warn!("a stored recording was changed or removed");
                refused("ResourceGoneException", StatusCode::GONE)
            }
            AppendError::Io(_) | AppendError::Store(_) | AppendError::Interrupted(_) => {
                Self::internal(&error)
            }
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        let refused = |code, status| Self::new(code, error.to_string()).with_status(status);
        match &error {
            ReadError::NotFound(_) => refused("ResourceNotFoundException", StatusCode::NOT_FOUND),
            ReadError::Beyond(_) => {
                refused("ValidationException", StatusCode::RANGE_NOT_SATISFIABLE)
            }
            ReadError::Busy => refused("ThrottlingException", StatusCode::SERVICE_UNAVAILABLE),
            ReadError::Io(_) | ReadError::Store(_) | ReadError::Interrupted(_) => {
                Self::internal(&error)
            }
        }
    }
}
