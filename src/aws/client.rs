//! The client: one call to Systems Manager or to the message gateway, signed and retried.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{DATE, HeaderMap, HeaderValue, USER_AGENT};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use jiff::fmt::rfc2822;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::debug;
use url::Url;

use super::credentials::CredentialSource;
use super::endpoint::Endpoints;
use super::error::CallError;
use super::http::{Route, Routes};
use super::node_key::NodeKey;
use super::retry::{Attempts, Verdict};
use super::signer::{Parts, Scope, SignError, sign_with_credentials, sign_with_node_key};
use super::skew::Skew;
use crate::runtime::proxy;

/// Time for one attempt of a Systems Manager call.
const SSM_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for one attempt of a message gateway call.
const MESSAGES_TIMEOUT: Duration = Duration::from_secs(15);
/// Signing name of Systems Manager.
const SSM: &str = "ssm";
/// Signing name of the message gateway.
const MESSAGES: &str = "ssmmessages";
const JSON_1_1: &str = "application/x-amz-json-1.1";
const JSON: &str = "application/json";
const OUR_USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("ssm-agent/", env!("CARGO_PKG_VERSION")));

/// Makes calls. Clones share connections and the clock's correction.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    credentials: Arc<dyn CredentialSource>,
}

struct Shared {
    endpoints: Endpoints,
    tls: Arc<rustls::ClientConfig>,
    to_ssm: Route,
    to_messages: Route,
    skew: Skew,
}

/// The id and the key of a registered node, which sign the calls that get it credentials.
#[derive(Debug, Clone, Copy)]
pub struct NodeSigner<'a> {
    /// The node.
    pub node_id: &'a str,
    /// Its key.
    pub key: &'a NodeKey,
}

/// Who a call is made by.
#[derive(Clone, Copy)]
enum Authority<'a> {
    Nobody,
    Credentials,
    Node(NodeSigner<'a>),
}

/// A request as it is before it is signed.
struct Draft<'a> {
    operation: &'a str,
    service: &'static str,
    url: Url,
    /// Headers that are signed, lower-case names in alphabetical order.
    headers: Vec<(&'static str, &'a str)>,
    body: Bytes,
}

impl Client {
    /// A client of `endpoints`, with TLS by `tls` and the proxies of the environment.
    pub fn new(
        endpoints: Endpoints,
        tls: Arc<rustls::ClientConfig>,
        credentials: Arc<dyn CredentialSource>,
    ) -> Self {
        Self::with_proxies(endpoints, tls, credentials, proxy::Settings::of_process())
    }

    /// A client that reaches its endpoints through `proxies`.
    pub fn with_proxies(
        endpoints: Endpoints,
        tls: Arc<rustls::ClientConfig>,
        credentials: Arc<dyn CredentialSource>,
        proxies: &proxy::Settings,
    ) -> Self {
        let routes = Routes::new(Arc::clone(&tls));
        let shared = Shared {
            to_ssm: routes.route(&endpoints.ssm, proxies),
            to_messages: routes.route(&endpoints.messages, proxies),
            endpoints,
            tls,
            skew: Skew::default(),
        };
        Self {
            shared: Arc::new(shared),
            credentials,
        }
    }

