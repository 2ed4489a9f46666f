//! The choice among the identities that a host may have.

use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::custom::{CustomIdentity, first_usable};
use super::runtime_config::RuntimeConfig;
use super::vault::{Registration, Vault, VaultError};
use super::{ec2, onprem, share};
use crate::aws::metadata::{Instance, Metadata};
use crate::aws::{ChainCredentials, Client, EndpointError, KeyError, NoCredentials, Overrides};
use crate::runtime::cause::in_one_line;

/// How often identities are looked for on a host that may be an instance whose network is late.
const LOOKS: u32 = 3;
/// The wait between two looks.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
/// Longest node id that is used as a path component whole.
const MAX_PATH_ID: usize = 64;

/// A kind of identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Registered with an activation; the vault knows.
    OnPrem,
    /// An EC2 instance; instance metadata knows.
    Ec2,
    /// A container; the task metadata endpoint knows.
    Ecs,
    /// Stated by the configuration.
    Custom,
}

impl Kind {
    /// The order in which identities are looked for when the configuration names none.
    pub const DEFAULT_ORDER: [Self; 3] = [Self::OnPrem, Self::Ec2, Self::Custom];

    /// Its name in the configuration and in the runtime configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::OnPrem => "OnPrem",
            Self::Ec2 => "EC2",
            Self::Ecs => "ECS",
            Self::Custom => "CustomIdentity",
        }
    }

    /// The kind of that name, in exactly that spelling.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::OnPrem, Self::Ec2, Self::Ecs, Self::Custom];
        all.into_iter().find(|kind| kind.name() == name)
    }
}

/// What the choice depends on.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The state folder.
    pub state: PathBuf,
    /// The kinds to look for, in this order.
    pub order: Vec<Kind>,
    /// Identities that the configuration states.
    pub custom: Vec<CustomIdentity>,
    /// How an EC2 instance is looked for.
    pub ec2: ec2::Settings,
    /// Endpoints.
    pub overrides: Overrides,
    /// Where the credentials of a registered node are shared, if they are.
    pub share: Option<share::Settings>,
    /// The age at which a registered node changes its key, if it does by itself.
    pub rotate_key_after: Option<SignedDuration>,
}

/// Who this host is.
#[derive(Debug, Clone)]
pub struct Identity {
    kind: Kind,
    node_id: String,
    region: String,
    instance: Option<(Instance, Metadata)>,
    client: Client,
}

impl Identity {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The node's whole id, as URLs and requests have it.
    pub fn node_id(&self) -> &str {
        &self.node_id
    }

    /// The node's id as paths have it: of an id longer than 64 characters, what follows its last
    /// underscore.
    pub fn short_id(&self) -> &str {
        if self.node_id.chars().count() <= MAX_PATH_ID {
            return &self.node_id;
        }
        self.node_id.rsplit('_').next().unwrap_or(&self.node_id)
    }

    /// The node's region.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The EC2 instance that it is, if it is one.
    pub fn instance(&self) -> Option<&Instance> {
        self.instance.as_ref().map(|(instance, _)| instance)
    }

    /// The metadata of that instance.
    pub fn metadata(&self) -> Option<&Metadata> {
        self.instance.as_ref().map(|(_, metadata)| metadata)
    }

    /// A client that signs as this node.
    pub fn client(&self) -> &Client {
        &self.client
    }
}

/// What keeps an identity's credentials fresh until it is cancelled.
pub type Upkeep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Why this host has no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// None of the kinds is there.
    #[error("this host has no identity: {}", Looked(.0))]
    NotFound(Vec<Missing>),
    /// The vault has a registration that cannot be read.
    #[error("the registration cannot be read")]
    Vault(#[from] VaultError),
    /// The key in the vault cannot be used.
    #[error("the registration in {} has no usable key", .vault.display())]
    Key {
        /// The vault's folder.
        vault: PathBuf,
        /// What is wrong.
        #[source]
        cause: KeyError,
    },
    /// Region or endpoints.
    #[error("the {} identity has no endpoints", .kind.name())]
    Endpoint {
        /// The identity.
        kind: Kind,
        /// What is wrong.
        #[source]
        cause: EndpointError,
    },
}

