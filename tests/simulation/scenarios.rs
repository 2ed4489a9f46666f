//! Single stories with figures.

use std::time::{Duration, Instant};

use ssm_agent::protocol::channel::{Clock, HandshakeRole, Settings, Window};
use ssm_agent::protocol::wire::{PeerFeatures, SessionId};

use crate::channel_peer::{ChannelPeer, Habits};
use crate::network::{Side, Weather};
use crate::plugin_peer::{Kind, PluginPeer, SESSION};
use crate::random::Random;
use crate::world::{Peer, World};

const MS: Duration = Duration::from_millis(1);

#[test]
fn window_fills_the_pipe_at_a_round_trip_of_80_ms() {
    let total = 40 << 20;
    let mut world = two_channels(total, Weather::calm(20 * MS));

    world.run_until("delivery", Duration::from_secs(60), |world| {
        world.client.received().len() == total
    });

    let ideal = (80 * MS).mul_f64(total as f64 / Window::SEND.bytes as f64);
    assert!(
        world.elapsed() < ideal.mul_f64(1.1) + 160 * MS,
        "{:?} instead of {ideal:?}",
        world.elapsed()
    );
    let messages = total as u64 / (32 << 10);
    let sent = world.transmitted[0];
    assert!(
        sent < messages + messages / 20,
        "{sent} messages for {messages}"
    );
}

#[test]
fn slow_line_is_filled_without_repeats() {
    let total = 20 << 20;
    let mut weather = Weather::calm(20 * MS);
    weather.bandwidth = Some(10 << 20);
    let mut world = two_channels(total, weather);

    world.run_until("delivery", Duration::from_secs(60), |world| {
        world.client.received().len() == total
    });

    assert!(
        world.elapsed() < Duration::from_millis(2300),
        "{:?}",
        world.elapsed()
    );
    let messages = total as u64 / (32 << 10);
    assert!(world.transmitted[0] < messages + messages / 20);
}

#[test]
fn everything_unacknowledged_goes_out_at_once_after_a_reconnect() {
    for side in [Side::Agent, Side::Client] {
        let total = 3 << 20;
        let mut world = two_channels(total, Weather::calm(20 * MS));
        // All is sent and nothing of it acknowledged, nor even delivered.
        world.cut_in(side, 30 * MS);
        world.run_for(31 * MS);
        assert_eq!(world.client.received().len(), 0);

        world.run_until("the new connection", Duration::from_secs(4), |world| {
            world.network.is_up(side)
        });
        let up = world.now;
        world.run_until("delivery", Duration::from_secs(10), |world| {
            world.client.received().len() == total
        });

        // One round trip tells a sender that the other end is back; the rest is one transmission.
        assert!(
            world.now - up <= 130 * MS,
            "{:?} after {side:?} came back",
            world.now - up
        );
    }
}

#[test]
fn reader_that_stops_for_ten_seconds_causes_few_repeats() {
    let total = 8 << 20;
    let mut world = two_channels(total, Weather::calm(20 * MS));
    world.run_for(70 * MS);
    world
        .client
        .stop_taking_for(Duration::from_secs(10), world.now);

    world.run_until("delivery", Duration::from_secs(30), |world| {
        world.client.received().len() == total
    });

    let messages = total as u64 / (32 << 10);
    let repeats = world.transmitted[0].saturating_sub(messages + messages / 20);
    assert!(repeats < 40, "{repeats} repeats");
    assert!(
        world.elapsed() < Duration::from_millis(10_600),
        "{:?}",
        world.elapsed()
    );
}

#[test]
fn lost_acknowledgement_to_the_official_plugin_resolves_while_output_flows() {
    let mut world = shell_on_plugin(Habits {
        total: 0,
        piece: 1..500,
        send_pause: 20 * MS,
        take_pause: Duration::ZERO,
    });
    begin(&mut world);
    lose_acknowledgements(&mut world);
    world.agent.send_more(400_000);

    world.run_until("an emptier window", Duration::from_secs(8), |world| {
        world.client.repeats_ignored > 0 && world.agent.channel.held().sending.messages < 10
    });

    world.run_until("delivery", Duration::from_secs(60), |world| {
        world.client.received().len() == world.agent.sent().len() && world.agent.has_sent_all()
    });
    world.run_until("silence", Duration::from_secs(10), |world| {
        world.is_silent() && world.agent.channel.held().sending.messages == 0
    });
}

#[test]
fn lost_acknowledgement_to_the_official_plugin_resolves_on_an_idle_line() {
    let mut world = shell_on_plugin(Habits::bulk(0));
    begin(&mut world);
    lose_acknowledgements(&mut world);
    assert!(world.agent.channel.held().sending.messages > 0);
    let before = world.transmitted[0];

    world.run_until("silence", Duration::from_secs(20), |world| {
        world.is_silent() && world.agent.channel.held().sending.messages == 0
    });

    let messages = world.transmitted[0] - before;
    assert!(messages < 400, "{messages} messages to find out");
    assert_eq!(world.client.received().len(), world.agent.sent().len());
}

