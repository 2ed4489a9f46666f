//! StartSession, and the ticket that it and ResumeSession hand out.

use serde::{Deserialize, Serialize};

use super::super::answer::ApiError;
use super::super::validation::{DOCUMENT_NAME, length, matches, required};
use super::super::{ApiState, Arrival};
use super::parameters::{self, Given};
use super::{Person, documents, preferences};
use crate::gateway::broker::{StartRequest, Ticket};

/// StartSession's members.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Request {
    target: Option<String>,
    document_name: Option<String>,
    reason: Option<String>,
    #[serde(default)]
    parameters: Option<Given>,
}

/// What a client needs to open its end of a session.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TicketResult {
    session_id: String,
    /// Null if the session is over.
    token_value: Option<String>,
    stream_url: Option<String>,
}

impl TicketResult {
    /// A client that came over the plain listener also opens its channel there.
    pub(super) fn new(ticket: Ticket, arrival: Option<Arrival>) -> Self {
        let stream_url = match arrival {
            Some(Arrival::Plain(address)) => on_plain_listener(&ticket.stream_url, address),
            None => ticket.stream_url,
        };
        Self {
            session_id: ticket.session_id.to_string(),
            token_value: Some(ticket.token),
            stream_url: Some(stream_url),
        }
    }

    /// The session is over.
    pub(super) fn over(session_id: String) -> Self {
        Self {
            session_id,
            token_value: None,
            stream_url: None,
        }
    }
}

/// Starts a session on a node.
///
/// # Errors
/// `ValidationException`, `InvalidDocument`, `InvalidParameters`, `TargetNotConnected`.
pub(super) async fn start(
    state: &ApiState,
    person: &Person,
    request: Request,
) -> Result<TicketResult, ApiError> {
    let target = required("target", request.target)?;
    length("target", &target, 1..=400)?;
    if let Some(reason) = &request.reason {
        length("reason", reason, 1..=256)?;
    }
    if let Some(name) = &request.document_name {
        matches("documentName", name, &DOCUMENT_NAME)?;
    }
    let start = documents::session_document(state, request.document_name.as_deref()).await?;
    let given = request.parameters.unwrap_or_default();
    let (values, resolved) = parameters::values(&start.document, given)?;
    let limits = preferences::limits(&resolved, &start.account).map_err(parameters::invalid)?;
    let ticket = state
        .broker
        .start_session(StartRequest {
            node_id: target,
            document_name: start.name,
            document: start.document,
            parameters: values,
            owner: person.arn.clone(),
            run_as_user: person.run_as.clone(),
            reason: request.reason.unwrap_or_default(),
            limits,
        })
        .await?;
    Ok(TicketResult::new(ticket, person.arrival))
}

fn on_plain_listener(stream_url: &str, address: std::net::SocketAddr) -> String {
    let path = stream_url
        .split_once("://")
        .and_then(|(_, rest)| rest.find('/').map(|slash| &rest[slash..]))
        .unwrap_or_default();
    format!("ws://{address}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_url_follows_the_listener_that_the_client_came_over() {
        let url = "wss://gw.example:8443/v1/data-channel/alice-0?role=publish_subscribe";

        assert_eq!(
            on_plain_listener(url, "127.0.0.1:8080".parse().unwrap()),
            "ws://127.0.0.1:8080/v1/data-channel/alice-0?role=publish_subscribe"
        );
    }
}
