use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::{ServerName, UnixTime};

use super::*;

fn names() -> Names {
    Names {
        public: Some("gw.example".into()),
        listen: Ipv4Addr::new(10, 0, 0, 5).into(),
    }
}

fn shown(certificates: &Certificates) -> Arc<CertifiedKey> {
    Arc::clone(&certificates.current.0.read().unwrap())
}

/// Whether a client that trusts `ca_pem` believes that `shown` is `name`.
fn believes(ca_pem: &str, shown: &CertifiedKey, name: &str) -> bool {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap())
        .unwrap();
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), tls::provider())
        .build()
        .unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let (end, between) = shown.cert.split_first().unwrap();
    verifier
        .verify_server_cert(end, between, &name, &[], UnixTime::now())
        .is_ok()
}

#[test]
fn own_certificate_is_valid_for_public_name_listener_and_loopback_and_nothing_else() {
    let state = tempfile::tempdir().unwrap();

    let certificates = Certificates::open(CertificateSource::Own, state.path(), names()).unwrap();

    let (ca, shown) = (certificates.ca_pem().unwrap(), shown(&certificates));
    for name in ["gw.example", "10.0.0.5", "localhost", "127.0.0.1", "::1"] {
        assert!(believes(ca, &shown, name), "{name}");
    }
    for name in ["other.example", "10.0.0.6"] {
        assert!(!believes(ca, &shown, name), "{name}");
    }
}

#[test]
fn authority_stays_the_same_over_restarts_and_when_its_certificate_is_lost() {
    let state = tempfile::tempdir().unwrap();
    let open = || Certificates::open(CertificateSource::Own, state.path(), names()).unwrap();
    let first = open().ca_pem().unwrap().to_owned();

    let second = open();
    assert_eq!(second.ca_pem().unwrap(), first);
    assert!(believes(&first, &shown(&second), "localhost"));

    fs::remove_file(state.path().join("ca.pem")).unwrap();
    assert!(believes(&first, &shown(&open()), "localhost"));
}

#[test]
fn key_of_the_authority_is_for_its_owner_and_its_certificate_for_everyone() {
    let state = tempfile::tempdir().unwrap();

    Certificates::open(CertificateSource::Own, state.path(), names()).unwrap();

    let mode = |name: &str| {
        let path = state.path().join(name);
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode("tls"), 0o700);
    assert_eq!(mode("tls/ca-key.pem"), 0o600);
    assert_eq!(mode("ca.pem"), 0o644);
}

#[tokio::test(start_paused = true)]
async fn own_certificate_is_made_anew_while_the_gateway_runs() {
    let state = tempfile::tempdir().unwrap();
    let certificates = Certificates::open(CertificateSource::Own, state.path(), names()).unwrap();
    let (before, current) = (shown(&certificates), Arc::clone(&certificates.current));
    let cancel = CancellationToken::new();

    let run = certificates.keep_fresh(cancel.clone());
    let stop = async {
        tokio::time::sleep(REMAKE_EVERY + Duration::from_secs(1)).await;
        cancel.cancel();
    };
    tokio::join!(run, stop);

    assert_ne!(before.cert, current.0.read().unwrap().cert);
}

#[test]
fn given_certificate_is_read_again_when_its_file_changes() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    let write = |time: SystemTime| {
        let made = rcgen::generate_simple_self_signed(["gw.example".to_owned()]).unwrap();
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        fs::File::open(&key).unwrap().set_modified(time).unwrap();
        fs::File::open(&certificate)
            .unwrap()
            .set_modified(time)
            .unwrap();
    };
    let now = SystemTime::now();
    write(now);
    let source = CertificateSource::Files {
        certificate: certificate.clone(),
        key: key.clone(),
    };
    let mut certificates = Certificates::open(source, folder.path(), names()).unwrap();
    let before = shown(&certificates);

    assert!(certificates.maker.make().unwrap().is_none());
    write(now + Duration::from_secs(5));
    let after = certificates.maker.make().unwrap().unwrap();

    assert_ne!(before.cert, after.cert);
    assert!(certificates.ca_pem().is_none());
}

#[test]
fn unusable_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let open = |certificate: &Path, key: &Path| {
        let source = CertificateSource::Files {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        };
        Certificates::open(source, folder.path(), names())
            .err()
            .unwrap()
    };
    let made = rcgen::generate_simple_self_signed(["gw.example".to_owned()]).unwrap();
    let other = rcgen::KeyPair::generate().unwrap();
    let path = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let certificate = path("cert.pem", made.cert.pem());
    let key = path("key.pem", made.signing_key.serialize_pem());
    let other = path("other.pem", other.serialize_pem());
    let garbage = path("garbage.pem", "garbage".into());
    let missing = folder.path().join("missing.pem");

    assert!(matches!(open(&missing, &key), CertificateError::File { path, .. } if path == missing));
    assert!(matches!(open(&garbage, &key), CertificateError::Pem { path, .. } if path == garbage));
    assert!(
        matches!(open(&certificate, &garbage), CertificateError::Pem { path, .. } if path == garbage)
    );
    assert!(matches!(
        open(&certificate, &other),
        CertificateError::Unusable(_)
    ));
}
