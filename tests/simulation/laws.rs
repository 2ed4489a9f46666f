//! The laws, over many seeds.

use std::time::{Duration, Instant};

use serde_json::Value;
use ssm_agent::protocol::channel::{
    Clock, EncryptionAnswer, EncryptionRequest, HandshakeRole, Settings, Window,
};
use ssm_agent::protocol::wire::{PeerFeatures, SessionId};

use crate::agent_peer::AgentPeer;
use crate::channel_peer::{ChannelPeer, Habits};
use crate::kms;
use crate::network::Weather;
use crate::plugin_peer::{Kind, PluginPeer, SESSION, TARGET};
use crate::random::{Random, for_seeds};
use crate::world::{Peer, World};

const SECOND: Duration = Duration::from_secs(1);
/// Time within which all is well again after the last trouble: a few of the longest back-offs.
const RECOVERY: Duration = Duration::from_secs(120);

#[test]
fn bytes_arrive_once_and_in_order_whatever_the_network_does() {
    for_seeds(1500, |seed| {
        let mut random = Random::new(seed);
        let weather = foul_weather(&mut random);
        let mut world = two_channels(weather, &mut random);
        let trouble = random.millis(100..20_000);

        world.run_for(trouble);
        world.calm_down();
        finish(&mut world);
    });
}

#[test]
fn bytes_arrive_once_and_in_order_over_connections_that_are_cut() {
    for_seeds(1500, |seed| {
        let mut random = Random::new(seed);
        let weather = cutting_weather(&mut random);
        let mut world = two_channels(weather, &mut random);
        let trouble = random.millis(100..20_000);

        world.run_for(trouble);
        world.calm_down();
        finish(&mut world);
    });
}

#[test]
fn close_ends_in_time_and_tells_the_truth_whenever_it_comes() {
    for_seeds(1000, |seed| {
        let mut random = Random::new(seed);
        let weather = if random.chance(50) {
            foul_weather(&mut random)
        } else {
            cutting_weather(&mut random)
        };
        let mut world = two_channels(weather, &mut random);
        world.run_for(random.millis(0..5000));

        close_agent(&mut world);

        let (drained, _) = world.agent.drained.expect("it has drained");
        world.calm_down();
        world.run_for(RECOVERY);
        let missing = world.agent.sent().len() - world.client.received().len();
        assert!(
            !drained || missing == 0,
            "{missing} bytes are missing though all was acknowledged"
        );
    });
}

#[test]
fn official_plugin_gets_every_byte_once_and_the_line_falls_silent() {
    for_seeds(1500, |seed| {
        let mut random = Random::new(seed);
        let weather = cutting_weather(&mut random);
        let start = Instant::now();
        let kind = match random.range(0..10) {
            0..4 => Kind::Shell,
            4..7 => Kind::EncryptedShell,
            _ => Kind::Port {
                connects_after: random.millis(0..4000),
                refuses: Duration::ZERO..Duration::ZERO,
            },
        };
        let mut world = channel_and_plugin(kind, weather, &mut random, start);

        world.run_for(random.millis(100..20_000));
        world.calm_down();
        finish_with_plugin(&mut world);
    });
}

#[test]
fn official_plugin_between_two_local_connections_loses_nothing() {
    for_seeds(500, |seed| {
        let mut random = Random::new(seed);
        let weather = cutting_weather(&mut random);
        let start = Instant::now();
        let connects_after = random.millis(0..2000);
        let refuses_from = connects_after + random.millis(0..3000);
        let kind = Kind::Port {
            connects_after,
            refuses: refuses_from..refuses_from + random.millis(0..10_000),
        };
        let mut settings = agent_settings(port(), &mut random, start);
        settings.presume_delivery = false;
        let habits = Habits::random(&mut random, 1..200_000);
        let agent = ChannelPeer::new(settings, habits, &mut random, start);
        let client = PluginPeer::new(kind, random.range(0..5000), &mut random, start);
        let mut world = World::new(agent, client, weather, &mut random, start);

        world.run_for(random.millis(100..20_000));
        world.calm_down();
        world.run_until("delivery", RECOVERY, |world| {
            world.agent.failed.is_some()
                || (world.agent.has_sent_all()
                    && world.client.received().len() == world.agent.sent().len())
        });
    });
}

