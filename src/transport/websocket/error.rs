//! Why a dial failed, in words that tell a person what to do.

use std::fmt;
use std::io;
use std::time::Duration;

use rustls::CertificateError;
use rustls_pki_types::UnixTime;

/// Why a dial failed.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The URL cannot be used.
    #[error("cannot dial {url}: {detail}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong.
        detail: String,
    },
    /// The host's name has no address.
    #[error("cannot look up {host}")]
    Lookup {
        /// The name.
        host: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The host cannot be reached, or the connection or its TLS broke.
    #[error("cannot connect to {host}")]
    Network {
        /// Host and port.
        host: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The host's certificate is not acceptable.
    #[error("the certificate of {host} {problem}")]
    Certificate {
        /// Host and port.
        host: String,
        /// What is wrong with it.
        problem: CertificateProblem,
    },
    /// The host took too long.
    #[error("{host} did not answer within {after:?} ({step})")]
    Timeout {
        /// Host and port.
        host: String,
        /// What was waited for.
        step: Step,
        /// How long.
        after: Duration,
    },
    /// The proxy did not open a tunnel.
    #[error("the proxy {proxy} refused to connect to {host} with status {status}")]
    ProxyRefused {
        /// The proxy.
        proxy: String,
        /// Host and port.
        host: String,
        /// HTTP status.
        status: u16,
    },
    /// The peer answered the upgrade with another status.
    #[error("the peer refused the upgrade with status {status}: {body}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Start of the body.
        body: String,
    },
    /// The peer's answer is no HTTP or not the answer to our upgrade.
    #[error("{host} does not speak WebSocket: {detail}")]
    NotWebSocket {
        /// Host and port.
        host: String,
        /// What it did instead.
        detail: String,
    },
}

impl DialError {
    /// What a person may do about it, if that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Certificate { problem, .. } => Some(problem.hint()),
            Self::ProxyRefused { status: 407, .. } => {
                Some("put the proxy's user and password into HTTPS_PROXY")
            }
            Self::ProxyRefused { .. } => {
                Some("allow the host in the proxy, or exempt it with NO_PROXY")
            }
            Self::Url { .. }
            | Self::Lookup { .. }
            | Self::Network { .. }
            | Self::Timeout { .. }
            | Self::Refused { .. }
            | Self::NotWebSocket { .. } => None,
        }
    }

    /// Sorts an error of a TLS handshake.
    pub(super) fn from_tls(host: String, source: io::Error) -> Self {
        let inner = source.get_ref().and_then(|e| e.downcast_ref());
        if let Some(rustls::Error::InvalidCertificate(error)) = inner
            && let Some(problem) = CertificateProblem::of(error)
        {
            return Self::Certificate { host, problem };
        }
        Self::Network { host, source }
    }
}

/// A step of a dial that has a time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The TCP connection.
    Connect,
    /// The TLS handshake.
    Tls,
    /// The HTTP upgrade, or the proxy's tunnel.
    Upgrade,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "TCP connection",
            Self::Tls => "TLS handshake",
            Self::Upgrade => "HTTP upgrade",
        })
    }
}

/// What is wrong with a certificate. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateProblem {
    /// It was valid until then, if known.
    Expired(Option<u64>),
    /// It will be valid from then, if known.
    NotYetValid(Option<u64>),
    /// Nobody this host trusts has signed it.
    UnknownIssuer,
    /// It is for these other names, if known.
    WrongName(Vec<String>),
}

impl CertificateProblem {
    fn of(error: &CertificateError) -> Option<Self> {
        let seconds = |time: &UnixTime| Some(time.as_secs());
        Some(match error {
            CertificateError::Expired => Self::Expired(None),
            CertificateError::ExpiredContext { not_after, .. } => Self::Expired(seconds(not_after)),
            CertificateError::NotValidYet => Self::NotYetValid(None),
            CertificateError::NotValidYetContext { not_before, .. } => {
                Self::NotYetValid(seconds(not_before))
            }
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::NotValidForName => Self::WrongName(Vec::new()),
            CertificateError::NotValidForNameContext { presented, .. } => {
                Self::WrongName(presented.clone())
            }
            _ => return None,
        })
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Expired(_) => "renew the certificate, or correct this host's clock",
            Self::NotYetValid(_) => "correct this host's clock",
            Self::UnknownIssuer => {
                "set SSL_CERT_FILE to a PEM file with the certificate of its authority"
            }
            Self::WrongName(_) => "use the host name that the certificate was made for",
        }
    }
}

impl fmt::Display for CertificateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired(Some(time)) => write!(f, "expired on {}", date(*time)),
            Self::Expired(None) => f.write_str("has expired"),
            Self::NotYetValid(Some(time)) => write!(f, "is not valid before {}", date(*time)),
            Self::NotYetValid(None) => f.write_str("is not valid yet"),
            Self::UnknownIssuer => f.write_str("is not signed by an authority this host trusts"),
            Self::WrongName(names) if names.is_empty() => f.write_str("is for another name"),
            Self::WrongName(names) => write!(f, "is for another name ({})", names.join(", ")),
        }
    }
}

fn date(unix_seconds: u64) -> String {
    i64::try_from(unix_seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| unix_seconds.to_string(), |time| time.to_string())
}
