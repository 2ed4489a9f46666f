//! Instance metadata of EC2: who an instance is, and the credentials that it has.
//!
//! | path below `/latest/` | what it is |
//! |---|---|
//! | `api/token` (PUT) | the token that goes with everything else |
//! | `meta-data/instance-id` | the instance |
//! | `dynamic/instance-identity/document` | region, zone, billing products |
//! | `meta-data/placement/availability-zone-id` | the zone's id |
//! | `meta-data/iam/security-credentials/` | the name of the instance profile's role |
//! | the same with the name | the role's credentials |
//! | `meta-data/identity-credentials/ec2/security-credentials/ec2-instance` | credentials of the instance itself |
//! | `meta-data/network/interfaces/macs/` | its interfaces, and the networks of their VPCs |
//!
//! Only version 2 is spoken, with tokens. No proxy comes between: the address is this host's link.

mod answer;
mod networks;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde::de::DeserializeOwned;
use tracing::{debug, warn};
use url::Url;

use super::credentials::Credentials;
use super::http::{HttpError, Route, Routes};
use super::secret::Secret;
use crate::runtime::backoff::Backoff;
use crate::runtime::proxy;

pub use answer::{Document, Instance};

/// The addresses of the service: those of IPv6-only instances come second.
const ADDRESSES: [&str; 2] = ["http://169.254.169.254/", "http://[fd00:ec2::254]/"];
/// The variables that name others, as in the AWS SDKs.
const ENDPOINT_VARIABLE: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
const MODE_VARIABLE: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE";
const DISABLED_VARIABLE: &str = "AWS_EC2_METADATA_DISABLED";

const TOKEN: &str = "/latest/api/token";
const INSTANCE_ID: &str = "/latest/meta-data/instance-id";
const DOCUMENT: &str = "/latest/dynamic/instance-identity/document";
const REGION: &str = "/latest/meta-data/placement/region";
const ZONE_ID: &str = "/latest/meta-data/placement/availability-zone-id";
const PROFILE: &str = "/latest/meta-data/iam/security-credentials/";
const IDENTITY: &str =
    "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance";

/// Life of a token, the longest there is.
const TOKEN_LIFE: Duration = Duration::from_secs(21_600);
/// A token is replaced this long before its end.
const TOKEN_MARGIN: Duration = Duration::from_secs(300);
/// First wait between attempts.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest wait between attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Where instance metadata are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    urls: Vec<Url>,
    named: bool,
}

impl Places {
    /// The places that variables name of which `lookup` knows the values, else EC2's own.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let is = |variable: &str, value: &str| {
            lookup(variable).is_some_and(|text| text.trim().eq_ignore_ascii_case(value))
        };
        let nowhere = Self {
            urls: Vec::new(),
            named: true,
        };
        if is(DISABLED_VARIABLE, "true") {
            return nowhere;
        }
        let named = lookup(ENDPOINT_VARIABLE).filter(|text| !text.trim().is_empty());
        if let Some(text) = named {
            let url = Url::parse(text.trim()).ok();
            // Whoever named a place does not want this host's own asked.
            let Some(url) = url.filter(|url| url.scheme() == "http" && url.has_host()) else {
                warn!(
                    variable = ENDPOINT_VARIABLE,
                    "it is no http URL, and instance metadata are not used"
                );
                return nowhere;
            };
            return Self {
                urls: vec![url],
                named: true,
            };
        }
        let mut urls: Vec<Url> = ADDRESSES
            .iter()
            .filter_map(|address| Url::parse(address).ok())
            .collect();
        if is(MODE_VARIABLE, "IPv6") {
            urls.reverse();
        }
        Self { urls, named: false }
    }

    /// Whether somebody has decided on them.
    pub fn are_named(&self) -> bool {
        self.named
    }
}

/// How long to wait for an answer, and how often to ask again.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For each answer.
    pub timeout: Duration,
    /// Attempts after the first.
    pub retries: u32,
}

impl Patience {
    /// Where instance metadata are certain to be, if perhaps late.
    pub const CERTAIN: Self = Self {
        timeout: Duration::from_secs(2),
        retries: 3,
    };
    /// Where they probably are not: an address on this host's link answers at once or never.
    pub const DOUBTFUL: Self = Self {
        timeout: Duration::from_millis(500),
        retries: 0,
    };
}

