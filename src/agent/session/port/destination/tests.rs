use std::error::Error;

use tokio::net::{TcpListener, TcpSocket, UnixListener};

use super::*;

#[tokio::test]
async fn local_target_is_found_in_either_family() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(address).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let destination = resolve(&Target::Local { port }).await.unwrap();

        for _again in 0..2 {
            destination.dial().await.unwrap();
        }
    }
}

#[tokio::test]
async fn addresses_and_names_are_destinations() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for host in ["127.0.0.1", "localhost", "::ffff:127.0.0.1", "2130706433"] {
        let destination = resolve(&host_target(host, port)).await.unwrap();

        destination.dial().await.unwrap();
    }
}

#[tokio::test]
async fn ipv6_address_is_a_destination() {
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for host in ["::1", "0:0:0:0:0:0:0:1"] {
        let destination = resolve(&host_target(host, port)).await.unwrap();

        assert_eq!(destination.to_string(), format!("[::1]:{port}"));
        destination.dial().await.unwrap();
    }
}

#[tokio::test]
async fn denied_ipv6_address_is_refused_beside_one_that_is_not() {
    let denied = DenyList::new(["::1".parse().unwrap()]);
    for (host, is_denied) in [("::1", true), ("0::0:1", true), ("127.0.0.1", false)] {
        let target = host_target(host, 80);
        let resolved = Destination::resolve(&target, &denied, &Networks::default()).await;

        assert_eq!(resolved.is_err(), is_denied, "{host}");
    }
}

#[tokio::test]
async fn denied_address_is_refused_in_every_form_that_the_resolver_reads() {
    for host in [
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "::ffff:a9fe:a9fe",
        "2852039166",
        "0xa9fea9fe",
        "0xa9.0xfe.0xa9.0xfe",
        "0251.0376.0251.0376",
        "169.254.43518",
        "169.16689662",
        "fd00:ec2::254",
        "FD00:0EC2:0:0:0:0:0:0254",
        "fd00:ec2::254%1",
    ] {
        let error = resolve(&host_target(host, 80)).await.unwrap_err();

        assert_eq!(
            error.to_string(),
            format!("Forwarding to IP address {host} is forbidden.")
        );
    }
}

#[tokio::test]
async fn trailing_dot_leads_past_the_list_no_more_than_the_resolver_takes_it() {
    let error = resolve(&host_target("169.254.169.254.", 80))
        .await
        .unwrap_err();

    let text = error.to_string();
    assert!(
        text.starts_with("lookup 169.254.169.254.") || text.ends_with("is forbidden."),
        "{text}"
    );
}

#[tokio::test]
async fn name_of_a_denied_address_is_refused() {
    let denied = DenyList::new(["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()]);

    // Not every resolver knows the name with a dot behind it.
    for (host, may_be_unknown) in [("localhost", false), ("localhost.", true)] {
        let target = host_target(host, 80);
        let resolved = Destination::resolve(&target, &denied, &Networks::default()).await;

        let text = resolved.unwrap_err().to_string();
        let is_forbidden = text == format!("Forwarding to IP address {host} is forbidden.");
        let is_unknown = may_be_unknown && text == format!("lookup {host}");
        assert!(is_forbidden || is_unknown, "{text}");
    }
}

#[tokio::test]
async fn name_that_does_not_resolve_is_named() {
    for host in ["no-such-host.invalid", "a b; rm -rf /", "$(id)"] {
        let error = resolve(&host_target(host, 80)).await.unwrap_err();

        assert_eq!(error.to_string(), format!("lookup {host}"));
        assert!(error.source().is_some());
    }
}

#[tokio::test]
async fn refusing_target_is_an_error_that_names_the_first_address() {
    // Bound, so that nobody else gets the port, but listening to nobody.
    let listener = TcpSocket::new_v4().unwrap();
    listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = listener.local_addr().unwrap().port();
    let destination = resolve(&host_target("127.0.0.1", port)).await.unwrap();

    let error = destination.dial().await.unwrap_err();

    assert_eq!(
        error.to_string(),
        format!("cannot connect to 127.0.0.1:{port}")
    );
    assert_eq!(error.source.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test(start_paused = true)]
async fn silent_target_is_given_up() {
    // Nobody accepts, and the kernel answers no further attempt once the queue is full.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let port = listener.local_addr().unwrap().port();
    let destination = resolve(&host_target("127.0.0.1", port)).await.unwrap();
    let mut queued = Vec::new();

    let error = loop {
        match destination.dial().await {
            Ok(socket) => queued.push(socket),
            Err(error) => break error,
        }
        assert!(queued.len() < 16, "the queue is full by now");
    };

    assert_eq!(error.source.kind(), io::ErrorKind::TimedOut);
    assert_eq!(error.source.to_string(), "no answer");
}

#[tokio::test]
async fn unix_socket_is_a_destination() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("target.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let destination = resolve(&Target::UnixSocket(path)).await.unwrap();

    destination.dial().await.unwrap();
}

#[tokio::test]
async fn missing_unix_socket_is_an_error_that_names_it() {
    let target = Target::UnixSocket("/nonexistent/target.sock".into());

    let error = resolve(&target).await.unwrap().dial().await.unwrap_err();

    assert_eq!(
        error.to_string(),
        "cannot connect to /nonexistent/target.sock"
    );
    assert_eq!(error.source.kind(), io::ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn unix_socket_whose_queue_stays_full_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("target.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let destination = resolve(&Target::UnixSocket(path)).await.unwrap();
    let mut queued = Vec::new();

    let error = loop {
        match destination.dial().await {
            Ok(socket) => queued.push(socket),
            Err(error) => break error,
        }
        assert!(queued.len() < 16, "the queue is full by now");
    };

    assert_eq!(error.source.to_string(), "its queue is full");
}

async fn resolve(target: &Target) -> Result<Destination, ResolveError> {
    Destination::resolve(target, &DenyList::default(), &Networks::default()).await
}

fn host_target(host: &str, port: u16) -> Target {
    Target::Host {
        host: host.to_owned(),
        port,
    }
}
