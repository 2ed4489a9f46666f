//! `POST /`: reads a call, finds out who makes it, and runs its operation.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use tracing::{Instrument, debug, debug_span};
use uuid::Uuid;

use super::answer::{ApiError, read, reply, respond};
use super::signature::Caller;
use super::{ApiState, Arrival, agent, mds, ssm};

/// Largest request body. The largest that agents send is inventory, which AWS limits to 1 MB.
const BODY_LIMIT: usize = 2 << 20;
/// How long a body may take; SDKs give up after 60 s.
const BODY_DEADLINE: Duration = Duration::from_secs(30);

/// Services by the prefix of `X-Amz-Target`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    SystemsManager,
    Delivery,
}

impl Service {
    fn parse(prefix: &str) -> Option<Self> {
        match prefix {
            "AmazonSSM" => Some(Self::SystemsManager),
            "EC2WindowsMessageDeliveryService" => Some(Self::Delivery),
            _ => None,
        }
    }

    /// The name in credential scopes.
    fn signing_name(self) -> &'static str {
        match self {
            Self::SystemsManager => "ssm",
            Self::Delivery => "ec2messages",
        }
    }
}

/// Answers a call.
pub(super) async fn handle(State(state): State<ApiState>, request: Request<Body>) -> Response {
    let request_id = Uuid::new_v4();
    let span = debug_span!("call", %request_id);
    async {
        let (parts, body) = request.into_parts();
        let outcome = run(&state, &parts, body).await;
        if let Err(error) = &outcome {
            let operation = parts.headers.get("x-amz-target");
            debug!(
                ?operation,
                code = error.code(),
                message = error.message(),
                "call refused"
            );
        }
        respond(request_id, outcome)
    }
    .instrument(span)
    .await
}

async fn run(state: &ApiState, parts: &Parts, body: Body) -> Result<Vec<u8>, ApiError> {
    let (service, operation) = target(parts)?;
    let body = collect(body, BODY_LIMIT).await?;
    let signer = async || {
        let name = service.signing_name();
        state.verifier.verify(name, parts, &body).await
    };
    match (service, operation) {
        (Service::SystemsManager, "RegisterManagedInstance") => {
            reply(&agent::register(state, read(&body)?).await?)
        }
        (Service::SystemsManager, "RequestManagedInstanceRoleToken") => {
            let node_id = state.verifier.verify_node_key(parts, &body).await?;
            reply(&agent::role_token(state, &node_id, read(&body)?).await?)
        }
        (Service::SystemsManager, "UpdateManagedInstancePublicKey") => {
            let node_id = state.verifier.verify_node_key(parts, &body).await?;
            reply(&agent::replace_key(state, &node_id, read(&body)?).await?)
        }
        (Service::SystemsManager, operation) => match signer().await? {
            Caller::Person { arn, run_as, .. } => {
                let arrival = parts.extensions.get::<Arrival>().copied();
                let person = ssm::Person {
                    arn,
                    run_as,
                    arrival,
                };
                ssm::call(state, operation, &person, &body).await
            }
            Caller::Node { node_id } => agent::call(state, operation, &node_id, &body).await,
        },
        (Service::Delivery, operation) => match signer().await? {
            Caller::Node { node_id } => mds::call(state, operation, &node_id, &body).await,
            Caller::Person { arn, .. } => Err(ApiError::access_denied(format!(
                "User: {arn} is not authorized to perform: ec2messages:{operation}"
            ))),
        },
    }
}

fn target(parts: &Parts) -> Result<(Service, &str), ApiError> {
    let unknown = || ApiError::new("UnknownOperationException", "");
    let target = parts.headers.get("x-amz-target").ok_or_else(unknown)?;
    let target = target.to_str().map_err(|_| unknown())?;
    let (prefix, operation) = target.split_once('.').ok_or_else(unknown)?;
    Ok((Service::parse(prefix).ok_or_else(unknown)?, operation))
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// `RequestEntityTooLargeException`, `RequestTimeoutException`, `SerializationException` if it broke off.
pub(super) async fn collect(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let collected = tokio::time::timeout(BODY_DEADLINE, Limited::new(body, limit).collect());
    match collected.await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let text = format!("the request body is larger than {limit} bytes");
            Err(ApiError::new("RequestEntityTooLargeException", text)
                .with_status(StatusCode::PAYLOAD_TOO_LARGE))
        }
        Ok(Err(error)) => Err(ApiError::new(
            "SerializationException",
            format!("the request body broke off: {error}"),
        )),
        Err(_) => {
            let text = "the request body took too long";
            Err(ApiError::new("RequestTimeoutException", text)
                .with_status(StatusCode::REQUEST_TIMEOUT))
        }
    }
}
