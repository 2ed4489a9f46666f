//! Credentials as the AWS tools find them: environment, profiles, web identity, container, host.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::default_provider::region::DefaultRegionChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_types::service_config::ServiceConfigKey;
use tokio::sync::OnceCell;
use tracing::debug;

use super::Variant;
use super::credentials::{CredentialError, CredentialFuture, CredentialSource, Credentials};

/// Temporary credentials are asked for again this long before they expire.
const REFRESH_BEFORE: Duration = Duration::from_secs(5 * 60);

/// The default chain, read at the first use, with its answer cached until shortly before it expires.
pub struct ChainCredentials {
    profile: Option<String>,
    region: Option<String>,
    provider: OnceCell<SharedCredentialsProvider>,
    cached: Mutex<Option<Credentials>>,
}

impl ChainCredentials {
    /// With a `profile`, that profile alone, as the AWS tools have it for `--profile`: keys in the
    /// environment do not come before it. Else the whole chain. `region` is where roles are assumed.
    pub fn new(profile: Option<&str>, region: Option<&str>) -> Self {
        Self {
            profile: profile.map(str::to_owned),
            region: region.map(str::to_owned),
            provider: OnceCell::new(),
            cached: Mutex::new(None),
        }
    }

    async fn load(&self) -> Result<Credentials, CredentialError> {
        if let Some(credentials) = self.cached(SystemTime::now()) {
            return Ok(credentials);
        }
        let provider = self.provider.get_or_init(|| self.build()).await;
        let credentials = provider.provide_credentials().await.map_err(explain)?;
        debug!(
            access_key_id = credentials.access_key_id(),
            "credentials found in the default chain"
        );
        if credentials.expiry().is_some() {
            self.cache(Some(credentials.clone()));
        }
        Ok(credentials)
    }

    async fn build(&self) -> SharedCredentialsProvider {
        let region = self.region.clone().map(aws_config::Region::new);
        let config = ProviderConfig::without_region().with_region(region.clone());
        if let Some(profile) = &self.profile {
            let provider = ProfileFileCredentialsProvider::builder()
                .configure(&config)
                .profile_name(profile)
                .build();
            return SharedCredentialsProvider::new(provider);
        }
        let mut chain = DefaultCredentialsChain::builder().configure(config);
        if let Some(region) = region {
            chain = chain.region(region);
        }
        SharedCredentialsProvider::new(chain.build().await)
    }

    fn cached(&self, now: SystemTime) -> Option<Credentials> {
        let cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |credentials: &&Credentials| {
            credentials
                .expiry()
                .is_some_and(|expiry| now + REFRESH_BEFORE < expiry)
        };
        cached.as_ref().filter(fresh).cloned()
    }

    fn cache(&self, credentials: Option<Credentials>) {
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = credentials;
    }
}

impl CredentialSource for ChainCredentials {
    fn credentials(&self) -> CredentialFuture<'_> {
        Box::pin(self.load())
    }

    fn refused(&self) {
        self.cache(None);
    }
}

impl fmt::Debug for ChainCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainCredentials")
            .field("profile", &self.profile)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

/// The region that the AWS tools would use for `profile`: environment, profile, instance metadata.
pub async fn default_region(profile: Option<&str>) -> Option<String> {
    let mut builder = DefaultRegionChain::builder();
    if let Some(profile) = profile {
        builder = builder.profile_name(profile);
    }
    let region = builder.build().region().await;
    region.map(|region| region.to_string())
}

/// The endpoint that environment (`AWS_ENDPOINT_URL_KMS`, `AWS_ENDPOINT_URL`) or profile name for a
/// service of AWS, as the AWS tools read them.
pub async fn service_endpoint(
    service: &str,
    profile: Option<&str>,
    region: &str,
) -> Option<String> {
    let config = load(profile, region).await;
    let key = ServiceConfigKey::builder()
        .service_id(service)
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build()
        .ok()?;
    config.service_config()?.load_config(key)
}

/// The variant of endpoints that environment (`AWS_USE_FIPS_ENDPOINT`, `AWS_USE_DUALSTACK_ENDPOINT`) or
/// profile ask for, as the AWS tools read them.
pub async fn endpoint_variant(profile: Option<&str>, region: &str) -> Variant {
    let config = load(profile, region).await;
    Variant {
        fips: config.use_fips().unwrap_or(false),
        dual_stack: config.use_dual_stack().unwrap_or(false),
    }
}

async fn load(profile: Option<&str>, region: &str) -> SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(aws_config::Region::new(region.to_owned()))
        .no_credentials();
    if let Some(profile) = profile {
        loader = loader.profile_name(profile);
    }
    loader.load().await
}

fn explain(error: CredentialsError) -> CredentialError {
    match error {
        CredentialsError::CredentialsNotLoaded(_) => CredentialError::NotFound,
        error => CredentialError::unavailable("the default credential chain", error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expiring(in_seconds: u64) -> Credentials {
        let expiry = SystemTime::UNIX_EPOCH + Duration::from_secs(in_seconds);
        Credentials::new("AKID", "secret", None, Some(expiry), "test")
    }

    #[test]
    fn temporary_credentials_are_cached_until_shortly_before_they_expire() {
        let chain = ChainCredentials::new(None, None);
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);

        chain.cache(Some(expiring(1000)));

        assert!(chain.cached(at(699)).is_some());
        assert!(chain.cached(at(700)).is_none());
    }

    #[test]
    fn refused_credentials_are_not_given_again() {
        let chain = ChainCredentials::new(None, None);
        chain.cache(Some(expiring(u64::from(u32::MAX))));

        chain.refused();

        assert!(chain.cached(SystemTime::now()).is_none());
    }

    #[tokio::test]
    async fn profile_that_does_not_exist_is_an_error() {
        let chain = ChainCredentials::new(Some("no such profile exists"), Some("eu-west-1"));

        assert!(chain.credentials().await.is_err());
    }
}
