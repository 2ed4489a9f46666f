//! The steps below HTTP: TCP to whichever address answers first, a proxy's tunnel, TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::{
    CONNECT_TIMEOUT, DialError, LOOKUP_TIMEOUT, Step, Stream, TLS_TIMEOUT, Target, authority,
    upgrade,
};
use crate::runtime::proxy::Proxy;
use crate::transport::gather::Gather;

/// How long one address may take before the next one is tried beside it (RFC 8305 advises 250 ms).
const ADDRESS_STAGGER: Duration = Duration::from_millis(250);

/// How long nobody may answer until all addresses are tried once more, beside the attempts that
/// still run.
const ANOTHER_ROUND: Duration = Duration::from_secs(1);

/// Connects to the first address of `host` that answers.
pub(super) async fn tcp(host: &str, port: u16) -> Result<Box<dyn Stream>, DialError> {
    let lookup = timeout(LOOKUP_TIMEOUT, lookup_host((host, port))).await;
    let addresses: Vec<SocketAddr> = lookup
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|source| DialError::Lookup {
            host: host.to_owned(),
            source,
        })?
        .collect();
    let network = |source| DialError::Network {
        host: authority(host, port),
        source,
    };
    let stream = match timeout(CONNECT_TIMEOUT, race(alternate(addresses))).await {
        Ok(connected) => connected.map_err(network)?,
        Err(_) => return Err(timed_out(host, port, Step::Connect, CONNECT_TIMEOUT)),
    };
    // A keystroke must not wait for the acknowledgement of the one before it.
    stream.set_nodelay(true).map_err(network)?;
    Ok(Box::new(Gather::new(stream)))
}

/// Connects to `proxy` and has it open a tunnel to `target`.
pub(super) async fn through_proxy(
    proxy: &Proxy,
    target: &Target,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<Box<dyn Stream>, DialError> {
    let stream = tcp(proxy.host(), proxy.port()).await?;
    let stream = if proxy.is_tls() {
        secure(stream, proxy.host(), proxy.port(), tls).await?
    } else {
        stream
    };
    upgrade::tunnel(stream, proxy, target).await
}

/// Makes a TLS connection of `stream`.
pub(super) async fn secure(
    stream: Box<dyn Stream>,
    host: &str,
    port: u16,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<Box<dyn Stream>, DialError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|error| DialError::Url {
        url: authority(host, port),
        detail: error.to_string(),
    })?;
    let handshake = TlsConnector::from(Arc::clone(tls)).connect(name, stream);
    match timeout(TLS_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(source)) => Err(DialError::from_tls(authority(host, port), source)),
        Err(_) => Err(timed_out(host, port, Step::Tls, TLS_TIMEOUT)),
    }
}

pub(super) fn timed_out(host: &str, port: u16, step: Step, after: Duration) -> DialError {
    DialError::Timeout {
        host: authority(host, port),
        step,
        after,
    }
}

/// Keeps the resolver's order within a family and alternates the families, so that a host whose IPv6
/// leads nowhere is reached after one stagger.
fn alternate(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (preferred, other): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let mut result = Vec::with_capacity(preferred.len() + other.len());
    let (mut preferred, mut other) = (preferred.into_iter(), other.into_iter());
    loop {
        let before = result.len();
        result.extend(preferred.next());
        result.extend(other.next());
        if result.len() == before {
            return result;
        }
    }
}

/// Tries the addresses one after the other, each with a head start on the next, and all of them
/// again after a while: the kernel repeats a lost attempt at growing distances only.
async fn race(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.clone().into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no addresses");
    loop {
        match waiting.next() {
            Some(address) => attempts.push(TcpStream::connect(address)),
            None if attempts.is_empty() => return Err(failure),
            None => {}
        }
        tokio::select! {
            Some(attempt) = attempts.next() => match attempt {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            },
            () = sleep(ADDRESS_STAGGER), if waiting.len() > 0 => {}
            () = sleep(ANOTHER_ROUND), if waiting.len() == 0 => {
                waiting = addresses.clone().into_iter();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpSocket};

    #[test]
    fn families_alternate_and_keep_the_resolvers_preference() {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        let given = ["[::1]:1", "[::2]:1", "[::3]:1", "1.0.0.1:1", "1.0.0.2:1"].map(parse);

        let sorted = alternate(given.to_vec());

        let expected = ["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "[::3]:1"].map(parse);
        assert_eq!(sorted, expected);
    }

    #[tokio::test]
    async fn an_address_that_refuses_does_not_hide_the_one_that_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // Bound, so that nobody else gets the port, but listening to nobody.
        let closed = TcpSocket::new_v4().unwrap();
        closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let refusing = closed.local_addr().unwrap();

        let stream = race(vec![refusing, listener.local_addr().unwrap()]).await;

        assert_eq!(
            stream.unwrap().peer_addr().unwrap(),
            listener.local_addr().unwrap()
        );
    }

    #[tokio::test]
    async fn a_refused_connection_says_so() {
        // Bound, so that nobody else gets the port, but listening to nobody.
        let closed = TcpSocket::new_v4().unwrap();
        closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = closed.local_addr().unwrap().port();

        let error = tcp("127.0.0.1", port).await.err().unwrap();

        let DialError::Network { host, source } = error else {
            panic!("{error}");
        };
        assert_eq!(host, format!("127.0.0.1:{port}"));
        assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn a_name_without_addresses_is_a_failed_lookup() {
        let error = tcp("no-such-host.invalid", 443).await.err().unwrap();

        assert!(matches!(error, DialError::Lookup { .. }), "{error}");
        assert_eq!(error.to_string(), "cannot look up no-such-host.invalid");
    }
}
