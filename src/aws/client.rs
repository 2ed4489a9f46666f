//! The client: one call to a service, signed and retried.

mod download;
mod draft;
mod service;
mod upload;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{DATE, HeaderMap, HeaderValue, USER_AGENT};
use http::{Method, Request, Response};
use http_body_util::Full;
use jiff::fmt::rfc2822;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::debug;
use url::Url;

use super::credentials::{CredentialError, CredentialSource, Credentials};
use super::endpoint::Endpoints;
use super::error::CallError;
use super::http::{Route, Routes};
use super::node_key::NodeKey;
use super::retry::{Attempts, Verdict};
use super::signer::{Parts, Scope, SignError, sign_with_credentials, sign_with_node_key};
use super::skew::Skew;
use crate::runtime::proxy;

pub use download::{Download, FetchError};
pub(super) use draft::Draft;
pub(super) use service::Service;

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
    to_kms: Route,
    to_logs: Route,
    to_messages: Route,
    to_delivery: Route,
    routes: Routes,
    proxies: proxy::Settings,
    skew: Skew,
}

impl Shared {
    fn base(&self, service: Service) -> &Url {
        match service {
            Service::Ssm => &self.endpoints.ssm,
            Service::Kms => &self.endpoints.kms,
            Service::Messages => &self.endpoints.messages,
            Service::Delivery => &self.endpoints.delivery,
            Service::S3 => &self.endpoints.s3.url,
            Service::Logs => &self.endpoints.logs,
        }
    }

    fn region(&self, service: Service) -> &str {
        match service {
            Service::Ssm | Service::Kms | Service::S3 | Service::Logs | Service::Delivery => {
                &self.endpoints.region
            }
            Service::Messages => &self.endpoints.messages_region,
        }
    }

    /// The way to `url`; each bucket has a host of its own.
    fn route(&self, service: Service, url: &Url) -> Route {
        match service {
            Service::Ssm => self.to_ssm.clone(),
            Service::Kms => self.to_kms.clone(),
            Service::Messages => self.to_messages.clone(),
            Service::Delivery => self.to_delivery.clone(),
            Service::Logs => self.to_logs.clone(),
            Service::S3 => self.routes.route(url, &self.proxies),
        }
    }
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
pub(super) enum Authority<'a> {
    Nobody,
    Credentials,
    Node(NodeSigner<'a>),
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
            to_kms: routes.route(&endpoints.kms, proxies),
            to_logs: routes.route(&endpoints.logs, proxies),
            to_messages: routes.route(&endpoints.messages, proxies),
            to_delivery: routes.route(&endpoints.delivery, proxies),
            routes,
            proxies: proxies.clone(),
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

    /// The credentials that it would sign a call with now.
    ///
    /// # Errors
    /// [`CredentialError`] if there are none.
    pub async fn credentials(&self) -> Result<Credentials, CredentialError> {
        self.credentials.credentials().await
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
        let draft = self.json_draft(Service::Ssm, "AmazonSSM", operation, request)?;
        self.json_call(draft, Authority::Credentials).await
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
        let draft = self.json_draft(Service::Ssm, "AmazonSSM", operation, request)?;
        self.json_call(draft, Authority::Nobody).await
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
        let draft = self.json_draft(Service::Ssm, "AmazonSSM", operation, request)?;
        self.json_call(draft, Authority::Node(node)).await
    }

    /// A signed AWS JSON 1.1 call to KMS. Retried like one to Systems Manager.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) async fn kms<Q: Serialize, R: DeserializeOwned>(
        &self,
        operation: &str,
        request: &Q,
    ) -> Result<R, CallError> {
        let draft = self.json_draft(Service::Kms, "TrentService", operation, request)?;
        self.json_call(draft, Authority::Credentials).await
    }

