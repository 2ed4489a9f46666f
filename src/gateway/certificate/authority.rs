//! The gateway's own certificate authority: a key in the state folder and the certificate that
//! clients are told to trust.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::CertificateError;
use crate::runtime::atomic_file;

/// The authority's certificate, relative to the state folder; everyone may read it.
const CERTIFICATE_FILE: &str = "ca.pem";
/// The authority's key; only its owner may read it.
const KEY_FILE: &str = "tls/ca-key.pem";
/// The authority's certificate is handed out by hand, so it has to outlive its hosts.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(25 * 365 * 24 * 3600);
/// Far more than the time between two renewals, far less than what TLS libraries put up with.
const SERVER_LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);
/// Certificates begin this long ago, for peers whose clock is behind.
const CLOCK_MARGIN: Duration = Duration::from_secs(24 * 3600);

/// A certificate authority.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// Reads the authority of the state folder `state`, or makes it.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub(super) fn open(state: &Path) -> Result<Self, CertificateError> {
        let (certificate, key) = (state.join(CERTIFICATE_FILE), state.join(KEY_FILE));
        let key = match read(&key)? {
            Some(pem) => KeyPair::from_pem(&pem)?,
            None => make_key(&key)?,
        };
        let params = params(&key, SystemTime::now());
        let pem = match read(&certificate)? {
            Some(pem) => pem,
            None => {
                // Of a lost certificate only dates and serial number are new: same name, same key,
                // so who trusts the old one needs nothing new.
                let pem = params.self_signed(&key)?.pem();
                write(&certificate, &pem, 0o644)?;
                pem
            }
        };
        Ok(Self {
            issuer: Issuer::new(params, key),
            pem,
        })
    }

    /// The certificate to trust.
    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    /// Makes a server certificate for `names` (host names and addresses) and its key.
    ///
    /// # Errors
    /// [`CertificateError::Make`].
    pub(super) fn issue(
        &self,
        names: Vec<String>,
        now: SystemTime,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), CertificateError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        params
            .distinguished_name
            .push(DnType::CommonName, "ssm-gateway");
        params.not_before = (now - CLOCK_MARGIN).into();
        params.not_after = (now + SERVER_LIFETIME).into();
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Ok((vec![certificate.der().clone()], key.into()))
    }
}

fn params(key: &KeyPair, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    // The name has a piece of the key in it: some libraries confuse two authorities of one name.
    let hash = digest::digest(&digest::SHA256, key.public_key_raw());
    let [a, b, c, d, ..] = hash.as_ref() else {
        unreachable!("SHA-256 has 32 bytes")
    };
    let name = format!("ssm-gateway CA {a:02x}{b:02x}{c:02x}{d:02x}");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = (now - CLOCK_MARGIN).into();
    params.not_after = (now + AUTHORITY_LIFETIME).into();
    params
}

fn make_key(path: &Path) -> Result<KeyPair, CertificateError> {
    let key = KeyPair::generate()?;
    if let Some(folder) = path.parent() {
        atomic_file::create_private_dir(folder).map_err(at(folder))?;
    }
    write(path, &key.serialize_pem(), 0o600)?;
    Ok(key)
}

fn read(path: &Path) -> Result<Option<String>, CertificateError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), CertificateError> {
    atomic_file::write(path, text.as_bytes(), mode).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> CertificateError {
    let path: PathBuf = path.to_owned();
    move |source| CertificateError::File { path, source }
}
