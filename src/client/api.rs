//! What a client asks of the control endpoint: a session, a new token after a cut, the end.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::aws::{CallError, Client};
use crate::protocol::wire::SessionId;

/// Names of document parameters with their values, as StartSession takes them.
pub type Parameters = BTreeMap<String, Vec<String>>;

/// What a client needs to attach to a session.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct StartSessionResponse {
    /// The session.
    #[serde(rename = "SessionId")]
    pub session_id: SessionId,
    /// Token for the first connection; good for one.
    #[serde(rename = "TokenValue")]
    pub token: String,
    /// URL of the client's data channel, for the whole session.
    #[serde(rename = "StreamUrl")]
    pub stream_url: String,
}

impl fmt::Debug for StartSessionResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartSessionResponse")
            .field("session_id", &self.session_id)
            .field("stream_url", &self.stream_url)
            .finish_non_exhaustive()
    }
}

/// Starts a session on `target` with a document; without one it is the shell of the preferences.
///
/// # Errors
/// [`CallError`].
pub async fn start_session(
    aws: &Client,
    target: &str,
    document: Option<&str>,
    parameters: &Parameters,
    reason: Option<&str>,
) -> Result<StartSessionResponse, CallError> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Request<'a> {
        target: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        document_name: Option<&'a str>,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        parameters: &'a Parameters,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
    }
    let request = Request {
        target,
        document_name: document,
        parameters,
        reason,
    };
    aws.ssm("StartSession", &request).await
}

/// The calls about a session that runs. [`Client`] makes them.
pub trait Api: Send + Sync + 'static {
    /// A token for the next connection; `None` if the session is over.
    fn resume(
        &self,
        session: &SessionId,
    ) -> impl Future<Output = Result<Option<String>, CallError>> + Send;

    /// Ends the session.
    fn terminate(&self, session: &SessionId) -> impl Future<Output = Result<(), CallError>> + Send;
}

#[derive(Serialize)]
struct OfSession<'a> {
    #[serde(rename = "SessionId")]
    session_id: &'a SessionId,
}

impl Api for Client {
    async fn resume(&self, session: &SessionId) -> Result<Option<String>, CallError> {
        // The stream URL in the answer is not used: the first one holds for the whole session.
        #[derive(Deserialize)]
        struct Response {
            #[serde(rename = "TokenValue")]
            token: Option<String>,
        }
        let request = OfSession {
            session_id: session,
        };
        let response: Response = self.ssm("ResumeSession", &request).await?;
        Ok(response.token.filter(|token| !token.is_empty()))
    }

    async fn terminate(&self, session: &SessionId) -> Result<(), CallError> {
        #[derive(Deserialize)]
        struct Response {}
        let request = OfSession {
            session_id: session,
        };
        let Response {} = self.ssm("TerminateSession", &request).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::aws::StaticCredentials;
    use crate::aws::tests::server::{Reply, TestServer};

    #[tokio::test]
    async fn start_sends_what_was_given_and_nothing_else() {
        let server = TestServer::start(|_, _| {
            Reply::json(r#"{"SessionId":"ada-1","TokenValue":"t","StreamUrl":"wss://x/"}"#)
        })
        .await;
        let parameters = Parameters::from([("portNumber".to_owned(), vec!["22".to_owned()])]);

        let aws = client(&server);
        let bare = start_session(&aws, "mi-1", None, &Parameters::new(), None)
            .await
            .unwrap();
        start_session(&aws, "mi-1", Some("doc"), &parameters, Some("why"))
            .await
            .unwrap();

        assert_eq!(bare.session_id.as_str(), "ada-1");
        let seen = server.seen();
        assert_eq!(seen[0].operation(), "StartSession");
        assert_eq!(seen[0].json(), json!({"Target": "mi-1"}));
        assert_eq!(
            seen[1].json(),
            json!({
                "Target": "mi-1",
                "DocumentName": "doc",
                "Parameters": {"portNumber": ["22"]},
                "Reason": "why",
            })
        );
    }

    #[tokio::test]
    async fn resume_without_token_means_that_the_session_is_over() {
        let answers = [
            r#"{"SessionId":"ada-1","TokenValue":"fresh","StreamUrl":"wss://other/"}"#,
            r#"{"SessionId":"ada-1","TokenValue":null}"#,
            r#"{"SessionId":"ada-1"}"#,
            r#"{"SessionId":"ada-1","TokenValue":""}"#,
        ];
        let server = TestServer::start(move |n, _| Reply::json(answers[n])).await;
        let aws = client(&server);
        let mut tokens = Vec::new();

        for _ in answers {
            tokens.push(aws.resume(&session()).await.unwrap());
        }

        assert_eq!(tokens, [Some("fresh".to_owned()), None, None, None]);
        assert_eq!(server.seen()[0].json(), json!({"SessionId": "ada-1"}));
    }

    #[tokio::test]
    async fn terminate_names_the_session() {
        let server = TestServer::start(|_, _| Reply::json(r#"{"SessionId":"ada-1"}"#)).await;

        client(&server).terminate(&session()).await.unwrap();

        assert_eq!(server.seen()[0].operation(), "TerminateSession");
        assert_eq!(server.seen()[0].json(), json!({"SessionId": "ada-1"}));
    }

    #[test]
    fn token_is_not_shown() {
        let response = StartSessionResponse {
            session_id: session(),
            token: "s3cret".into(),
            stream_url: "wss://x".into(),
        };

        assert!(!format!("{response:?}").contains("s3cret"));
    }

    fn session() -> SessionId {
        SessionId::new("ada-1").unwrap()
    }

    fn client(server: &TestServer) -> Client {
        let credentials = StaticCredentials::new("AKID", "secret", None);
        Client::new(server.endpoints(), server.tls(), Arc::new(credentials))
    }
}