/// Why metadata are not to be had.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The environment says that they shall not be used.
    #[error("the environment says not to use instance metadata")]
    Disabled,
    /// Nobody answers.
    #[error("instance metadata gave no answer")]
    Unreachable(#[source] HttpError),
    /// The service does not want to tell.
    #[error("instance metadata refused {path} with HTTP status {status}")]
    Refused {
        /// What was asked for.
        path: String,
        /// The HTTP status.
        status: u16,
    },
    /// The answer is not what it should be.
    #[error("instance metadata gave an unexpected answer for {path}: {reason}")]
    Malformed {
        /// What was asked for.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The instance has no such credentials.
    #[error("instance metadata gave no credentials: {code}")]
    NoCredentials {
        /// Why, in a word.
        code: String,
    },
}

impl MetadataError {
    /// What the SDKs call an instance without a profile.
    pub const NO_PROFILE: &'static str = "EC2RoleRequestError";

    /// Whether the instance has certainly no usable profile.
    pub fn is_without_profile(&self) -> bool {
        const UNAUTHORIZED: &str = "AssumeRoleUnauthorizedAccess";
        matches!(self, Self::NoCredentials { code } if code == Self::NO_PROFILE || code == UNAUTHORIZED)
    }

    fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            // A token that is no good any more is forgotten, so that the next attempt gets one.
            Self::Refused { status, .. } => matches!(status, 401 | 429 | 500..),
            Self::Disabled | Self::Malformed { .. } | Self::NoCredentials { .. } => false,
        }
    }
}

/// The instance metadata of this host. Clones share the token.
#[derive(Clone)]
pub struct Metadata {
    shared: Arc<Shared>,
    patience: Patience,
}

struct Shared {
    places: Vec<Url>,
    route: Route,
    token: Mutex<Option<Token>>,
}

#[derive(Clone)]
struct Token {
    /// Where it was got, and is good.
    place: Url,
    value: Secret,
    until: Instant,
}

impl Metadata {
    /// Metadata at `places`; `tls` is never used, as they are read without.
    pub fn new(places: &Places, tls: Arc<rustls::ClientConfig>, patience: Patience) -> Self {
        let routes = Routes::new(tls);
        let any = places.urls.first();
        let any = any.cloned().unwrap_or_else(|| {
            Url::parse(ADDRESSES[0]).expect("the address of instance metadata is a URL")
        });
        Self {
            shared: Arc::new(Shared {
                places: places.urls.clone(),
                route: routes.route(&any, &proxy::Settings::default()),
                token: Mutex::new(None),
            }),
            patience,
        }
    }

