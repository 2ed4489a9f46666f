//! Where the keys that sign calls come from.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub use aws_credential_types::Credentials;

/// A source of credentials, asked before every signature: it caches what is costly to get.
pub trait CredentialSource: Send + Sync + 'static {
    /// Credentials that are valid now.
    fn credentials(&self) -> CredentialFuture<'_>;

    /// Told that the service refused the last credentials, so that cached ones are not given again.
    fn refused(&self) {}
}

/// What [`CredentialSource::credentials`] returns.
pub type CredentialFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Credentials, CredentialError>> + Send + 'a>>;

/// Why there are no credentials.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CredentialError {
    /// Nothing that was looked at has any.
    #[error(
        "no AWS credentials were found in the environment, the profile files or the metadata services"
    )]
    NotFound,
    /// The source has some but could not give them.
    #[error("{source_name} gave no credentials")]
    Unavailable {
        /// The source.
        source_name: &'static str,
        /// What went wrong there.
        #[source]
        cause: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The task that refreshes them has ended.
    #[error("the agent is shutting down and refreshes no more credentials")]
    Stopped,
}

impl CredentialError {
    /// `source_name` failed because of `cause`.
    pub fn unavailable(
        source_name: &'static str,
        cause: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::Unavailable {
            source_name,
            cause: Arc::new(cause),
        }
    }
}

/// Credentials that never change.
#[derive(Clone)]
pub struct StaticCredentials(Credentials);

impl StaticCredentials {
    /// An access key, and the session token that temporary ones come with.
    pub fn new(access_key_id: &str, secret_access_key: &str, session_token: Option<&str>) -> Self {
        Self(Credentials::new(
            access_key_id,
            secret_access_key,
            session_token.map(str::to_owned),
            None,
            "static",
        ))
    }
}

impl From<Credentials> for StaticCredentials {
    fn from(credentials: Credentials) -> Self {
        Self(credentials)
    }
}

impl CredentialSource for StaticCredentials {
    fn credentials(&self) -> CredentialFuture<'_> {
        Box::pin(async { Ok(self.0.clone()) })
    }
}

impl fmt::Debug for StaticCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticCredentials")
            .field("access_key_id", &self.0.access_key_id())
            .finish_non_exhaustive()
    }
}

/// No credentials at all: for a client that only makes unsigned calls, or signs with a node's key.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCredentials;

impl CredentialSource for NoCredentials {
    fn credentials(&self) -> CredentialFuture<'_> {
        Box::pin(async { Err(CredentialError::NotFound) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn static_credentials_are_given_as_they_are() {
        let source = StaticCredentials::new("AKID", "secret", Some("token"));

        let credentials = source.credentials().await.unwrap();

        assert_eq!(credentials.access_key_id(), "AKID");
        assert_eq!(credentials.secret_access_key(), "secret");
        assert_eq!(credentials.session_token(), Some("token"));
    }

    #[test]
    fn secrets_never_show_in_debug_output() {
        let source = StaticCredentials::new("AKID", "very-secret", Some("token-text"));

        let shown = format!("{source:?} {:?}", source.0);

        assert!(!shown.contains("very-secret") && !shown.contains("token-text"));
    }
}
