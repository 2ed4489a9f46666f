//! The laws of many streams over one channel, over many seeds.

use std::time::{Duration, Instant};

use serde_json::Value;
use ssm_agent::protocol::channel::{self, Channel, Clock, HandshakeRole, Window};
use ssm_agent::protocol::mux::{Held, Role, Settings};
use ssm_agent::protocol::wire::{PeerFeatures, SessionId};

use crate::mux_peer::MuxPeer;
use crate::mux_plan::Mix;
use crate::network::{Side, Weather};
use crate::random::{Random, for_seeds};
use crate::world::World;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn bytes_of_every_stream_arrive_once_and_in_order() {
    for_seeds(300, |seed| {
        let mut random = Random::new(seed);
        let weather = Weather::calm(random.millis(0..30));
        let mut world = world(Blend::finishing(seed, 40_000), weather, &mut random);

        settle(&mut world, 5 * MINUTE);
    });
}

#[test]
fn bytes_of_every_stream_arrive_over_connections_that_are_cut() {
    for_seeds(200, |seed| {
        let mut random = Random::new(seed);
        let mut weather = Weather::calm(random.millis(0..30));
        weather.cuts = Some(random.millis(300..6000));
        let mut world = world(Blend::finishing(seed, 15_000), weather, &mut random);

        world.run_for(random.millis(100..10_000));
        world.calm_down();
        settle(&mut world, 5 * MINUTE);
    });
}

#[test]
fn bytes_of_every_stream_arrive_over_a_foul_network() {
    for_seeds(200, |seed| {
        let mut random = Random::new(seed);
        let weather = Weather {
            jitter: random.millis(0..100),
            drop: random.range(0..25),
            repeat: random.range(0..20),
            fifo: false,
            tells_agent: false,
            ..Weather::calm(random.millis(0..60))
        };
        let mut world = world(Blend::finishing(seed, 15_000), weather, &mut random);

        world.run_for(random.millis(100..10_000));
        world.calm_down();
        settle(&mut world, 5 * MINUTE);
    });
}

#[test]
fn every_reset_ends_its_stream_and_no_other() {
    for_seeds(300, |seed| {
        let mut random = Random::new(seed);
        let weather = Weather::calm(random.millis(0..30));
        let mut blend = Blend::finishing(seed, 20_000);
        blend.mix.resets = random.range(10..80);
        let mut world = world(blend, weather, &mut random);

        settle(&mut world, 5 * MINUTE);
    });
}

#[test]
fn stalled_streams_never_stop_the_others_for_ever() {
    for_seeds(300, |seed| {
        let mut random = Random::new(seed);
        let weather = Weather::calm(random.millis(0..30));
        let mut blend = Blend::finishing(seed, 60_000);
        blend.mix.stalls = random.range(10..60);
        let mut world = world(blend, weather, &mut random);

        world.run_until("the end of the others", 60 * MINUTE, |world| {
            has_failed(world) || (world.agent.is_over(true) && world.client.is_over(true))
        });

        world.agent.give_up();
        world.client.give_up();
        settle(&mut world, MINUTE);
    });
}

/// A session's settings and its streams.
struct Blend {
    settings: Settings,
    mix: Mix,
}

impl Blend {
    /// Streams that all finish, within bounds that are felt.
    fn finishing(seed: u64, longest: usize) -> Self {
        let mut random = Random::new(seed ^ 0x5eed);
        let settings = Settings {
            half_close: random.chance(70),
            max_streams: 1000,
            stall_timeout: random.millis(1000..60_000),
            lone_stall_timeout: 2 * MINUTE,
            receive_budget: random.range(1000..60_000),
            send_budget: random.range(1000..60_000),
            stream_send_budget: random.range(1000..30_000),
            ..Settings::new(Role::Server)
        };
        let mix = Mix {
            seed,
            longest,
            resets: 0,
            stalls: 0,
        };
        Self { settings, mix }
    }
}

fn world(blend: Blend, weather: Weather, random: &mut Random) -> World<MuxPeer, MuxPeer> {
    let start = Instant::now();
    let Blend { settings, mix } = blend;
    let max_payload = [1024, 9000, 32 << 10][random.range(0..3)];
    let peer = PeerFeatures {
        max_payload,
        ..PeerFeatures::ours()
    };
    let mut channel = |settings: channel::Settings| {
        let window = Window {
            bytes: random.range(1000..80_000),
            messages: random.range(2..100),
        };
        let settings = channel::Settings {
            peer,
            send_window: window,
            seed: random.next(),
            ..settings
        };
        Channel::new(settings, start)
    };
    let session = SessionId::new("simulated-1").expect("a valid id");
    let clock = Clock {
        instant: start,
        unix_ms: 1_700_000_000_000,
    };
    let port = HandshakeRole::Request {
        session_type: "Port".into(),
        properties: Value::Null,
        encryption: None,
    };
    let agent = channel(channel::Settings::agent(session.clone(), port, clock, 0));
    let client = channel(channel::Settings::client(session, clock, 0));
    // The agent has more places, because there a stream may last longer. Streams that stall without
    // filling the budget keep their places.
    let places = if mix.stalls == 0 {
        random.range(2..40)
    } else {
        settings.max_streams
    };
    let as_client = Settings {
        role: Role::Client,
        max_streams: places,
        ..settings
    };
    let agent = MuxPeer::new(Side::Agent, agent, settings, mix.clone(), random, start);
    let mut client = MuxPeer::new(Side::Client, client, as_client, mix, random, start);
    client.open(random.range(1..60), random.millis(0..300));
    World::new(agent, client, weather, random, start)
}

fn has_failed(world: &World<MuxPeer, MuxPeer>) -> bool {
    world.agent.failed.is_some()
}

/// Runs until every stream is over and forgotten, and checks that it was its fate.
fn settle(world: &mut World<MuxPeer, MuxPeer>, limit: Duration) {
    world.run_until("the end of all streams", limit, |world| {
        has_failed(world)
            || (world.agent.is_over(false)
                && world.client.is_over(false)
                && world.agent.session.held() == EMPTY
                && world.client.session.held() == EMPTY)
    });
    if !has_failed(world) {
        world.agent.check_streams();
        world.client.check_streams();
    }
}

const EMPTY: Held = Held {
    unread: 0,
    queued: 0,
    streams: 0,
    turns: 0,
    farewells: 0,
};