    /// A signed AWS JSON 1.1 call to CloudWatch Logs. Only what a new signature cures is retried: the
    /// callers come again with a back-off of their own, and events that are sent twice are there twice.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) async fn logs<Q: Serialize, R: DeserializeOwned>(
        &self,
        operation: &str,
        request: &Q,
    ) -> Result<R, CallError> {
        let draft = self.json_draft(Service::Logs, "Logs_20140328", operation, request)?;
        let attempts = Attempts::signature_only();
        self.json_call_with(draft, Authority::Credentials, attempts)
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
        let url = self.shared.base(Service::Messages).join(path);
        let draft = Draft {
            operation: path,
            service: Service::Messages,
            method: Method::POST,
            url: url.map_err(|error| address(path, &error))?,
            region: None,
            timeout: Service::Messages.timeout(),
            success: Service::Messages.success(),
            headers: vec![("content-type", JSON.to_owned())],
            body: json.into(),
        };
        let answer = self
            .call(&draft, Authority::Credentials, Attempts::signature_only())
            .await?;
        Ok(answer.into_body())
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
        let service = Service::Messages;
        let region = self.shared.region(service);
        self.sign(url.path(), parts, service, region, Authority::Credentials)
            .await
    }

    pub(super) fn json_draft<'a, Q: Serialize>(
        &self,
        service: Service,
        prefix: &str,
        operation: &'a str,
        request: &Q,
    ) -> Result<Draft<'a>, CallError> {
        let body =
            serde_json::to_vec(request).map_err(|cause| decode(operation, "request", cause))?;
        Ok(Draft {
            operation,
            service,
            method: Method::POST,
            url: self.shared.base(service).clone(),
            region: None,
            timeout: service.timeout(),
            success: service.success(),
            headers: vec![
                ("content-type", JSON_1_1.to_owned()),
                ("x-amz-target", format!("{prefix}.{operation}")),
            ],
            body: body.into(),
        })
    }

    pub(super) async fn json_call<R: DeserializeOwned>(
        &self,
        draft: Draft<'_>,
        authority: Authority<'_>,
    ) -> Result<R, CallError> {
        let attempts = Attempts::of(draft.operation);
        self.json_call_with(draft, authority, attempts).await
    }

    pub(super) async fn json_call_with<R: DeserializeOwned>(
        &self,
        draft: Draft<'_>,
        authority: Authority<'_>,
        attempts: Attempts,
    ) -> Result<R, CallError> {
        let answer = self.call(&draft, authority, attempts).await?.into_body();
        // Some endpoints answer an operation that has no result with no body.
        let json = if answer.is_empty() {
            b"{}"
        } else {
            &answer[..]
        };
        serde_json::from_slice(json).map_err(|cause| decode(draft.operation, "answer", cause))
    }

    /// Makes a call as often as `attempts` allow.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) async fn call(
        &self,
        draft: &Draft<'_>,
        authority: Authority<'_>,
        mut attempts: Attempts,
    ) -> Result<Response<Bytes>, CallError> {
        loop {
            let (failure, clock_changed) = match self.attempt(draft, authority).await {
                Ok((answer, clock_changed)) => match judge_answer(draft, &answer) {
                    Ok(()) => return Ok(answer),
                    Err(failure) => (failure, clock_changed),
                },
                Err(failure) => (failure, false),
            };
            self.recover(&mut attempts, draft, failure, clock_changed)
                .await?;
        }
    }

    /// Does what has to be done before a call is made again; a failure that is final comes back.
    async fn recover(
        &self,
        attempts: &mut Attempts,
        draft: &Draft<'_>,
        failure: CallError,
        clock_changed: bool,
    ) -> Result<(), CallError> {
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
        Ok(())
    }

    /// One exchange: the answer, whatever its status, and whether it has corrected the clock.
    pub(super) async fn attempt(
        &self,
        draft: &Draft<'_>,
        authority: Authority<'_>,
    ) -> Result<(Response<Bytes>, bool), CallError> {
        let request = self.sign_draft(draft, authority).await?;
        let route = self.shared.route(draft.service, &draft.url);
        let answer = route.exchange(request, draft.timeout).await;
        let answer = answer.map_err(|cause| CallError::Network {
            operation: draft.operation.to_owned(),
            cause,
        })?;
        let clock_changed = self.observe_clock(answer.headers());
        Ok((answer, clock_changed))
    }

    /// Corrects the clock by the date of an answer; tells whether that changed something.
    fn observe_clock(&self, headers: &HeaderMap) -> bool {
        date_of(headers).is_some_and(|date| self.shared.skew.observe(date, SystemTime::now()))
    }

    async fn sign_draft(
        &self,
        draft: &Draft<'_>,
        authority: Authority<'_>,
    ) -> Result<Request<Full<Bytes>>, CallError> {
        let headers: Vec<(&str, &str)> = draft
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let region = draft
            .region
            .unwrap_or_else(|| self.shared.region(draft.service));
        let parts = Parts {
            method: draft.method.as_str(),
            url: &draft.url,
            headers: &headers,
            body: &draft.body,
        };
        let signature = self
            .sign(draft.operation, parts, draft.service, region, authority)
            .await?;
        let mut request = Request::builder()
            .method(&draft.method)
            .uri(draft.url.as_str())
            .header(USER_AGENT, OUR_USER_AGENT);
        for (name, value) in headers {
            request = request.header(name, value);
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
        service: Service,
        region: &str,
        authority: Authority<'_>,
    ) -> Result<HeaderMap, CallError> {
        let scope = |time| Scope {
            service: service.name(),
            region,
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
    if draft.success.contains(&answer.status()) {
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
