//! The gateway's configuration: flags and environment, checked into [`Settings`].

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use url::Url;

use super::certificate::CertificateSource;
use super::recordings::{self, DEFAULT_LIMIT, DEFAULT_QUOTA, DEFAULT_RETENTION};

/// Where the packaged gateway keeps its state.
pub const DEFAULT_STATE: &str = "/var/lib/ssm-gateway";
/// Not 443, so that no privilege is needed.
const DEFAULT_LISTEN: &str = "0.0.0.0:8443";
/// Long enough for a laptop to change networks, short enough not to leave shells behind.
const DEFAULT_GRACE: Duration = Duration::from_secs(60);
/// A session takes two connections, a connected agent one; each costs some 50 KiB with TLS.
const DEFAULT_CONNECTIONS: usize = 8192;
/// Folder of the recordings in the state folder.
pub(super) const RECORDINGS: &str = "recordings";
const DAY: u64 = 24 * 3600;
const MIB: u64 = 1 << 20;

/// Flags of `ssm-gateway serve`.
#[derive(Debug, Args)]
pub(super) struct ServeOptions {
    /// Address and port for agents and clients, over TLS
    #[arg(long, env = "SSM_GATEWAY_LISTEN", default_value = DEFAULT_LISTEN, value_name = "ADDR:PORT")]
    pub(super) listen: SocketAddr,
    /// Further address and port without TLS, on loopback only
    #[arg(long, env = "SSM_GATEWAY_PLAIN_LISTEN", value_name = "ADDR:PORT")]
    pub(super) plain_listen: Option<SocketAddr>,
    /// Certificate to show, PEM, with the certificates between it and its root
    #[arg(
        long,
        env = "SSM_GATEWAY_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    pub(super) tls_cert: Option<PathBuf>,
    /// Private key of that certificate, PEM
    #[arg(
        long,
        env = "SSM_GATEWAY_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    pub(super) tls_key: Option<PathBuf>,
    /// How agents and clients reach this gateway, if not by its listening address or host name
    #[arg(long, env = "SSM_GATEWAY_PUBLIC_URL", value_name = "URL")]
    pub(super) public_url: Option<Url>,
    /// Seconds a session waits for a client that lost its connection
    #[arg(long, default_value_t = DEFAULT_GRACE.as_secs(), value_name = "SECONDS")]
    pub(super) session_grace: u64,
    /// Most connections at a time
    #[arg(long, default_value_t = DEFAULT_CONNECTIONS, value_name = "NUMBER")]
    pub(super) max_connections: usize,
    /// Days that recordings are kept after their sessions
    #[arg(long, env = "SSM_GATEWAY_RECORDING_DAYS", default_value_t = DEFAULT_RETENTION.as_secs() / DAY, value_name = "DAYS")]
    pub(super) recording_days: u64,
    /// MiB that all recordings may take; the oldest are deleted first
    #[arg(long, env = "SSM_GATEWAY_RECORDING_QUOTA", default_value_t = DEFAULT_QUOTA / MIB, value_name = "MIB")]
    pub(super) recording_quota: u64,
    /// MiB that one recording may take
    #[arg(long, env = "SSM_GATEWAY_RECORDING_LIMIT", default_value_t = DEFAULT_LIMIT / MIB, value_name = "MIB")]
    pub(super) recording_limit: u64,
}

/// What a gateway is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folder of the database, the authority and its key.
    pub state: PathBuf,
    /// Where to listen for TLS; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where to listen without TLS, on loopback only.
    pub plain_listen: Option<SocketAddr>,
    /// Which certificate to show.
    pub certificate: CertificateSource,
    /// How agents and clients reach the gateway; by default its listening address or host name.
    pub public_url: Option<Url>,
    /// How long a session waits for a client that lost its connection.
    pub grace: Duration,
    /// Most connections at a time.
    pub connections: usize,
    /// How long recordings are kept.
    pub recording_retention: Duration,
    /// Bytes that all recordings may take.
    pub recording_quota: u64,
    /// Bytes that one recording may take.
    pub recording_limit: u64,
}

/// What is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Plain HTTP would leave the host.
    #[error(
        "plain-listen {got} is not a loopback address; without TLS only 127.0.0.0/8 and ::1 are allowed"
    )]
    PlainOutside {
        /// The address.
        got: SocketAddr,
    },
    /// The public URL cannot be the base of the gateway's URLs.
    #[error("public-url {got} must be https://host or https://host:port and nothing more")]
    PublicUrl {
        /// The URL.
        got: String,
    },
    /// A number that makes no sense.
    #[error("{key} is {got}, allowed are {allowed}")]
    OutOfRange {
        /// The flag.
        key: &'static str,
        /// Its value.
        got: u64,
        /// What it may be.
        allowed: &'static str,
    },
}