#[test]
fn full_window_of_lost_acknowledgements_opens_again() {
    let mut world = shell_on_plugin(Habits::bulk(0));
    begin(&mut world);
    world.agent.send_more(12 << 20);
    world.run_for(50 * MS);
    world.cut_in(Side::Client, Duration::ZERO);

    world.run_until("delivery", Duration::from_secs(20), |world| {
        world.client.received().len() == world.agent.sent().len() && world.agent.has_sent_all()
    });

    assert!(
        world.client.repeats_ignored > 0,
        "no acknowledgement was lost"
    );
}

#[test]
fn plugin_whose_session_starts_late_loses_nothing() {
    let mut random = Random::new(7);
    let start = Instant::now();
    let habits = Habits {
        total: 50_000,
        piece: 1..500,
        send_pause: 100 * MS,
        take_pause: Duration::ZERO,
    };
    let agent = ChannelPeer::new(agent_settings(start), habits, &mut random, start);
    let late = Duration::from_secs(120);
    let client = PluginPeer::new(Kind::Shell, 0, &mut random, start).with_session_delay(late);
    let mut world = World::new(agent, client, Weather::calm(5 * MS), &mut random, start);

    world.run_until("delivery", 2 * late, |world| {
        world.agent.has_sent_all() && world.client.received().len() == world.agent.sent().len()
    });
}

#[test]
fn agent_with_an_absent_client_whispers() {
    let mut world = shell_on_plugin(Habits::bulk(0));
    world.network.weather.tells_agent = false;
    begin(&mut world);
    world.agent.send_more(2 << 20);
    world.cut_for(Side::Client, Duration::from_secs(600));
    world.run_for(Duration::from_secs(20));
    let before = world.transmitted[0];

    world.run_for(Duration::from_secs(500));

    // A burst of 64 KiB every five seconds at most.
    let messages = world.transmitted[0] - before;
    assert!(messages <= 100 * 4, "{messages} messages to nobody");
}

/// Lets the first output pass, so that the plugin has a session and says so.
fn begin(world: &mut World<ChannelPeer, PluginPeer>) {
    world.agent.send_more(100);
    world.run_until("a session", Duration::from_secs(8), |world| {
        world.client.has_sent_all()
            && world.client.is_in_session(world.now)
            && world.client.received().len() == world.agent.sent().len()
    });
}

/// Output reaches the plugin, and its acknowledgements go down with the connection.
fn lose_acknowledgements(world: &mut World<ChannelPeer, PluginPeer>) {
    world.agent.send_more(20_000);
    world.run_until("delivery", Duration::from_secs(60), |world| {
        world.client.received().len() == world.agent.sent().len()
            && world.agent.has_sent_all()
            && world.agent.channel.held().sending.messages > 0
    });
    world.cut_in(Side::Client, Duration::ZERO);
    world.run_until("the cut", Duration::from_secs(1), |world| {
        !world.network.is_up(Side::Client)
    });
    world.run_until("the client's return", Duration::from_secs(8), |world| {
        world.network.is_up(Side::Client)
    });
}

/// Two of our own ends at the moment when the agent starts to send `total` bytes.
fn two_channels(total: usize, weather: Weather) -> World<ChannelPeer, ChannelPeer> {
    let mut random = Random::new(7);
    let start = Instant::now();
    let mut settings = agent_settings(start);
    settings.peer = PeerFeatures::ours();
    let agent = ChannelPeer::new(settings, Habits::bulk(0), &mut random, start);
    let settings = Settings::client(session(), clock(start), 2);
    let client = ChannelPeer::new(settings, Habits::bulk(0), &mut random, start);
    let mut world = World::new(agent, client, weather, &mut random, start);
    // The agent learns that a client is there before it has anything to say.
    world.run_for(200 * MS);
    world.start = world.now;
    world.agent.send_more(total);
    world
}

fn shell_on_plugin(habits: Habits) -> World<ChannelPeer, PluginPeer> {
    let mut random = Random::new(7);
    let start = Instant::now();
    let agent = ChannelPeer::new(agent_settings(start), habits, &mut random, start);
    let client = PluginPeer::new(Kind::Shell, 0, &mut random, start);
    World::new(agent, client, Weather::calm(5 * MS), &mut random, start)
}

fn agent_settings(start: Instant) -> Settings {
    let mut settings = Settings::agent(session(), HandshakeRole::None, clock(start), 1);
    settings.peer.max_payload = PeerFeatures::ours().max_payload;
    settings
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
