//! Silence of a client: of one that is cut off, and of one that has nothing to say.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::select;
use tokio::time::{pause, resume, sleep};

use super::old_client::Plugin;
use super::targets::{Target, read_exact};
use crate::agent::session::tests::harness::World;
use crate::protocol::mux::{Role, Session, Settings, StreamId};
use crate::protocol::wire::{MessageType, PayloadType};

/// Twice as long as xtaci waits for a sign of life.
const SILENCE: Duration = Duration::from_secs(60);
/// A plugin to which, and from which, NOPs are expected.
const WITH_KEEP_ALIVE: &str = "1.2.300.0";
/// The development build. By its version NOPs are expected; it sends none.
const DEVELOPMENT: &str = "1.2.0.0";

#[tokio::test]
async fn tunnel_of_a_client_that_is_away_for_a_minute_goes_on() {
    let mut tunnel = Tunnel::open(WITH_KEEP_ALIVE).await;
    tunnel.plugin.tell(MessageType::PausePublication).await;

    pause();
    select! {
        () = sleep(SILENCE) => {}
        // The gateway is there.
        () = tunnel.plugin.idle() => {}
    }
    resume();

    tunnel.plugin.tell(MessageType::StartPublication).await;
    tunnel.check().await;
}

#[tokio::test]
async fn idle_tunnel_of_a_client_that_sends_no_nops_goes_on_and_gets_some() {
    for version in [DEVELOPMENT, WITH_KEEP_ALIVE] {
        let mut tunnel = Tunnel::open(version).await;

        pause();
        let nop = tunnel.plugin.wait_for(PayloadType::Output).await;
        select! {
            () = sleep(SILENCE) => {}
            // It acknowledges what comes.
            _ = tunnel.plugin.wait_for(PayloadType::Flag) => panic!("no connection was refused"),
        }
        resume();

        assert_eq!(nop[..2], [1, 3], "{version}");
        tunnel.check().await;
    }
}

/// A stream through a plugin, whose mux says nothing by itself.
struct Tunnel {
    _world: World,
    plugin: Plugin,
    mux: Session,
    stream: StreamId,
    connection: TcpStream,
}

impl Tunnel {
    async fn open(version: &str) -> Self {
        let target = Target::new().await;
        let mut world = World::new();
        let mut plugin = Plugin::attach_as(version, &mut world, target.port).await;
        let settings = Settings {
            half_close: false,
            ..Settings::new(Role::Client)
        };
        let mut mux = Session::new(settings, Instant::now());
        let stream = mux.open(Instant::now()).unwrap();
        plugin.send_from(&mut mux).await;
        let connection = target.accept().await;
        Self {
            _world: world,
            plugin,
            mux,
            stream,
            connection,
        }
    }

    /// Bytes pass.
    async fn check(&mut self) {
        let mut bytes = Bytes::from_static(b"still here");
        self.mux.write(self.stream, &mut bytes);
        self.plugin.send_from(&mut self.mux).await;
        assert_eq!(read_exact(&mut self.connection, 10).await, b"still here");
    }
}