    /// The same metadata, asked for in another way.
    #[must_use]
    pub fn with_patience(&self, patience: Patience) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            patience,
        }
    }

    /// Who this instance is.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub async fn instance(&self) -> Result<Instance, MetadataError> {
        let id = self.get(INSTANCE_ID).await?;
        let id = answer::checked_id(&id).map_err(|reason| malformed(INSTANCE_ID, &reason))?;
        let document = match self.document().await {
            Err(error) if error.is_not_found() => Document::default(),
            document => document?,
        };
        let region = match document.region.as_str() {
            "" => self.get(REGION).await?.trim().to_owned(),
            region => region.to_owned(),
        };
        let zone_id = match self.get(ZONE_ID).await {
            Err(error) if error.is_not_found() => String::new(),
            zone_id => zone_id?.trim().to_owned(),
        };
        Ok(Instance {
            id,
            region,
            availability_zone: document.availability_zone,
            availability_zone_id: zone_id,
        })
    }

    /// The instance identity document.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub async fn document(&self) -> Result<Document, MetadataError> {
        self.get_json(DOCUMENT).await
    }

    /// The credentials of the instance profile's role.
    ///
    /// # Errors
    /// [`MetadataError`]; [`is_without_profile`](MetadataError::is_without_profile) tells that there
    /// is no role, or none that the instance may take.
    pub async fn profile_credentials(&self) -> Result<Credentials, MetadataError> {
        let without = || MetadataError::NoCredentials {
            code: MetadataError::NO_PROFILE.to_owned(),
        };
        let roles = match self.get(PROFILE).await {
            Err(error) if error.is_not_found() => return Err(without()),
            roles => roles?,
        };
        let role = roles.lines().next().unwrap_or_default().trim();
        if role.is_empty() {
            return Err(without());
        }
        self.credentials(&format!("{PROFILE}{role}")).await
    }

    /// The credentials of the instance itself, which are good for little but Default Host Management.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub async fn identity_credentials(&self) -> Result<Credentials, MetadataError> {
        self.credentials(IDENTITY).await
    }

    async fn credentials(&self, path: &str) -> Result<Credentials, MetadataError> {
        let given: answer::Given = self.get_json(path).await?;
        given
            .into_credentials()
            .map_err(|code| MetadataError::NoCredentials { code })
    }

    async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, MetadataError> {
        let text = self.get(path).await?;
        // The text of the error may hold what was read, which is perhaps a secret.
        let parsed = serde_json::from_str(&text);
        parsed.map_err(|error| malformed(path, &format!("{:?} error", error.classify())))
    }

    /// The text at `path`.
    ///
    /// # Errors
    /// [`MetadataError`].
    async fn get(&self, path: &str) -> Result<String, MetadataError> {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut retries = self.patience.retries;
        loop {
            let error = match self.attempt(path).await {
                Ok(text) => return Ok(text),
                Err(error) => error,
            };
            if retries == 0 || !error.is_transient() {
                return Err(error);
            }
            retries -= 1;
            debug!(%error, "asking instance metadata again");
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    async fn attempt(&self, path: &str) -> Result<String, MetadataError> {
        let token = self.token().await?;
        let header = ("x-aws-ec2-metadata-token", token.value.expose());
        let answer = self
            .exchange(Method::GET, &token.place, path, header)
            .await?;
        match answer.status() {
            StatusCode::OK => text_of(path, answer),
            status => {
                if status == StatusCode::UNAUTHORIZED {
                    self.keep(None);
                }
                Err(refused(path, status))
            }
        }
    }

    /// The token that there is, or another from the first place that answers.
    async fn token(&self) -> Result<Token, MetadataError> {
        let kept = self.shared.token.lock();
        let kept = kept.unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(token) = kept.filter(|token| Instant::now() < token.until) {
            return Ok(token);
        }
        let life = TOKEN_LIFE.as_secs().to_string();
        let header = ("x-aws-ec2-metadata-token-ttl-seconds", life.as_str());
        let mut failure = MetadataError::Disabled;
        for place in &self.shared.places {
            let until = Instant::now() + (TOKEN_LIFE - TOKEN_MARGIN);
            let answer = match self.exchange(Method::PUT, place, TOKEN, header).await {
                Ok(answer) => answer,
                Err(error) => {
                    // What is wrong with the first place is more likely to be of interest.
                    if matches!(failure, MetadataError::Disabled) {
                        failure = error;
                    }
                    continue;
                }
            };
            if answer.status() != StatusCode::OK {
                return Err(refused(TOKEN, answer.status()));
            }
            let token = Token {
                place: place.clone(),
                value: Secret::new(text_of(TOKEN, answer)?.trim()),
                until,
            };
            self.keep(Some(token.clone()));
            return Ok(token);
        }
        Err(failure)
    }

    fn keep(&self, token: Option<Token>) {
        let kept = self.shared.token.lock();
        *kept.unwrap_or_else(PoisonError::into_inner) = token;
    }

    async fn exchange(
        &self,
        method: Method,
        place: &Url,
        path: &str,
        (name, value): (&str, &str),
    ) -> Result<Response<Bytes>, MetadataError> {
        let mut url = place.clone();
        url.set_path(path);
        let request = Request::builder()
            .method(method)
            .uri(url.as_str())
            .header(name, value)
            .body(Full::new(Bytes::new()))
            .map_err(|error| malformed(path, &error.to_string()))?;
        let answer = self.shared.route.exchange(request, self.patience.timeout);
        answer.await.map_err(MetadataError::Unreachable)
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata")
            .field("places", &self.shared.places)
            .finish_non_exhaustive()
    }
}

fn text_of(path: &str, answer: Response<Bytes>) -> Result<String, MetadataError> {
    let text = String::from_utf8(answer.into_body().into());
    text.map_err(|_| malformed(path, "it is no text"))
}

fn refused(path: &str, status: StatusCode) -> MetadataError {
    MetadataError::Refused {
        path: path.to_owned(),
        status: status.as_u16(),
    }
}

fn malformed(path: &str, reason: &str) -> MetadataError {
    MetadataError::Malformed {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests;