impl IdentityError {
    /// The next step for a person.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotFound(_) => {
                "register this host with `ssm-agent register --code CODE --id ID --region REGION`; on EC2, let it reach the instance metadata"
            }
            Self::Vault(_) => "run the agent as the user who registered this host",
            Self::Key { .. } => "register this host again with `ssm-agent register`",
            Self::Endpoint { .. } => "check the region and the endpoints of the configuration",
        }
    }
}

/// A kind that was looked for in vain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The kind.
    pub kind: Kind,
    /// What was looked at, and what was wrong with it.
    pub reason: String,
}

struct Looked<'a>(&'a [Missing]);

impl fmt::Display for Looked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Missing { kind, reason }) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { "; " };
            write!(f, "{separator}{}: {reason}", kind.name())?;
        }
        Ok(())
    }
}

/// Finds the identity of this host. The returned [`Upkeep`] has to run for its credentials to come
/// and stay fresh; it ends with `cancel`.
///
/// # Errors
/// [`IdentityError`].
pub async fn open(
    settings: &Settings,
    tls: &Arc<rustls::ClientConfig>,
    cancel: CancellationToken,
) -> Result<(Identity, Upkeep), IdentityError> {
    match look(settings, tls).await? {
        Found::OnPrem(vault, registration) => on_prem(settings, tls, vault, *registration, cancel),
        Found::Ec2(metadata, instance) => on_ec2(settings, tls, metadata, instance, cancel),
        Found::Custom(entry) => custom(settings, tls, entry),
    }
}

/// Looks for an identity, and again where one may come up late.
async fn look<'a>(
    settings: &'a Settings,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<Found<'a>, IdentityError> {
    let again = settings.order.contains(&Kind::Ec2) && settings.ec2.is_certain();
    let looks = if again { LOOKS } else { 1 };
    for _ in 1..looks {
        match find(settings, tls).await {
            Err(IdentityError::NotFound(_)) => tokio::time::sleep(BETWEEN_LOOKS).await,
            found => return found,
        }
    }
    find(settings, tls).await
}

/// Who this host would be if its agent started now. Nothing is written, and nobody is asked but
/// instance metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// How that is known.
    pub kind: Kind,
    /// The node's whole id.
    pub node_id: String,
    /// The node's region.
    pub region: String,
}

