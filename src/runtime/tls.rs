//! TLS client configuration: system roots plus those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::{CertificateResult, load_certs_from_paths, load_native_certs};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tracing::warn;

/// Servers whose sessions are remembered for a quick reconnect. A host talks to three or four.
const REMEMBERED_SERVERS: usize = 32;

/// Where distributions keep their bundle of roots. The roots are looked for here, and not by
/// rustls-native-certs, when the environment names certificates of its own, because those would
/// take the place of the system's there and we want both.
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Where they keep roots one by one, and where a site drops its own.
const SYSTEM_DIR: &str = "/etc/ssl/certs";

/// The TLS client configuration, made once per process from the system's roots plus the file that
/// `SSL_CERT_FILE` names, one crypto provider (aws-lc-rs), TLS 1.2 and later, no ALPN.
pub fn client_config() -> Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let roots = trusted_roots();
        if roots.is_empty() {
            warn!("no trusted root certificates were found; set SSL_CERT_FILE to a PEM file");
        }
        Arc::new(config_from(roots))
    });
    Arc::clone(config)
}

/// A TLS client configuration that trusts the system's roots and these PEM certificates.
///
/// # Errors
/// If the PEM holds no usable certificate.
pub fn client_config_with(extra_pem: &[u8]) -> io::Result<Arc<ClientConfig>> {
    let mut roots = trusted_roots();
    let unusable = |detail: String| io::Error::new(io::ErrorKind::InvalidData, detail);
    let mut added = 0;
    for certificate in CertificateDer::pem_slice_iter(extra_pem) {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| unusable(error.to_string()))?;
        added += 1;
    }
    if added == 0 {
        return Err(unusable("there is no PEM certificate in it".into()));
    }
    Ok(Arc::new(config_from(roots)))
}

/// How many certificate authorities this host trusts, without those of our configuration.
pub fn trusted_authorities() -> usize {
    trusted_roots().len()
}

/// The crypto provider of all our TLS, named wherever one is needed so that no process-wide default
/// has to be installed.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let provider = PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    Arc::clone(provider)
}

fn config_from(roots: RootCertStore) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(REMEMBERED_SERVERS);
    config
}

fn trusted_roots() -> RootCertStore {
    let environment = Environment {
        file: std::env::var_os("SSL_CERT_FILE"),
        dirs: std::env::var_os("SSL_CERT_DIR"),
    };
    roots_from(&environment)
}

/// Certificates that the environment adds.
struct Environment {
    file: Option<OsString>,
    dirs: Option<OsString>,
}

impl Environment {
    fn file(&self) -> Option<&Path> {
        self.file
            .as_deref()
            .filter(|f| !f.is_empty())
            .map(Path::new)
    }

    fn dirs(&self) -> Vec<PathBuf> {
        let dirs = self.dirs.iter().flat_map(std::env::split_paths);
        dirs.filter(|dir| !dir.as_os_str().is_empty()).collect()
    }
}

fn roots_from(environment: &Environment) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    if environment.file.is_none() && environment.dirs.is_none() {
        add(&mut roots, load_native_certs());
        return roots;
    }
    add(&mut roots, load_system_certs());
    add(&mut roots, load_certs_from_paths(environment.file(), None));
    for dir in environment.dirs() {
        add(&mut roots, load_certs_from_paths(None, Some(&dir)));
    }
    roots
}

fn load_system_certs() -> CertificateResult {
    let mut bundles = SYSTEM_BUNDLES.iter().map(Path::new);
    let bundle = bundles.find(|path| path.is_file());
    let dir = Some(Path::new(SYSTEM_DIR)).filter(|path| path.is_dir());
    load_certs_from_paths(bundle, dir)
}

fn add(roots: &mut RootCertStore, loaded: CertificateResult) {
    for error in &loaded.errors {
        warn!(%error, "root certificates were left out");
    }
    // System bundles hold a few certificates that no verifier here can use; the rest is what counts.
    roots.add_parsable_certificates(loaded.certs);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_of_the_environment_come_on_top_of_the_systems() {
        let folder = tempfile::tempdir().unwrap();
        let system = roots_from(&Environment {
            file: None,
            dirs: None,
        });
        let file = folder.path().join("extra.pem");
        std::fs::write(&file, certificate()).unwrap();
        let dir = folder.path().join("dir");
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("other.pem"), certificate()).unwrap();

        let roots = roots_from(&Environment {
            file: Some(file.into()),
            dirs: Some(dir.into()),
        });

        assert_eq!(roots.len(), system.len() + 2);
    }

    #[test]
    fn an_unreadable_file_leaves_the_other_roots() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("other.pem"), certificate()).unwrap();

        let roots = roots_from(&Environment {
            file: Some("/nonexistent.pem".into()),
            dirs: Some(folder.path().into()),
        });

        assert!(!roots.is_empty());
    }

    #[test]
    fn extra_certificates_are_trusted() {
        let config = client_config_with(certificate().as_bytes()).unwrap();

        assert!(config.alpn_protocols.is_empty());
    }

    #[test]
    fn text_without_a_certificate_is_refused() {
        let error = client_config_with(b"hello").unwrap_err();

        assert_eq!(error.to_string(), "there is no PEM certificate in it");
    }

    #[test]
    fn the_process_has_one_configuration() {
        assert!(Arc::ptr_eq(&client_config(), &client_config()));
    }

    fn certificate() -> String {
        rcgen::generate_simple_self_signed(vec!["localhost".into()])
            .unwrap()
            .cert
            .pem()
    }
}