#[test]
fn reference_agent_and_our_client_exchange_every_byte_once() {
    for_seeds(500, |seed| {
        let mut random = Random::new(seed);
        let start = Instant::now();
        let mut weather = cutting_weather(&mut random);
        weather.cuts = weather.cuts.map(|mean| mean.max(SECOND));
        let agent = AgentPeer::new(random.range(1..60_000), &mut random, start);
        let habits = Habits::random(&mut random, 0..20_000);
        let settings = client_settings(&mut random, start);
        let client = ChannelPeer::new(settings, habits, &mut random, start);
        let mut world = World::new(agent, client, weather, &mut random, start);

        world.run_for(random.millis(100..20_000));
        world.calm_down();
        // The reference repeats one message every 100 ms, so its recovery takes as long.
        world.run_until("delivery", 5 * RECOVERY, |world| {
            world.agent.has_sent_all()
                && world.client.has_sent_all()
                && world.client.received().len() == world.agent.sent().len()
                && world.agent.received().len() == world.client.sent().len()
        });
        world.run_until("silence", RECOVERY, World::is_silent);
    });
}

#[test]
fn encrypted_session_opens_on_any_line_that_does_not_break() {
    for_seeds(300, |seed| {
        let mut random = Random::new(seed);
        let start = Instant::now();
        let mut weather = cutting_weather(&mut random);
        weather.cuts = None;
        let habits = Habits::random(&mut random, 1..60_000);
        let handshake = encrypted_shell(random.chance(50), &mut random);
        let settings = agent_settings(handshake, &mut random, start);
        let agent = ChannelPeer::new(settings, habits, &mut random, start);
        let habits = Habits::random(&mut random, 0..30_000);
        let settings = client_settings(&mut random, start);
        let client = ChannelPeer::new(settings, habits, &mut random, start);
        let mut world = World::new(agent, client, weather.clone(), &mut random, start);

        finish(&mut world);

        assert_eq!(world.agent.failed, None);
        assert!(world.client.received().len() == world.agent.sent().len());

        let mut world = channel_and_plugin(Kind::EncryptedShell, weather, &mut random, start);
        finish_with_plugin(&mut world);
        assert_eq!(world.agent.failed, None);
        assert!(world.client.received().len() == world.agent.sent().len());
    });
}

/// After the trouble: all arrives, the line falls silent, and both ends close.
fn finish(world: &mut World<ChannelPeer, ChannelPeer>) {
    world.run_until("delivery", RECOVERY, |world| {
        world.agent.failed.is_some()
            || (world.agent.has_sent_all()
                && world.client.has_sent_all()
                && world.client.received().len() == world.agent.sent().len()
                && world.agent.received().len() == world.client.sent().len())
    });
    let before: u64 = world.transmitted.iter().sum();
    world.run_until("silence", RECOVERY, World::is_silent);
    let after: u64 = world.transmitted.iter().sum();
    assert!(
        after - before < 2000,
        "{} messages on an idle line",
        after - before
    );
    close_agent(world);
    let drained = world.agent.drained.is_some_and(|(drained, _)| drained);
    assert!(drained || world.agent.failed.is_some(), "it did not drain");
}

fn finish_with_plugin(world: &mut World<ChannelPeer, PluginPeer>) {
    world.run_until("delivery", RECOVERY, |world| {
        world.agent.failed.is_some()
            || (world.agent.has_sent_all()
                && world.client.has_sent_all()
                && world.client.received().len() == world.agent.sent().len()
                && world.agent.received().len() == world.client.sent().len())
    });
    if world.agent.failed.is_some() {
        return;
    }
    let before = world.transmitted[0];
    world.run_until("an empty window and silence", RECOVERY, |world| {
        world.is_silent() && world.agent.channel.held().sending.messages == 0
    });
    let repeats = world.transmitted[0] - before;
    assert!(repeats < 3000, "{repeats} messages on an idle line");
}

/// Closes the agent's end, which has to end within its drain time.
fn close_agent<C: Peer>(world: &mut World<ChannelPeer, C>) {
    let now = world.now;
    world.agent.channel.close(now);
    world.run_until("drain", Settings::DRAIN, |world| {
        world.agent.drained.is_some()
    });
}

