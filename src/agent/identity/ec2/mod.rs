//! An EC2 instance: who it is, and its credentials.
//!
//! ```text
//!  instance profile --> short report accepted? --yes--> its credentials, looked at every half hour
//!                        | access denied, or no profile
//!                        v
//!  Default Host Management: key registered with the instance's own credentials --> role token
//! ```
//!
//! Unlike the reference, which registers every instance at its start, an instance is registered only
//! when its profile turns out not to do.

mod default_host;
mod machine;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tracing::{debug, info, warn};

use super::refresh::{self, Fetched, Provider, Refreshed, Refresher};
use super::runtime_config::{RuntimeConfig, Source};
use super::share;
use super::vault::Vault;
use crate::aws::metadata::{Instance, Metadata, MetadataError, Patience, Places};
use crate::aws::{CallError, Client, Credentials, StaticCredentials};
use default_host::{DefaultHost, DefaultHostError};
use machine::Machine;

/// Credentials of a profile are looked at this often: another profile may be attached meanwhile.
const LOOK_AFTER: Duration = Duration::from_secs(30 * 60);
/// How long credentials last that do not say so.
const ASSUMED_LIFE: Duration = Duration::from_secs(3600);
/// The file with the credentials of Default Host Management, in the state folder.
const SHARED_FILE: &str = "credentials";

/// What the look for an instance depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where instance metadata are.
    pub places: Places,
    /// `Identity.Ec2SystemInfoDetectionResponse`: whether this is an instance, if somebody knows
    /// better than its firmware.
    pub is_instance: Option<bool>,
}

impl Settings {
    /// How long metadata are waited for. An instance has some; what is certainly none may have a
    /// stand-in for them.
    pub(super) fn patience(&self) -> Patience {
        let machine = Machine::of_this_host();
        match self.is_instance {
            Some(true) => Patience::CERTAIN,
            Some(false) => Patience::DOUBTFUL,
            None if self.places.are_named() || machine == Machine::Instance => Patience::CERTAIN,
            None => Patience::DOUBTFUL,
        }
    }

    /// Whether it is worth the time to look again.
    pub(super) fn is_certain(&self) -> bool {
        self.patience().retries > 0
    }
}

/// Why an instance has no credentials.
#[derive(Debug, thiserror::Error)]
pub(super) enum InstanceError {
    #[error("the instance profile is of no use")]
    Metadata(#[source] MetadataError),
    #[error("the credentials of the instance profile are not accepted")]
    Refused(#[source] CallError),
    #[error("neither the instance profile is of use ({profile}), nor Default Host Management")]
    Neither {
        /// What is wrong with the profile.
        profile: String,
        /// What is wrong with the rest.
        #[source]
        cause: DefaultHostError,
    },
}

impl InstanceError {
    /// Whether somebody may have meant the instance to have no profile of use.
    fn calls_for_default_host(&self) -> bool {
        match self {
            Self::Metadata(error) => error.is_without_profile(),
            Self::Refused(error) => error.is_denied(),
            Self::Neither { .. } => false,
        }
    }
}

/// Asks instance metadata, or Systems Manager in their stead.
pub(super) struct InstanceProvider {
    state: PathBuf,
    client: Client,
    metadata: Metadata,
    instance: Instance,
    default_host: DefaultHost,
    /// Where the credentials in use come from; what changes is told.
    source: Option<Source>,
}

/// The credentials of `instance`, and what keeps them fresh. `client` needs no credentials of its own.
pub(super) fn open(
    state: PathBuf,
    client: Client,
    metadata: &Metadata,
    instance: Instance,
) -> (Refreshed, Refresher<InstanceProvider>) {
    let provider = InstanceProvider {
        default_host: DefaultHost::new(Vault::new(&state), client.clone(), &instance),
        state,
        client: client.clone(),
        metadata: metadata.with_patience(Patience::CERTAIN),
        instance,
        source: None,
    };
    refresh::open(client, provider)
}

impl Provider for InstanceProvider {
    const SOURCE: &'static str = "the EC2 instance";
    type Error = InstanceError;

    async fn fetch(&mut self) -> Result<Fetched, InstanceError> {
        let profile = match self.by_profile().await {
            Ok(fetched) => {
                self.use_source(Source::Profile);
                return Ok(fetched);
            }
            Err(error) if error.calls_for_default_host() => error,
            Err(error) => return Err(error),
        };
        debug!(
            error = &profile as &dyn std::error::Error,
            "trying Default Host Management"
        );
        let fetched = self.default_host.fetch(&self.metadata).await;
        let fetched = fetched.map_err(|cause| InstanceError::Neither {
            profile: crate::runtime::cause::in_one_line(&profile),
            cause,
        })?;
        self.use_source(Source::Service);
        Ok(fetched)
    }

    async fn settle(&mut self, fetched: &Fetched) {
        let (state, id) = (self.state.clone(), self.instance.id.clone());
        let (source, fetched) = (self.source, fetched.clone());
        let written = tokio::task::spawn_blocking(move || {
            record_files(&state, &id, source.unwrap_or(Source::Profile), &fetched);
        });
        if written.await.is_err() {
            warn!("the credentials were not written to files");
        }
    }
}

impl InstanceProvider {
    async fn by_profile(&self) -> Result<Fetched, InstanceError> {
        let credentials = self.metadata.profile_credentials().await;
        let credentials = credentials.map_err(InstanceError::Metadata)?;
        self.signing_with(&credentials)
            .report_presence(&self.instance.id)
            .await
            .map_err(InstanceError::Refused)?;
        let retrieved = self.client.now();
        let expires = credentials.expiry().unwrap_or(retrieved + ASSUMED_LIFE);
        let fetched = Fetched::new(credentials, retrieved, expires);
        Ok(Fetched {
            renew_after: fetched.renew_after.min(LOOK_AFTER),
            ..fetched
        })
    }

    fn signing_with(&self, credentials: &Credentials) -> Client {
        let credentials = StaticCredentials::from(credentials.clone());
        self.client
            .with_credentials(std::sync::Arc::new(credentials))
    }

    fn use_source(&mut self, source: Source) {
        if self.source.replace(source) == Some(source) {
            return;
        }
        match source {
            Source::Profile => info!("the credentials of the instance profile are used"),
            Source::Service => info!("the credentials of Default Host Management are used"),
        }
    }
}

/// Writes the files that others read. Credentials of the profile are in the metadata for everybody.
fn record_files(state: &std::path::Path, id: &str, source: Source, fetched: &Fetched) {
    let file = share::Settings {
        file: state.join(SHARED_FILE),
        profile: String::new(),
        // It is the agent's own file.
        force: true,
    };
    let share = match source {
        Source::Profile => None,
        Source::Service => match file.store(&fetched.credentials) {
            Ok(()) => Some((file.file.as_path(), "")),
            Err(error) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "the instance's credentials are not shared"
                );
                None
            }
        },
    };
    let expires: SystemTime = fetched.expires;
    let written = RuntimeConfig::new(id, super::Kind::Ec2.name())
        .with_credentials(source, fetched.retrieved, expires, share)
        .write(state);
    if let Err(error) = written {
        warn!(%error, "the runtime configuration is not updated");
    }
}

#[cfg(test)]
mod tests;
