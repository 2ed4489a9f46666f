use std::io;
use std::net::Ipv4Addr;

use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::*;
use crate::gateway::api::Impatience;

struct Fixture {
    address: SocketAddr,
    places: Arc<Semaphore>,
    cancel: CancellationToken,
    server: JoinHandle<()>,
}

async fn plain_server(places: usize, router: Router) -> Fixture {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (places, cancel) = (Arc::new(Semaphore::new(places)), CancellationToken::new());
    let server = Server::plain(listener, address, router, Arc::clone(&places));
    Fixture {
        address,
        places,
        server: tokio::spawn(server.run(cancel.clone())),
        cancel,
    }
}

async fn get_slash(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    stream
}

/// Reads until the server closes or `end` has come.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains(end) {
        match stream.read(&mut buffer).await.unwrap() {
            0 => break,
            count => text.push_str(std::str::from_utf8(&buffer[..count]).unwrap()),
        }
    }
    text
}

#[tokio::test]
async fn plain_requests_say_which_listener_they_came_over() {
    let arrival =
        |Extension(Arrival::Plain(address)): Extension<Arrival>| async move { address.to_string() };
    let fixture = plain_server(4, Router::new().route("/", get(arrival))).await;

    let mut stream = get_slash(fixture.address).await;

    let address = fixture.address.to_string();
    assert!(read_until(&mut stream, &address).await.contains(&address));
}

#[tokio::test]
async fn connection_beyond_the_limit_waits_for_a_place() {
    let fixture = plain_server(1, Router::new().route("/", get(async || "done"))).await;
    let mut first = get_slash(fixture.address).await;
    assert!(read_until(&mut first, "done").await.contains("done"));
    let mut second = get_slash(fixture.address).await;

    assert_eq!(fixture.places.available_permits(), 0);
    drop(first);

    assert!(read_until(&mut second, "done").await.contains("done"));
}

#[tokio::test]
async fn upgraded_connection_keeps_its_place_until_it_is_dropped() {
    let (give, mut taken) = tokio::sync::mpsc::channel(1);
    let upgrade = move |request: axum::extract::Request| async move {
        let upgraded = hyper::upgrade::on(request);
        give.send(upgraded).await.unwrap();
        (
            http::StatusCode::SWITCHING_PROTOCOLS,
            [("upgrade", "x"), ("connection", "upgrade")],
        )
    };
    let fixture = plain_server(1, Router::new().route("/", get(upgrade))).await;
    let mut stream = TcpStream::connect(fixture.address).await.unwrap();
    let head = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    stream.write_all(head).await.unwrap();

    let upgraded = taken.recv().await.unwrap().await.unwrap();
    let mut second = get_slash(fixture.address).await;
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(100), second.read(&mut byte)).await;
    assert!(early.is_err(), "the only place is taken");
    drop(upgraded);

    assert_eq!(second.read(&mut byte).await.unwrap(), 1);
}

#[tokio::test]
async fn oversized_heads_are_refused() {
    let fixture = plain_server(4, Router::new().route("/", get(async || "done"))).await;
    let mut stream = TcpStream::connect(fixture.address).await.unwrap();
    let head = format!(
        "GET / HTTP/1.1\r\nhost: x\r\nlong: {}\r\n\r\n",
        "x".repeat(2 * HEAD_LIMIT)
    );

    // The server may close before it has read everything.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;

    assert!(!String::from_utf8_lossy(&answer).contains("200 OK"));
}

#[tokio::test]
async fn request_under_way_is_finished_when_the_gateway_stops() {
    let (entered, mut wait_entered) = tokio::sync::mpsc::channel(1);
    let release = CancellationToken::new();
    let released = release.clone();
    let slow = move || async move {
        entered.send(()).await.unwrap();
        released.cancelled().await;
        "done"
    };
    let fixture = plain_server(4, Router::new().route("/", get(slow))).await;
    let mut stream = get_slash(fixture.address).await;
    wait_entered.recv().await.unwrap();

    fixture.cancel.cancel();
    release.cancel();

    assert!(read_until(&mut stream, "done").await.contains("done"));
    fixture.server.await.unwrap();
    assert!(TcpStream::connect(fixture.address).await.is_err());
}

#[tokio::test]
async fn request_that_never_ends_does_not_hold_up_the_shutdown() {
    let (entered, mut wait_entered) = tokio::sync::mpsc::channel(1);
    let hanging = move || async move {
        entered.send(()).await.unwrap();
        std::future::pending::<()>().await;
    };
    let fixture = plain_server(4, Router::new().route("/", get(hanging))).await;
    let _stream = get_slash(fixture.address).await;
    wait_entered.recv().await.unwrap();
    tokio::time::pause();

    fixture.cancel.cancel();

    fixture.server.await.unwrap();
}

#[tokio::test]
async fn answer_may_say_that_a_peer_which_takes_nothing_is_cut_off() {
    let endless = |Extension(impatience): Extension<Impatience>| async move {
        impatience.set(Duration::from_millis(50));
        let piece = bytes::Bytes::from(vec![b'x'; 64 << 10]);
        let pieces = futures_util::stream::repeat_with(move || io::Result::Ok(piece.clone()));
        axum::body::Body::from_stream(pieces)
    };
    let fixture = plain_server(1, Router::new().route("/", get(endless))).await;

    let _stalled = get_slash(fixture.address).await;

    // Its place is free again, though it never went.
    let mut second = get_slash(fixture.address).await;
    assert!(read_until(&mut second, "x").await.contains('x'));
}
