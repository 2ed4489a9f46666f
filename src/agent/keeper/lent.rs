//! The keeper's credentials: the agent lends it those that it has. A keeper whose agent stays away
//! until they expire gets its own, as the agent would.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Mutex, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::info;

use crate::agent::identity;
use crate::aws::{Client, CredentialError, CredentialFuture, CredentialSource, Credentials};

/// Credentials that expire within this time are not used any more.
const MARGIN: Duration = Duration::from_secs(30);

/// Lent credentials.
pub(super) struct Lent {
    current: watch::Sender<Option<Credentials>>,
    settings: identity::Settings,
    tls: Arc<rustls::ClientConfig>,
    own: Mutex<Option<Own>>,
}

/// What a keeper uses that was left alone.
struct Own {
    client: Client,
    /// Ends what keeps them fresh.
    _upkeep: DropGuard,
}

impl Lent {
    /// Without any credentials yet. `settings` say who this host is.
    pub(super) fn new(settings: identity::Settings, tls: Arc<rustls::ClientConfig>) -> Self {
        Self {
            current: watch::Sender::new(None),
            settings: identity::Settings {
                // Both are the agent's business.
                share: None,
                rotate_key_after: None,
                ..settings
            },
            tls,
            own: Mutex::new(None),
        }
    }

    /// The agent lends these.
    pub(super) fn lend(&self, credentials: Credentials) {
        self.current.send_replace(Some(credentials));
    }

    async fn get(&self) -> Result<Credentials, CredentialError> {
        let mut own = self.own.lock().await;
        let lent = self.current.borrow().clone();
        if let Some(lent) = lent.filter(is_fresh) {
            *own = None;
            return Ok(lent);
        }
        let client = match &*own {
            Some(own) => own.client.clone(),
            None => own.insert(self.open().await?).client.clone(),
        };
        drop(own);
        client.credentials().await
    }

    async fn open(&self) -> Result<Own, CredentialError> {
        info!("the agent lends no credentials that are still good, getting some");
        let cancel = CancellationToken::new();
        let opened = identity::open(&self.settings, &self.tls, cancel.clone()).await;
        let (identity, upkeep) =
            opened.map_err(|error| CredentialError::unavailable("identity", error))?;
        tokio::spawn(upkeep);
        Ok(Own {
            client: identity.client().clone(),
            _upkeep: cancel.drop_guard(),
        })
    }
}

impl CredentialSource for Lent {
    fn credentials(&self) -> CredentialFuture<'_> {
        Box::pin(self.get())
    }

    fn refused(&self) {
        self.current.send_replace(None);
    }
}

fn is_fresh(credentials: &Credentials) -> bool {
    let Some(expiry) = credentials.expiry() else {
        return true;
    };
    expiry > SystemTime::now() + MARGIN
}
