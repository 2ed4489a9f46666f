//! TLS client configuration: system roots plus `SSL_CERT_FILE` (contract stub).

use std::sync::Arc;

/// The TLS client configuration, made once per process from the system's roots plus the file that
/// `SSL_CERT_FILE` names, one crypto provider (aws-lc-rs), TLS 1.2 and later, no ALPN.
#[expect(clippy::todo, reason = "contract")]
pub fn client_config() -> Arc<rustls::ClientConfig> {
    todo!()
}

/// A TLS client configuration that trusts the system's roots and these PEM certificates.
///
/// # Errors
/// If the PEM holds no usable certificate.
#[expect(clippy::todo, unused_variables, reason = "contract")]
pub fn client_config_with(extra_pem: &[u8]) -> std::io::Result<Arc<rustls::ClientConfig>> {
    todo!()
}