    /// The same client, with its connections and its knowledge of the clock, that signs with other
    /// credentials.
    #[must_use]
    pub fn with_credentials(&self, credentials: Arc<dyn CredentialSource>) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            credentials,
        }
    }

    /// Where it calls.
    pub fn endpoints(&self) -> &Endpoints {
        &self.shared.endpoints
    }

    /// Its TLS configuration.
    pub fn tls(&self) -> &Arc<rustls::ClientConfig> {
        &self.shared.tls
    }

    /// The time by the services' clock, as far as it is known.
    pub fn now(&self) -> SystemTime {
        self.shared.skew.now()
    }

    /// A signed AWS JSON 1.1 call to Systems Manager, such as `StartSession`.
    ///
    /// Overload, broken services and lost connections are retried; lost answers are not, where the
    /// operation would happen twice.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn ssm<Q: Serialize, R: DeserializeOwned>(
        &self,
        operation: &str,
        request: &Q,
    ) -> Result<R, CallError> {
        self.json_call(operation, request, Authority::Credentials)
            .await
    }

    /// A call to Systems Manager without a signature; only a registration is one.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn ssm_unsigned<Q: Serialize, R: DeserializeOwned>(
        &self,
        operation: &str,
        request: &Q,
    ) -> Result<R, CallError> {
        self.json_call(operation, request, Authority::Nobody).await
    }

    /// A call to Systems Manager that the node signs with its own key.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn ssm_by_node<Q: Serialize, R: DeserializeOwned>(
        &self,
        operation: &str,
        request: &Q,
        node: NodeSigner<'_>,
    ) -> Result<R, CallError> {
        self.json_call(operation, request, Authority::Node(node))
            .await
    }

    /// A signed POST of `json` to `path` of the message gateway; returns the body of the answer.
    ///
    /// Success is exactly 201. Only what a new signature cures is retried: the callers reconnect
    /// with a back-off of their own.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn messages(&self, path: &str, json: String) -> Result<Bytes, CallError> {
        let url = self.shared.endpoints.messages.join(path);
        let draft = Draft {
            operation: path,
            service: MESSAGES,
            url: url.map_err(|error| address(path, &error))?,
            headers: vec![("content-type", JSON)],
            body: json.into(),
        };
        self.call(&draft, Authority::Credentials, Attempts::signature_only())
            .await
    }

    /// The headers that a websocket upgrade of `url` at the message gateway needs: `authorization`,
    /// `x-amz-date` and, with temporary credentials, `x-amz-security-token`.
    ///
    /// # Errors
    /// [`CallError::Credentials`] or [`CallError::Sign`].
    pub async fn sign_upgrade(&self, url: &Url) -> Result<HeaderMap, CallError> {
        let parts = Parts {
            method: "GET",
            url,
            headers: &[],
            body: b"",
        };
        self.sign(url.path(), parts, MESSAGES, Authority::Credentials)
            .await
    }

    async fn json_call<Q: Serialize, R: DeserializeOwned>(
        &self,
        operation: &str,
        request: &Q,
        authority: Authority<'_>,
    ) -> Result<R, CallError> {
        let body =
            serde_json::to_vec(request).map_err(|cause| decode(operation, "request", cause))?;
        let target = format!("AmazonSSM.{operation}");
        let draft = Draft {
            operation,
            service: SSM,
            url: self.shared.endpoints.ssm.clone(),
            headers: vec![("content-type", JSON_1_1), ("x-amz-target", &target)],
            body: body.into(),
        };
        let answer = self
            .call(&draft, authority, Attempts::of(operation))
            .await?;
        // Some endpoints answer an operation that has no result with no body.
        let json = if answer.is_empty() {
            b"{}"
        } else {
            &answer[..]
        };
        serde_json::from_slice(json).map_err(|cause| decode(operation, "answer", cause))
    }

    async fn call(
        &self,
        draft: &Draft<'_>,
        authority: Authority<'_>,
        mut attempts: Attempts,
    ) -> Result<Bytes, CallError> {
        loop {
            let (failure, clock_changed) = match self.attempt(draft, authority).await {
                Ok((answer, clock_changed)) => match judge_answer(draft, &answer) {
                    Ok(()) => return Ok(answer.into_body()),
                    Err(failure) => (failure, clock_changed),
                },
                Err(failure) => (failure, false),
            };
            let verdict = attempts.judge(&failure, clock_changed);
            if verdict != Verdict::GiveUp {
                debug!(operation = draft.operation, ?verdict, %failure, "calling again");
            }
            match verdict {
                Verdict::GiveUp => return Err(failure),
                Verdict::Resign => {}
                Verdict::RenewCredentials => self.credentials.refused(),
                Verdict::Wait(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// One exchange: the answer, whatever its status, and whether it has corrected the clock.
    async fn attempt(
        &self,
        draft: &Draft<'_>,
        authority: Authority<'_>,
    ) -> Result<(Response<Bytes>, bool), CallError> {
        let request = self.sign_draft(draft, authority).await?;
        let (route, timeout) = if draft.service == SSM {
            (&self.shared.to_ssm, SSM_TIMEOUT)
        } else {
            (&self.shared.to_messages, MESSAGES_TIMEOUT)
        };
        let answer = route.exchange(request, timeout).await;
        let answer = answer.map_err(|cause| CallError::Network {
            operation: draft.operation.to_owned(),
            cause,
        })?;
        let clock_changed = date_of(answer.headers())
            .is_some_and(|date| self.shared.skew.observe(date, SystemTime::now()));
        Ok((answer, clock_changed))
    }

    async fn sign_draft(
        &self,
        draft: &Draft<'_>,
        authority: Authority<'_>,
    ) -> Result<Request<Full<Bytes>>, CallError> {
        let parts = Parts {
            method: "POST",
            url: &draft.url,
            headers: &draft.headers,
            body: &draft.body,
        };
        let signature = self
            .sign(draft.operation, parts, draft.service, authority)
            .await?;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(draft.url.as_str())
            .header(USER_AGENT, OUR_USER_AGENT);
        for (name, value) in &draft.headers {
            request = request.header(*name, *value);
        }
        let mut request = request
            .body(Full::new(draft.body.clone()))
            .map_err(|error| address(draft.operation, &error))?;
        request.headers_mut().extend(signature);
        Ok(request)
    }

    async fn sign(
        &self,
        operation: &str,
        parts: Parts<'_>,
        service: &'static str,
        authority: Authority<'_>,
    ) -> Result<HeaderMap, CallError> {
        let endpoints = &self.shared.endpoints;
        let scope = |time| Scope {
            service,
            region: if service == SSM {
                &endpoints.region
            } else {
                &endpoints.messages_region
            },
            time,
        };
        let signed = match authority {
            Authority::Nobody => Ok(HeaderMap::new()),
            Authority::Credentials => {
                let credentials = self.credentials.credentials().await;
                let credentials = credentials.map_err(|cause| CallError::Credentials {
                    operation: operation.to_owned(),
                    cause,
                })?;
                // Getting credentials may have taken a while and corrected the clock.
                sign_with_credentials(parts, scope(self.now()), &credentials)
            }
            Authority::Node(node) => {
                sign_with_node_key(parts, scope(self.now()), node.node_id, node.key)
            }
        };
        signed.map_err(|cause: SignError| CallError::Sign {
            operation: operation.to_owned(),
            cause,
        })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("endpoints", &self.shared.endpoints)
            .finish_non_exhaustive()
    }
}

fn judge_answer(draft: &Draft<'_>, answer: &Response<Bytes>) -> Result<(), CallError> {
    let success = if draft.service == SSM {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    if answer.status() == success {
        return Ok(());
    }
    Err(CallError::refusal(
        draft.operation,
        answer.status().as_u16(),
        answer.headers(),
        answer.body(),
    ))
}

fn date_of(headers: &HeaderMap) -> Option<SystemTime> {
    let text = headers.get(DATE)?.to_str().ok()?;
    let date = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(date.into())
}

fn decode(operation: &str, what: &'static str, cause: serde_json::Error) -> CallError {
    CallError::Decode {
        operation: operation.to_owned(),
        what,
        cause,
    }
}

fn address(operation: &str, reason: &dyn fmt::Display) -> CallError {
    CallError::Address {
        operation: operation.to_owned(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests;
