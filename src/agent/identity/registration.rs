//! Registering this host with an activation, and forgetting that it is registered.

use std::io;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tracing::{info, warn};

use super::fingerprint;
use super::vault::{Registration, Vault, VaultError};
use crate::aws::{
    Activation, CallError, Client, EndpointError, KEY_TYPE, KeyError, NoCredentials, NodeKey,
    Overrides,
};

/// Age of a key whose date is unknown, as the reference has it: ten years.
const UNKNOWN_KEY_AGE: SignedDuration = SignedDuration::from_hours(24 * 3650);

/// What a person asks for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The activation.
    pub activation: Activation,
    /// The region it was made in.
    pub region: String,
    /// Never compare this host's hardware with what it was at registration.
    pub disable_similarity_check: bool,
}

/// Why this host was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// The region or an endpoint of the configuration.
    #[error("registration has no endpoint")]
    Endpoint(#[from] EndpointError),
    /// No key pair.
    #[error("registration has no key pair")]
    Key(#[from] KeyError),
    /// The vault, before the service was asked.
    #[error("registration information cannot be saved")]
    Vault(#[from] VaultError),
    /// The service refused, or was not reached.
    #[error("the service has not registered this host")]
    Call(#[from] CallError),
    /// The vault, after the service had registered the host.
    #[error("this host is registered as {node_id}, but that cannot be saved")]
    Lost {
        /// The node that now exists in vain.
        node_id: String,
        /// Why.
        #[source]
        cause: VaultError,
    },
}

impl RegistrationError {
    /// The next step for a person, if there is one to name.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Vault(error) | Self::Lost { cause: error, .. } => match error {
                VaultError::Read { cause, .. } | VaultError::Write { cause, .. }
                    if cause.kind() == io::ErrorKind::PermissionDenied =>
                {
                    Some("run it as root, or name a state folder that you may write")
                }
                _ => None,
            },
            Self::Call(error) => match error.code()? {
                "InvalidActivation" | "InvalidActivationId" | "ActivationExpired" => {
                    Some("check code, id and region of the activation, or create a new one")
                }
                _ => None,
            },
            Self::Endpoint(_) => Some("check the region and the endpoints of the configuration"),
            Self::Key(_) => None,
        }
    }
}

/// Registers this host and stores the registration; an older one is replaced, but only once the
/// service has accepted the new one.
///
/// # Errors
/// [`RegistrationError`].
pub async fn register(
    vault: &Vault,
    overrides: &Overrides,
    tls: Arc<rustls::ClientConfig>,
    request: &Request,
) -> Result<Registration, RegistrationError> {
    let endpoints = overrides.resolve(&request.region)?;
    let client = Client::new(endpoints, tls, Arc::new(NoCredentials));
    let key = NodeKey::generate()?;
    let mut registration = Registration {
        private_key: key.private_text()?,
        private_key_type: KEY_TYPE.to_owned(),
        private_key_created: key_date(Timestamp::now()),
        ..Registration::default()
    };
    prove_write_access(vault, &registration)?;
    let fingerprint = fingerprint::current(vault).await?;
    if request.disable_similarity_check {
        fingerprint::disable_comparison(vault)?;
    }

    let node_id = client
        .register_managed_instance(&request.activation, &key.public_text()?, &fingerprint)
        .await?;
    info!(%node_id, region = request.region, "this host is registered");
    registration.node_id = node_id;
    registration.region.clone_from(&request.region);
    let stored = vault
        .store_registration(&registration)
        .and_then(|()| vault.write_notice(&registration));
    stored.map_err(|cause| RegistrationError::Lost {
        node_id: registration.node_id.clone(),
        cause,
    })?;
    Ok(registration)
}

/// Forgets the registration and the fingerprint.
///
/// # Errors
/// [`VaultError`].
pub fn clear(vault: &Vault) -> Result<(), VaultError> {
    fingerprint::clear(vault)?;
    vault.store_registration(&Registration::default())?;
    vault.remove_notice()
}

/// The id that this host is registered as, if it is.
///
/// # Errors
/// [`VaultError`].
pub fn registered_as(vault: &Vault) -> Result<Option<String>, VaultError> {
    let registration = vault.registration()?;
    let id = registration.map(|registration| registration.node_id);
    Ok(id.filter(|id| !id.is_empty()))
}

/// An activation can be used once: that the vault can be written shows before it is spent. The
/// reference overwrites the old registration here, which is lost when the service then refuses.
fn prove_write_access(vault: &Vault, draft: &Registration) -> Result<(), VaultError> {
    let old = match vault.registration() {
        Err(error @ VaultError::Damaged { .. }) => {
            warn!(%error, "the registration is made anew");
            None
        }
        old => old?,
    };
    match old {
        Some(old) if old.is_complete() => vault.store_registration(&old),
        _ => vault.store_registration(draft),
    }
}

/// The date of a key as the vault has it.
pub(super) fn key_date(now: Timestamp) -> String {
    now.strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string()
}

/// How old the key of `registration` is at `now`.
pub(super) fn key_age(registration: &Registration, now: Timestamp) -> SignedDuration {
    // The name of the time zone at the end says nothing that the offset before it does not.
    let date = registration.private_key_created.trim();
    let date = date.rsplit_once(' ').map_or(date, |(date, _zone)| date);
    match Timestamp::strptime("%Y-%m-%d %H:%M:%S%.f %z", date) {
        Ok(created) => now.duration_since(created),
        Err(_) => UNKNOWN_KEY_AGE,
    }
}

#[cfg(test)]
mod tests;