/// Finds who this host is. `tls` is for none of it, but clients have to have one.
///
/// # Errors
/// [`IdentityError::NotFound`] or [`IdentityError::Vault`].
pub async fn who(
    settings: &Settings,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<Who, IdentityError> {
    Ok(match find(settings, tls).await? {
        Found::OnPrem(_, registration) => Who {
            kind: Kind::OnPrem,
            node_id: registration.node_id,
            region: registration.region,
        },
        Found::Ec2(_, instance) => Who {
            kind: Kind::Ec2,
            node_id: instance.id,
            region: instance.region,
        },
        Found::Custom(entry) => Who {
            kind: Kind::Custom,
            node_id: entry.node_id.clone(),
            region: entry.region.clone(),
        },
    })
}

/// The region of an identity for which nobody has to be asked, if there is one.
pub fn known_region(settings: &Settings) -> Option<String> {
    settings.order.iter().find_map(|kind| match kind {
        Kind::OnPrem => {
            let registration = Vault::new(&settings.state).registration().ok()??;
            registration.is_complete().then_some(registration.region)
        }
        Kind::Custom => first_usable(&settings.custom).map(|entry| entry.region.clone()),
        Kind::Ec2 | Kind::Ecs => None,
    })
}

/// An identity that is there.
enum Found<'a> {
    OnPrem(Vault, Box<Registration>),
    Ec2(Metadata, Instance),
    Custom(&'a CustomIdentity),
}

async fn find<'a>(
    settings: &'a Settings,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<Found<'a>, IdentityError> {
    let mut missing = Vec::new();
    for &kind in &settings.order {
        let reason = match kind {
            Kind::OnPrem => {
                let vault = Vault::new(&settings.state);
                match vault.registration()?.filter(Registration::is_complete) {
                    Some(registration) => return Ok(Found::OnPrem(vault, Box::new(registration))),
                    None => format!("no registration in {}", vault.folder().display()),
                }
            }
            Kind::Custom => match first_usable(&settings.custom) {
                Some(entry) => return Ok(Found::Custom(entry)),
                None => "none in the configuration has an instance id and a region".to_owned(),
            },
            Kind::Ec2 => {
                let ec2 = &settings.ec2;
                let metadata = Metadata::new(&ec2.places, Arc::clone(tls), ec2.patience());
                match metadata.instance().await {
                    Ok(instance) => return Ok(Found::Ec2(metadata, instance)),
                    Err(error) => in_one_line(&error),
                }
            }
            Kind::Ecs => "not supported by this version".to_owned(),
        };
        debug!(kind = kind.name(), reason, "identity is not there");
        missing.push(Missing { kind, reason });
    }
    Err(IdentityError::NotFound(missing))
}

fn on_prem(
    settings: &Settings,
    tls: &Arc<rustls::ClientConfig>,
    vault: Vault,
    registration: Registration,
    cancel: CancellationToken,
) -> Result<(Identity, Upkeep), IdentityError> {
    let kind = Kind::OnPrem;
    let node_id = registration.node_id.clone();
    let region = registration.region.clone();
    let client = client(settings, tls, kind, &region)?;
    let folder = vault.folder();
    let upkeep = onprem::Settings {
        state: settings.state.clone(),
        share: settings.share.clone(),
        rotate_after: settings.rotate_key_after,
    };
    let (credentials, refresher) = onprem::open(upkeep, client.clone(), vault, registration)
        .map_err(|cause| IdentityError::Key {
            vault: folder,
            cause,
        })?;
    info!(kind = kind.name(), %node_id, region, "this host has an identity");
    let identity = Identity {
        kind,
        node_id,
        region,
        instance: None,
        client: client.with_credentials(Arc::new(credentials)),
    };
    Ok((identity, Box::pin(refresher.run(cancel))))
}

fn on_ec2(
    settings: &Settings,
    tls: &Arc<rustls::ClientConfig>,
    metadata: Metadata,
    instance: Instance,
    cancel: CancellationToken,
) -> Result<(Identity, Upkeep), IdentityError> {
    let kind = Kind::Ec2;
    let (node_id, region) = (instance.id.clone(), instance.region.clone());
    let client = client(settings, tls, kind, &region)?;
    let state = settings.state.clone();
    let (credentials, refresher) = ec2::open(state, client.clone(), &metadata, instance.clone());
    info!(kind = kind.name(), %node_id, region, "this host has an identity");
    let identity = Identity {
        kind,
        node_id,
        region,
        instance: Some((instance, metadata)),
        client: client.with_credentials(Arc::new(credentials)),
    };
    Ok((identity, Box::pin(refresher.run(cancel))))
}

fn custom(
    settings: &Settings,
    tls: &Arc<rustls::ClientConfig>,
    entry: &CustomIdentity,
) -> Result<(Identity, Upkeep), IdentityError> {
    let kind = Kind::Custom;
    let CustomIdentity {
        node_id, region, ..
    } = entry.clone();
    let credentials = ChainCredentials::new(None, Some(&region));
    let client = client(settings, tls, kind, &region)?.with_credentials(Arc::new(credentials));
    if let Err(error) = RuntimeConfig::new(&node_id, kind.name()).write(&settings.state) {
        warn!(%error, "the runtime configuration is not updated");
    }
    info!(kind = kind.name(), %node_id, region, "this host has an identity");
    let identity = Identity {
        kind,
        node_id,
        region,
        instance: None,
        client,
    };
    // The chain renews its credentials when they are asked for.
    Ok((identity, Box::pin(std::future::ready(()))))
}

fn client(
    settings: &Settings,
    tls: &Arc<rustls::ClientConfig>,
    kind: Kind,
    region: &str,
) -> Result<Client, IdentityError> {
    let endpoints = settings
        .overrides
        .resolve(region)
        .map_err(|cause| IdentityError::Endpoint { kind, cause })?;
    Ok(Client::new(
        endpoints,
        Arc::clone(tls),
        Arc::new(NoCredentials),
    ))
}

#[cfg(test)]
mod tests;
