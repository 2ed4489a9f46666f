//! Room, stalls and silence.

use super::*;
use crate::protocol::mux::settings::KeepAlive;

const BUDGET: usize = 100_000;

#[test]
fn unread_bytes_of_all_streams_together_take_the_room() {
    let mut pair = Pair::new(budget);
    let ids = [pair.stream(), pair.stream()];

    for id in ids {
        write(&mut pair.client, id, vec![1; BUDGET]);
    }
    pair.exchange();

    assert!(!pair.server.has_room());
    assert!(pair.server.held().unread < BUDGET + PAYLOAD);
    read_all(&mut pair.server, ids[0], pair.now);
    assert!(pair.server.has_room());
}

#[test]
fn others_go_on_while_there_is_room() {
    let mut pair = Pair::new(budget);
    let [idle, busy] = [pair.stream(), pair.stream()];
    write(&mut pair.client, idle, vec![1; BUDGET / 2]);
    pair.exchange();

    for _ in 0..100 {
        pair.now += 10 * SECOND;
        write(&mut pair.client, busy, vec![2; BUDGET / 4]);
        pair.exchange();
        read_all(&mut pair.server, busy, pair.now);
        assert_eq!(pair.server.poll_timeout(), None);
    }

    assert_eq!(pair.server.unread(idle), BUDGET / 2);
}

#[test]
fn stream_that_stops_the_others_is_reset_and_they_go_on() {
    let mut pair = Pair::new(budget);
    let [stalled, other] = [pair.stream(), pair.stream()];
    write(&mut pair.client, stalled, vec![1; BUDGET]);
    write(&mut pair.client, other, "a");
    pair.exchange();
    read_all(&mut pair.server, other, pair.now);
    write(&mut pair.client, other, "b");
    pair.exchange();
    events(&mut pair.server);
    let due = pair.server.poll_timeout().unwrap();

    pair.server.handle_timeout(due - SECOND);
    assert_eq!(events(&mut pair.server), []);
    pair.server.handle_timeout(due);

    assert_eq!(due, pair.now + Settings::STALL_TIMEOUT);
    let reset = Event::Reset {
        id: stalled,
        reason: ResetReason::Stalled {
            unread: BUDGET,
            stalled: Settings::STALL_TIMEOUT,
        },
    };
    assert_eq!(events(&mut pair.server), [reset]);
    pair.exchange();
    assert_eq!(read_all(&mut pair.server, other, pair.now), b"b");
    let reset = Event::Reset {
        id: stalled,
        reason: ResetReason::Peer,
    };
    assert!(events(&mut pair.client).contains(&reset));
}

#[test]
fn stalled_streams_are_given_up_from_the_fullest_on_until_there_is_room() {
    let mut pair = Pair::new(budget);
    let ids: Vec<StreamId> = (0..5).map(|_| pair.stream()).collect();
    for (id, share) in ids.iter().zip([1, 4, 2, 2, 1]) {
        write(&mut pair.client, *id, vec![1; share * BUDGET / 10]);
    }
    pair.exchange();
    events(&mut pair.server);

    let due = pair.server.poll_timeout().unwrap();
    pair.server.handle_timeout(due);

    let gone = events(&mut pair.server);
    assert!(matches!(gone[..], [Event::Reset { id, .. }] if id == ids[1]));
    assert!(pair.server.has_room());
}

#[test]
fn slow_stream_is_not_given_up() {
    let mut pair = Pair::new(budget);
    let [slow, _other] = [pair.stream(), pair.stream()];
    write(&mut pair.client, slow, vec![1; 2 * BUDGET]);
    pair.exchange();
    events(&mut pair.server);

    for _ in 0..4 {
        pair.now += Settings::STALL_TIMEOUT - SECOND;
        pair.server.handle_timeout(pair.now);
        pair.server.read(slow, pair.now).unwrap();
        carry(&mut pair.client, &mut pair.server, pair.now);
        events(&mut pair.client);
    }

    let resets = events(&mut pair.server);
    assert_eq!(resets, []);
}

#[test]
fn stream_that_lay_unread_before_gets_its_time_when_the_room_ends() {
    let mut pair = Pair::new(budget);
    let [idle, busy] = [pair.stream(), pair.stream()];
    write(&mut pair.client, idle, vec![1; BUDGET / 2]);
    pair.exchange();
    pair.now += 1000 * SECOND;

    write(&mut pair.client, busy, vec![2; BUDGET]);
    pair.exchange();

    let due = pair.server.poll_timeout();
    assert_eq!(due, Some(pair.now + Settings::STALL_TIMEOUT));
}

#[test]
fn stream_that_stops_nobody_known_is_given_much_longer() {
    let mut pair = Pair::new(budget);
    let lone = pair.stream();
    write(&mut pair.server, lone, vec![1; 2 * BUDGET]);
    pair.exchange();
    let start = pair.now;
    assert_eq!(
        pair.client.poll_timeout(),
        Some(start + Settings::LONE_STALL_TIMEOUT)
    );

    pair.now += 10 * Settings::STALL_TIMEOUT;
    pair.client.open(pair.now).unwrap();

    assert_eq!(
        pair.client.poll_timeout(),
        Some(pair.now + Settings::STALL_TIMEOUT)
    );
}

#[test]
fn keep_alive_sends_a_nop_each_interval() {
    let mut pair = Pair::new(keep_alive);
    let nop = (Command::Nop, 0, Vec::new());

    for _ in 0..2 {
        let due = pair.client.poll_timeout().unwrap();
        assert_eq!(due, pair.now + 10 * SECOND);
        pair.now = due;
        pair.client.handle_timeout(due);

        assert_eq!(frames(&mut pair.client), std::slice::from_ref(&nop));
    }
}

#[test]
fn silence_of_the_peer_ends_no_session() {
    let mut pair = Pair::new(keep_alive);
    let id = pair.stream();

    pair.now += 3600 * SECOND;
    pair.server.handle_timeout(pair.now);
    write(&mut pair.client, id, "still here");
    pair.exchange();

    assert_eq!(read_all(&mut pair.server, id, pair.now), b"still here");
}

fn budget(settings: &mut Settings) {
    settings.receive_budget = BUDGET;
}

fn keep_alive(settings: &mut Settings) {
    settings.keep_alive = KeepAlive::XTACI;
}