impl Settings {
    /// A gateway on a free port of 127.0.0.1 with a certificate of its own.
    pub fn on_loopback(state: impl Into<PathBuf>) -> Self {
        Self {
            state: state.into(),
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            plain_listen: None,
            certificate: CertificateSource::Own,
            public_url: None,
            grace: DEFAULT_GRACE,
            connections: DEFAULT_CONNECTIONS,
            recording_retention: DEFAULT_RETENTION,
            recording_quota: DEFAULT_QUOTA,
            recording_limit: DEFAULT_LIMIT,
        }
    }

    /// How recordings are kept.
    pub(super) fn recordings(&self) -> recordings::Settings {
        recordings::Settings {
            directory: self.state.join(RECORDINGS),
            retention: self.recording_retention,
            limit: self.recording_limit,
            quota: self.recording_quota,
        }
    }

    /// Checks what the types leave open.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn check(&self) -> Result<(), ConfigError> {
        if let Some(got) = self
            .plain_listen
            .filter(|address| !address.ip().is_loopback())
        {
            return Err(ConfigError::PlainOutside { got });
        }
        if let Some(url) = self.public_url.as_ref().filter(|url| !is_base(url)) {
            let got = url.to_string();
            return Err(ConfigError::PublicUrl { got });
        }
        if !(1..=24 * 3600).contains(&self.grace.as_secs()) {
            return Err(ConfigError::OutOfRange {
                key: "session-grace",
                got: self.grace.as_secs(),
                allowed: "1 to 86400 seconds",
            });
        }
        if !(4..=1_000_000).contains(&self.connections) {
            return Err(ConfigError::OutOfRange {
                key: "max-connections",
                got: u64::try_from(self.connections).unwrap_or(u64::MAX),
                allowed: "4 to 1000000",
            });
        }
        let days = self.recording_retention.as_secs() / DAY;
        if !(1..=36_500).contains(&days) {
            return Err(ConfigError::OutOfRange {
                key: "recording-days",
                got: days,
                allowed: "1 to 36500",
            });
        }
        for (key, bytes) in [
            ("recording-quota", self.recording_quota),
            ("recording-limit", self.recording_limit),
        ] {
            if bytes < MIB {
                return Err(ConfigError::OutOfRange {
                    key,
                    got: bytes / MIB,
                    allowed: "1 MiB and more",
                });
            }
        }
        Ok(())
    }
}

impl ServeOptions {
    /// The settings with `state` as state folder.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub(super) fn into_settings(self, state: PathBuf) -> Result<Settings, ConfigError> {
        let certificate = match (self.tls_cert, self.tls_key) {
            (Some(certificate), Some(key)) => CertificateSource::Files { certificate, key },
            _ => CertificateSource::Own,
        };
        let settings = Settings {
            state,
            listen: self.listen,
            plain_listen: self.plain_listen,
            certificate,
            public_url: self.public_url,
            grace: Duration::from_secs(self.session_grace),
            connections: self.max_connections,
            recording_retention: Duration::from_secs(self.recording_days.saturating_mul(DAY)),
            recording_quota: self.recording_quota.saturating_mul(MIB),
            recording_limit: self.recording_limit.saturating_mul(MIB),
        };
        settings.check()?;
        Ok(settings)
    }
}

fn is_base(url: &Url) -> bool {
    url.scheme() == "https"
        && url.has_host()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::on_loopback("/nowhere")
    }

    #[test]
    fn plain_listener_is_allowed_on_loopback_only() {
        for (address, allowed) in [
            ("127.0.0.1:8080", true),
            ("127.1.2.3:0", true),
            ("[::1]:8080", true),
            ("0.0.0.0:8080", false),
            ("10.0.0.5:8080", false),
        ] {
            let plain_listen = Some(address.parse().unwrap());
            let checked = Settings {
                plain_listen,
                ..settings()
            }
            .check();
            assert_eq!(checked.is_ok(), allowed, "{address}");
        }
    }

    #[test]
    fn public_url_is_a_host_over_https_and_nothing_more() {
        for (url, allowed) in [
            ("https://gw.example", true),
            ("https://gw.example:8443/", true),
            ("https://[2001:db8::1]:8443", true),
            ("http://gw.example", false),
            ("https://gw.example/base", false),
            ("https://gw.example/?a", false),
            ("https://user@gw.example", false),
            ("wss://gw.example", false),
        ] {
            let public_url = Some(url.parse().unwrap());
            let checked = Settings {
                public_url,
                ..settings()
            }
            .check();
            assert_eq!(checked.is_ok(), allowed, "{url}");
        }
    }

    #[test]
    fn numbers_without_sense_are_refused_by_name() {
        let grace = Duration::ZERO;
        let error = Settings {
            grace,
            ..settings()
        }
        .check()
        .unwrap_err();
        assert!(
            error.to_string().starts_with("session-grace is 0"),
            "{error}"
        );

        let error = Settings {
            connections: 1,
            ..settings()
        }
        .check()
        .unwrap_err();
        assert!(
            error.to_string().starts_with("max-connections is 1"),
            "{error}"
        );
    }
}