fn two_channels(weather: Weather, random: &mut Random) -> World<ChannelPeer, ChannelPeer> {
    let start = Instant::now();
    let habits = Habits::random(random, 1..60_000);
    let handshake = handshake(random);
    let mut settings = agent_settings(handshake, random, start);
    settings.send_window = window(random);
    settings.receive_window = receive_window(random);
    if !weather.tells_agent {
        // Its receive window may be smaller than the agent's send window, which foreign ones are not.
        settings.peer = PeerFeatures::ours();
    }
    let agent = ChannelPeer::new(settings, habits, random, start);

    let habits = Habits::random(random, 0..30_000);
    let settings = client_settings(random, start);
    let client = ChannelPeer::new(settings, habits, random, start);
    World::new(agent, client, weather, random, start)
}

fn channel_and_plugin(
    kind: Kind,
    weather: Weather,
    random: &mut Random,
    start: Instant,
) -> World<ChannelPeer, PluginPeer> {
    let handshake = match kind {
        Kind::Shell => HandshakeRole::None,
        Kind::EncryptedShell => encrypted_shell(false, random),
        Kind::Port { .. } => port(),
    };
    let habits = Habits::random(random, 1..200_000);
    let mut settings = agent_settings(handshake, random, start);
    settings.send_window = window(random);
    let agent = ChannelPeer::new(settings, habits, random, start);
    let client = PluginPeer::new(kind, random.range(0..5000), random, start);
    World::new(agent, client, weather, random, start)
}

fn handshake(random: &mut Random) -> HandshakeRole {
    match random.range(0..3) {
        0 => HandshakeRole::None,
        1 => port(),
        _ => encrypted_shell(true, random),
    }
}

fn encrypted_shell(requires_challenge: bool, random: &mut Random) -> HandshakeRole {
    HandshakeRole::Request {
        session_type: "Standard_Stream".into(),
        properties: Value::Null,
        encryption: Some(EncryptionRequest {
            kms_key_id: "alias/simulated".into(),
            target_id: TARGET.into(),
            requires_challenge,
            randomness: kms::randomness(random),
        }),
    }
}

fn port() -> HandshakeRole {
    HandshakeRole::Request {
        session_type: "Port".into(),
        properties: Value::Null,
        encryption: None,
    }
}

fn agent_settings(handshake: HandshakeRole, random: &mut Random, start: Instant) -> Settings {
    Settings::agent(session(), handshake, clock(start), random.next())
}

fn client_settings(random: &mut Random, start: Instant) -> Settings {
    let mut settings = Settings::client(session(), clock(start), random.next());
    settings.send_window = window(random);
    settings.receive_window = receive_window(random);
    settings.handshake = HandshakeRole::Answer {
        encryption: Ok(EncryptionAnswer {
            target_id: TARGET.into(),
            randomness: kms::randomness(random),
        }),
    };
    settings
}

/// Smaller than the peer's send window as often as not, which means refused messages.
fn receive_window(random: &mut Random) -> Window {
    Window {
        bytes: random.range(4000..40_000),
        messages: random.range(8..100),
    }
}

fn window(random: &mut Random) -> Window {
    Window {
        bytes: random.range(1..40_000),
        messages: random.range(1..100),
    }
}

fn session() -> SessionId {
    SessionId::new(SESSION).expect("a valid id")
}

fn clock(start: Instant) -> Clock {
    Clock {
        instant: start,
        unix_ms: 1_700_000_000_000,
    }
}

/// Messages are dropped, repeated and overtake each other.
fn foul_weather(random: &mut Random) -> Weather {
    Weather {
        delay: random.millis(0..60),
        jitter: random.millis(0..100),
        drop: random.range(0..25),
        repeat: random.range(0..20),
        fifo: false,
        bandwidth: None,
        cuts: random.chance(50).then(|| random.millis(300..5000)),
        // What the gateway says must not get lost.
        tells_agent: false,
    }
}

/// Connections keep order and are cut, with all that was under way.
fn cutting_weather(random: &mut Random) -> Weather {
    Weather {
        delay: random.millis(0..60),
        jitter: random.millis(0..30),
        drop: 0,
        repeat: 0,
        fifo: true,
        bandwidth: random.chance(30).then(|| 1 << random.range(14..22)),
        cuts: Some(random.millis(300..6000)),
        tells_agent: random.chance(70),
    }
}
