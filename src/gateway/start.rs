//! Starting a gateway: opens its store, listeners, certificate and broker, and joins them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::info;
use url::Url;

use super::api::signature::Verifier;
use super::api::{self, ApiState};
use super::attachments::Attachments;
use super::broker::{self, Broker, BrokerError};
use super::certificate::{CertificateError, Certificates, Names};
use super::config::{ConfigError, Settings};
use super::recordings::Recordings;
use super::server::Server;
use super::store::access::{AccessError, AccessKey};
use super::store::activations::{IssuedActivation, NewActivation};
use super::store::{Store, StoreError};

/// The database, relative to the state folder.
const DATABASE: &str = "gateway.db";

/// A gateway that listens.
#[derive(Clone)]
pub struct Running {
    /// How agents and clients reach it.
    pub url: Url,
    /// How programs on this host reach it without TLS.
    pub plain_url: Option<Url>,
    /// Certificate of its own authority, for those who shall trust it; none if its certificate was given.
    pub ca_pem: Option<Vec<u8>>,
    store: Store,
    broker: Broker,
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store cannot be used.
    #[error("cannot open the gateway's state")]
    Store(#[from] StoreError),
    /// There is no certificate to show.
    #[error("cannot set up TLS")]
    Certificate(#[from] CertificateError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The broker cannot pick up its sessions.
    #[error("cannot start the broker")]
    Broker(#[from] BrokerError),
}

/// Starts a gateway. It listens when this returns; the future serves until `cancel` and has to be
/// run by the caller.
///
/// # Errors
/// [`StartError`].
pub async fn start(
    settings: Settings,
    cancel: CancellationToken,
) -> Result<(Running, impl Future<Output = ()> + Send + 'static), StartError> {
    settings.check()?;
    let recording_settings = settings.recordings();
    let store = open_store(&settings.state)?;
    let (listener, address) = listen(settings.listen).await?;
    let url = settings
        .public_url
        .clone()
        .unwrap_or_else(|| default_url("https", address));
    let names = Names {
        public: url
            .host_str()
            .map(|host| host.trim_matches(['[', ']']).to_owned()),
        listen: address.ip(),
    };
    let certificates = Certificates::open(settings.certificate, &settings.state, names)?;
    let acceptor = TlsAcceptor::from(certificates.server_config()?);
    let broker_settings = broker::Settings {
        grace: settings.grace,
        ..broker::Settings::new(websocket_base(&url))
    };
    let (broker, timers) = Broker::new(store.clone(), broker_settings, cancel.clone()).await?;
    let (recordings, sweeping) =
        Recordings::new(store.clone(), recording_settings, cancel.clone()).await?;
    let router = api::router(ApiState {
        store: store.clone(),
        broker: broker.clone(),
        recordings,
        attachments: Attachments::new(&settings.state, url.clone()),
        verifier: Verifier::new(store.clone()),
        cancel: cancel.clone(),
    });
    let places = Arc::new(Semaphore::new(settings.connections));
    let server = Server::tls(listener, acceptor, router.clone(), Arc::clone(&places));
    let (plain_url, plain) = match settings.plain_listen {
        None => (None, None),
        Some(address) => {
            let (listener, address) = listen(address).await?;
            let server = Server::plain(listener, address, router, places);
            (Some(default_url("http", address)), Some(server))
        }
    };
    info!(%url, plain_url = plain_url.as_ref().map(Url::as_str), "gateway listens");
    let running = Running {
        url,
        plain_url,
        ca_pem: certificates.ca_pem().map(|pem| pem.as_bytes().to_vec()),
        store,
        broker,
    };
    let serving = async move {
        let plain = async {
            if let Some(server) = plain {
                server.run(cancel.clone()).await;
            }
        };
        let fresh = certificates.keep_fresh(cancel.clone());
        tokio::join!(server.run(cancel.clone()), plain, fresh, timers, sweeping);
        info!("gateway stopped");
    };
    Ok((running, serving))
}

/// Opens the store of the state folder `state`.
///
/// # Errors
/// [`StoreError`].
pub(super) fn open_store(state: &Path) -> Result<Store, StoreError> {
    Store::open(&state.join(DATABASE))
}

/// Whether the state folder `state` has a store.
pub(super) fn has_store(state: &Path) -> bool {
    state.join(DATABASE).exists()
}

impl Running {
    /// Makes a key pair for the person `name`.
    ///
    /// # Errors
    /// [`AccessError`].
    pub async fn create_access(&self, name: &str) -> Result<AccessKey, AccessError> {
        let now = SystemTime::now();
        self.store.create_access_key(name, None, now).await
    }

    /// Makes an activation.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn create_activation(
        &self,
        new: NewActivation,
    ) -> Result<IssuedActivation, StoreError> {
        self.store.create_activation(new, SystemTime::now()).await
    }

    /// The gateway's memory.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Whether the agent of a node is connected.
    pub fn is_connected(&self, node_id: &str) -> bool {
        self.broker.is_connected(node_id)
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// The URL of a listener on `address`: if that is every address of this host, by the host's name.
fn default_url(scheme: &str, address: SocketAddr) -> Url {
    let name = nix::unistd::gethostname().ok();
    let name = name.and_then(|name| name.into_string().ok());
    let by_name = name
        .filter(|_| address.ip().is_unspecified())
        .and_then(|name| Url::parse(&format!("{scheme}://{name}:{}", address.port())).ok());
    by_name.unwrap_or_else(|| {
        let address = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => {
                SocketAddr::from(([127, 0, 0, 1], address.port()))
            }
            _ => address,
        };
        Url::parse(&format!("{scheme}://{address}")).expect("an address and port make a host")
    })
}

/// `https` to `wss`.
fn websocket_base(url: &Url) -> Url {
    let text = url.as_str().replacen("https", "wss", 1);
    Url::parse(&text).expect("only the scheme was changed, and both are special")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_urls_are_on_the_public_host_and_port() {
        for (public, base) in [
            ("https://gw.example/", "wss://gw.example/"),
            ("https://127.0.0.1:8443", "wss://127.0.0.1:8443/"),
            ("https://https.example", "wss://https.example/"),
        ] {
            assert_eq!(websocket_base(&public.parse().unwrap()).as_str(), base);
        }
    }

    #[test]
    fn default_url_is_the_address_listened_on() {
        let url = default_url("https", "[::1]:8443".parse().unwrap());

        assert_eq!(url.as_str(), "https://[::1]:8443/");
        assert_eq!(
            default_url("https", "0.0.0.0:8443".parse().unwrap()).port(),
            Some(8443)
        );
    }

    #[tokio::test]
    async fn address_in_use_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = Settings {
            listen: taken.local_addr().unwrap(),
            ..Settings::on_loopback(folder.path())
        };

        let error = start(settings, CancellationToken::new())
            .await
            .err()
            .unwrap();

        assert!(
            error.to_string().starts_with("cannot listen on 127.0.0.1:"),
            "{error}"
        );
    }
}
