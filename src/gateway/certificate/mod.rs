//! The certificate the gateway shows: one it makes itself, or one it is given.
//!
//! Its own is signed by an authority of its own, whose certificate lies in `ca.pem` of the state
//! folder for `SSL_CERT_FILE` and `AWS_CA_BUNDLE`. The server's certificate is never stored: it is made at
//! start and again twice a day, so it neither expires nor misses a new address of the host. A given
//! one is read again when its file changes.

mod authority;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::runtime::tls;
use authority::Authority;

/// How often an own certificate is made anew; it is valid for much longer.
const REMAKE_EVERY: Duration = Duration::from_secs(12 * 3600);
/// How often a given certificate's files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Where the certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateSource {
    /// The gateway makes it.
    Own,
    /// It is given in PEM files.
    Files {
        /// The certificate and those between it and its root.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
}

/// Why there is no certificate to show.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read or written.
    #[error("cannot use {path}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A file is not the PEM it should be.
    #[error("{path} holds no usable PEM", path = path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// Certificate and key do not fit, or are of a kind that cannot be used.
    #[error("the certificate cannot be used with its key")]
    Unusable(#[from] rustls::Error),
    /// The own certificate could not be made.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
}

/// The certificate in use and how it is kept fresh.
pub(super) struct Certificates {
    current: Arc<Current>,
    maker: Maker,
}

enum Maker {
    Own {
        authority: Box<Authority>,
        names: Names,
    },
    Files {
        certificate: PathBuf,
        key: PathBuf,
        seen: Option<SystemTime>,
    },
}

/// What the own certificate is valid for.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// Host of the public URL.
    pub(super) public: Option<String>,
    /// Address of the listener.
    pub(super) listen: IpAddr,
}

impl Certificates {
    /// Makes or reads the certificate.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub(super) fn open(
        source: CertificateSource,
        state: &Path,
        names: Names,
    ) -> Result<Self, CertificateError> {
        let mut maker = match source {
            CertificateSource::Own => Maker::Own {
                authority: Box::new(Authority::open(state)?),
                names,
            },
            CertificateSource::Files { certificate, key } => Maker::Files {
                certificate,
                key,
                seen: None,
            },
        };
        let first = maker
            .make()?
            .expect("nothing has been read yet, so something is");
        Ok(Self {
            current: Arc::new(Current(RwLock::new(Arc::new(first)))),
            maker,
        })
    }

    /// The own authority's certificate.
    pub(super) fn ca_pem(&self) -> Option<&str> {
        match &self.maker {
            Maker::Own { authority, .. } => Some(authority.pem()),
            Maker::Files { .. } => None,
        }
    }

    /// The TLS configuration of a listener; it follows the certificate.
    ///
    /// # Errors
    /// [`CertificateError::Unusable`].
    pub(super) fn server_config(&self) -> Result<Arc<ServerConfig>, CertificateError> {
        let mut config = ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.current) as Arc<dyn ResolvesServerCert>);
        // WebSockets need HTTP/1.1, and AWS's own endpoint speaks nothing else.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Keeps the certificate fresh until `cancel`. If that fails, the one in use stays.
    pub(super) async fn keep_fresh(mut self, cancel: CancellationToken) {
        let interval = match self.maker {
            Maker::Own { .. } => REMAKE_EVERY,
            Maker::Files { .. } => LOOK_EVERY,
        };
        while cancel
            .run_until_cancelled(tokio::time::sleep(interval))
            .await
            .is_some()
        {
            match self.maker.make() {
                Ok(Some(made)) => {
                    self.current.replace(made);
                    info!("certificate renewed");
                }
                Ok(None) => {}
                Err(error) => warn!(%error, "certificate not renewed, the old one stays in use"),
            }
        }
    }
}

impl Maker {
    /// A new certificate; none if the files have not changed.
    fn make(&mut self) -> Result<Option<CertifiedKey>, CertificateError> {
        match self {
            Self::Own { authority, names } => {
                let (chain, key) = authority.issue(names.all(), SystemTime::now())?;
                Ok(Some(CertifiedKey::from_der(chain, key, &tls::provider())?))
            }
            Self::Files {
                certificate,
                key,
                seen,
            } => {
                let changed = modified(certificate)?.max(modified(key)?);
                if *seen == Some(changed) {
                    return Ok(None);
                }
                let made = read_files(certificate, key)?;
                *seen = Some(changed);
                Ok(Some(made))
            }
        }
    }
}

impl Names {
    /// Public name, this host's name and addresses, loopback.
    fn all(&self) -> Vec<String> {
        let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
        names.extend(self.public.clone());
        names.extend(
            nix::unistd::gethostname()
                .ok()
                .and_then(|name| name.into_string().ok()),
        );
        if self.listen.is_unspecified() {
            names.extend(own_addresses().iter().map(IpAddr::to_string));
        } else {
            names.push(self.listen.to_string());
        }
        names.sort();
        names.dedup();
        names
    }
}

/// The addresses of this host's interfaces; none if the kernel does not tell.
fn own_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    interfaces
        .filter_map(|interface| interface.address)
        .filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .collect()
}

fn modified(path: &Path) -> Result<SystemTime, CertificateError> {
    let modified = std::fs::metadata(path).and_then(|file| file.modified());
    modified.map_err(|source| CertificateError::File {
        path: path.to_owned(),
        source,
    })
}

fn read_files(certificate: &Path, key: &Path) -> Result<CertifiedKey, CertificateError> {
    let wrong = |path: &Path| {
        let path = path.to_owned();
        move |source| CertificateError::Pem { path, source }
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(wrong(certificate))?;
    if chain.is_empty() {
        let error = rustls_pki_types::pem::Error::NoItemsFound;
        return Err(wrong(certificate)(error));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(wrong(key))?;
    Ok(CertifiedKey::from_der(chain, key, &tls::provider())?)
}

/// The certificate that new connections get.
struct Current(RwLock<Arc<CertifiedKey>>);

impl Current {
    fn replace(&self, made: CertifiedKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(made);
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current))
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current(..)")
    }
}

#[cfg(test)]
mod tests;
