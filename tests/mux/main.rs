//! Our smux against other people's: each of the crates that speak version 1, in either role, over an
//! in-memory connection. Many streams at once are echoed; every byte comes back, in order, and every
//! stream and session ends. `tokio_smux` ends streams like xtaci, `async_smux` half by half like our own
//! ends. (`smux` 0.2 takes no frame of 32768 bytes, which is what xtaci sends, so it is no measure.)
#![allow(
    clippy::unwrap_used,
    reason = "a test program fails by panicking; its helpers do too"
)]

mod app;
mod driver;
mod peers;

use std::time::Duration;

use ssm_agent::protocol::mux::{KeepAlive, Role, Settings};
use tokio::io::{DuplexStream, duplex};
use tokio::time::timeout;

use crate::app::{Chat, Ends};
use crate::peers::{AsyncSmux, Peer, TokioSmux};

/// Streams at once.
const STREAMS: usize = 20;
/// No test takes longer unless something hangs.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn our_client_is_echoed_by_the_server_of_tokio_smux() {
    be_echoed_by::<TokioSmux>().await;
}

#[tokio::test]
async fn our_client_is_echoed_by_the_server_of_async_smux() {
    be_echoed_by::<AsyncSmux>().await;
}

#[tokio::test]
async fn our_server_echoes_the_client_of_tokio_smux() {
    echo::<TokioSmux>().await;
}

#[tokio::test]
async fn our_server_echoes_the_client_of_async_smux() {
    echo::<AsyncSmux>().await;
}

#[tokio::test]
async fn our_server_echoes_our_client() {
    let (near, far) = connection();
    let server = driver::echo(far, settings(Role::Server, true));
    let chat = Chat::new(STREAMS, Ends::BeforeReading);

    let client = driver::chat(near, settings(Role::Client, true), chat);

    let (echoed, left) = timeout(PATIENCE, async { tokio::join!(client, server) })
        .await
        .expect("it hangs");
    echoed.check();
    assert_eq!(left, 0);
}

/// Our client, which has everything echoed by a server of the crate.
async fn be_echoed_by<P: Peer>() {
    let (near, far) = connection();
    let ends = P::ENDS;
    let chat = Chat::new(STREAMS, ends);
    let client = driver::chat(
        near,
        settings(Role::Client, ends == Ends::BeforeReading),
        chat,
    );

    let (echoed, ()) = timeout(PATIENCE, async { tokio::join!(client, P::echo(far)) })
        .await
        .expect("it hangs");

    echoed.check();
}

/// Our server, which echoes everything a client of the crate says.
async fn echo<P: Peer>() {
    let (near, far) = connection();
    let half_close = P::ENDS == Ends::BeforeReading;
    let server = driver::echo(near, settings(Role::Server, half_close));

    let (left, ()) = timeout(PATIENCE, async {
        tokio::join!(server, P::chat(far, STREAMS))
    })
    .await
    .expect("it hangs");

    assert_eq!(left, 0, "streams are left");
}

/// Cut into pieces that are no multiple of anything.
fn connection() -> (DuplexStream, DuplexStream) {
    duplex(10_007)
}

fn settings(role: Role, half_close: bool) -> Settings {
    Settings {
        half_close,
        keep_alive: KeepAlive::XTACI,
        // Small enough to be felt.
        receive_budget: 256 << 10,
        ..Settings::new(role)
    }
}
