//! Which proxy the environment names for a URL.
//!
//! Rules are those of the reference agent's HTTP library: lower-case variables before upper-case
//! ones, `NO_PROXY` with domains, addresses, networks and ports, and never a proxy for this host.

use std::fmt;
use std::net::IpAddr;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderValue;
use tracing::warn;
use url::{Host, Url};

/// The environment's proxies, read once.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    https: Option<Proxy>,
    http: Option<Proxy>,
    exemptions: Vec<Exemption>,
}

impl Settings {
    /// The settings of this process's environment, read at the first call.
    pub fn of_process() -> &'static Self {
        static SETTINGS: OnceLock<Settings> = OnceLock::new();
        SETTINGS.get_or_init(|| Self::from_lookup(|name| std::env::var(name).ok()))
    }

    /// Reads the settings from variables that `lookup` knows. A proxy that cannot be used is left
    /// out with a warning.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&str]| {
            let set = |name: &&str| lookup(name).filter(|value| !value.trim().is_empty());
            names.iter().find_map(set)
        };
        let proxy = |names: &[&str]| {
            let text = first(names)?;
            Proxy::parse(text.trim())
                .inspect_err(|error| warn!(variable = names[0], %error, "the proxy is not used"))
                .ok()
        };
        Self {
            https: proxy(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            http: proxy(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]),
            exemptions: first(&["no_proxy", "NO_PROXY"])
                .map(|list| list.split(',').filter_map(Exemption::parse).collect())
                .unwrap_or_default(),
        }
    }

    /// The proxy for `url` (`https`, `wss`, `http`, `ws`), if one applies.
    pub fn proxy_for(&self, url: &Url) -> Option<&Proxy> {
        let proxy = match url.scheme() {
            "https" | "wss" => self.https.as_ref(),
            "http" | "ws" => self.http.as_ref(),
            _ => None,
        }?;
        let host = url.host()?;
        let port = url.port_or_known_default()?;
        let exempt = is_this_host(&host) || self.exemptions.iter().any(|e| e.covers(&host, port));
        (!exempt).then_some(proxy)
    }
}

/// An HTTP proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    host: String,
    port: u16,
    tls: bool,
    authorization: Option<HeaderValue>,
}

/// Why a proxy setting cannot be used. Never shows the setting, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// It is no URL with a host.
    #[error("the proxy setting is not a URL")]
    Malformed,
    /// A proxy protocol that we do not speak.
    #[error("proxies of kind {0:?} are not supported, only http and https")]
    Scheme(String),
}

impl Proxy {
    /// Reads `http://user:password@host:port`; `host:port` means `http`.
    ///
    /// # Errors
    /// [`ProxyError`].
    pub fn parse(text: &str) -> Result<Self, ProxyError> {
        let url = if text.contains("://") {
            Url::parse(text)
        } else {
            Url::parse(&format!("http://{text}"))
        };
        let url = url.map_err(|_| ProxyError::Malformed)?;
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            other => return Err(ProxyError::Scheme(other.to_owned())),
        };
        Ok(Self {
            host: bare_host(&url.host().ok_or(ProxyError::Malformed)?),
            port: url.port_or_known_default().ok_or(ProxyError::Malformed)?,
            tls,
            authorization: basic_authorization(&url),
        })
    }

    /// Its host name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the connection to the proxy itself is TLS.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// The value of `Proxy-Authorization`, marked sensitive, if the setting has a user.
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = if self.authorization.is_some() {
            " with credentials"
        } else {
            ""
        };
        write!(f, "Proxy({self}{user})")
    }
}

/// The host of a URL as a name look-up takes it: IPv6 addresses without brackets.
fn bare_host(host: &Host<&str>) -> String {
    match host {
        Host::Domain(name) => (*name).to_owned(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    }
}

fn basic_authorization(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut plain = percent_decode(url.username());
    plain.push(b':');
    plain.extend(percent_decode(url.password().unwrap_or_default()));
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64.encode(plain))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn percent_decode(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = (first == b'%').then(|| tail.get(..2)).flatten();
        let byte = hex
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    decoded
}

/// `localhost` and loopback addresses are never reached through a proxy.
fn is_this_host(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => name.eq_ignore_ascii_case("localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

/// One entry of `NO_PROXY`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Exemption {
    Everything,
    /// `example.com` and its subdomains; with `subdomains_only`, `.example.com`.
    Domain {
        name: String,
        subdomains_only: bool,
        port: Option<u16>,
    },
    Address {
        address: IpAddr,
        port: Option<u16>,
    },
    Network {
        address: IpAddr,
        prefix: u8,
    },
}

impl Exemption {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text == "*" {
            return Some(Self::Everything);
        }
        if let Some((address, prefix)) = text.split_once('/') {
            let address: IpAddr = address.parse().ok()?;
            let prefix: u8 = prefix.parse().ok()?;
            let bits = if address.is_ipv4() { 32 } else { 128 };
            return (prefix <= bits).then_some(Self::Network { address, prefix });
        }
        let (host, port) = split_port(&text);
        if let Ok(address) = host.trim_matches(['[', ']']).parse() {
            return Some(Self::Address { address, port });
        }
        let (name, subdomains_only) = match host.strip_prefix("*.").or(host.strip_prefix('.')) {
            Some(name) => (name, true),
            None => (host, false),
        };
        (!name.is_empty()).then(|| Self::Domain {
            name: name.to_owned(),
            subdomains_only,
            port,
        })
    }

    fn covers(&self, host: &Host<&str>, port: u16) -> bool {
        let right_port = |wanted: Option<u16>| wanted.is_none_or(|wanted| wanted == port);
        match (self, host) {
            (Self::Everything, _) => true,
            (
                Self::Domain {
                    name,
                    subdomains_only,
                    port: wanted,
                },
                Host::Domain(host),
            ) => right_port(*wanted) && in_domain(host, name, *subdomains_only),
            (
                Self::Address {
                    address,
                    port: wanted,
                },
                host,
            ) => right_port(*wanted) && address_of(host) == Some(*address),
            (Self::Network { address, prefix }, host) => {
                address_of(host).is_some_and(|host| in_network(host, *address, *prefix))
            }
            (Self::Domain { .. }, Host::Ipv4(_) | Host::Ipv6(_)) => false,
        }
    }
}

/// Splits `host:port`; the colons of a bare IPv6 address are no port.
fn split_port(text: &str) -> (&str, Option<u16>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (text, None),
        },
        _ => (text, None),
    }
}

fn address_of(host: &Host<&str>) -> Option<IpAddr> {
    match host {
        Host::Domain(_) => None,
        Host::Ipv4(address) => Some(IpAddr::V4(*address)),
        Host::Ipv6(address) => Some(IpAddr::V6(*address)),
    }
}

fn in_domain(host: &str, name: &str, subdomains_only: bool) -> bool {
    let host = host.trim_end_matches('.');
    match host.strip_suffix(name) {
        Some("") => !subdomains_only,
        Some(front) => front.ends_with('.'),
        None => false,
    }
}

fn in_network(host: IpAddr, network: IpAddr, prefix: u8) -> bool {
    match (host, network) {
        (IpAddr::V4(host), IpAddr::V4(network)) => {
            let shift = 32 - u32::from(prefix);
            (host.to_bits() ^ network.to_bits())
                .checked_shr(shift)
                .unwrap_or(0)
                == 0
        }
        (IpAddr::V6(host), IpAddr::V6(network)) => {
            let shift = 128 - u32::from(prefix);
            (host.to_bits() ^ network.to_bits())
                .checked_shr(shift)
                .unwrap_or(0)
                == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
