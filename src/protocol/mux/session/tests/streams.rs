//! What becomes of a stream between its ends.

use super::*;

#[test]
fn client_opens_odd_ids_from_three_on() {
    let mut pair = Pair::new(|_| {});

    let ids: Vec<u32> = (0..3)
        .map(|_| pair.client.open(pair.now).unwrap().0)
        .collect();

    assert_eq!(ids, [3, 5, 7]);
    pair.exchange();
    let opened = [3, 5, 7].map(|id| Event::Opened(StreamId(id)));
    assert_eq!(events(&mut pair.server), opened);
}

#[test]
fn bytes_go_both_ways() {
    let mut pair = Pair::new(|_| {});
    let id = pair.stream();

    write(&mut pair.client, id, "question");
    write(&mut pair.server, id, "answer");
    pair.exchange();

    assert_eq!(events(&mut pair.server), [Event::Readable(id)]);
    assert_eq!(events(&mut pair.client), [Event::Readable(id)]);
    assert_eq!(read_all(&mut pair.server, id, pair.now), b"question");
    assert_eq!(read_all(&mut pair.client, id, pair.now), b"answer");
}

#[test]
fn end_that_has_finished_still_reads() {
    let mut pair = Pair::new(|_| {});
    let id = pair.stream();
    write(&mut pair.client, id, "question");
    pair.client.finish(id);
    pair.exchange();
    read_all(&mut pair.server, id, pair.now);
    events(&mut pair.server);

    write(&mut pair.server, id, "answer");
    pair.server.finish(id);
    pair.exchange();

    assert_eq!(read_all(&mut pair.client, id, pair.now), b"answer");
    let finished = Event::PeerFinished {
        id,
        may_still_read: true,
    };
    assert_eq!(events(&mut pair.client), [finished]);
}

#[test]
fn stream_that_is_finished_both_ways_is_forgotten() {
    let mut pair = Pair::new(|_| {});
    let id = pair.stream();

    pair.client.finish(id);
    pair.server.finish(id);
    pair.exchange();
    events(&mut pair.client);
    events(&mut pair.server);

    for session in [&pair.client, &pair.server] {
        assert_eq!(session.held(), EMPTY);
    }
}

#[test]
fn end_of_the_peer_is_told_behind_the_last_byte() {
    let mut pair = Pair::new(|_| {});
    let id = pair.stream();
    write(&mut pair.client, id, "last words");
    pair.client.finish(id);

    pair.exchange();

    assert_eq!(events(&mut pair.server), [Event::Readable(id)]);
    assert_eq!(read_all(&mut pair.server, id, pair.now), b"last words");
    let finished = Event::PeerFinished {
        id,
        may_still_read: true,
    };
    assert_eq!(events(&mut pair.server), [finished]);
    assert_eq!(events(&mut pair.server), []);
}

#[test]
fn foreign_peer_that_has_finished_reads_no_more() {
    let mut pair = Pair::new(|settings| settings.half_close = false);
    let id = pair.stream();

    pair.client.finish(id);
    pair.exchange();

    let finished = Event::PeerFinished {
        id,
        may_still_read: false,
    };
    assert_eq!(events(&mut pair.server), [finished]);
}

#[test]
fn reset_drops_what_lies_at_both_ends() {
    let mut pair = Pair::new(|_| {});
    let id = pair.stream();
    write(&mut pair.client, id, "unread");
    write(&mut pair.server, id, "unread too");
    pair.exchange();
    write(&mut pair.client, id, "unsent");
    events(&mut pair.server);

    pair.client.reset(id);
    pair.exchange();

    let reset = Event::Reset {
        id,
        reason: ResetReason::Peer,
    };
    assert_eq!(events(&mut pair.server), [reset]);
    assert_eq!(events(&mut pair.client), []);
    for session in [&mut pair.client, &mut pair.server] {
        assert_eq!(session.held(), EMPTY);
        assert_eq!(session.read(id, pair.now), None);
    }
}

#[test]
fn reset_says_fin_twice_to_our_own_and_once_to_a_foreign_peer() {
    for (half_close, fins) in [(true, 2), (false, 1)] {
        let mut pair = Pair::new(|settings| settings.half_close = half_close);
        let id = pair.stream();

        pair.server.reset(id);

        let fin = (Command::Fin, id.0, Vec::new());
        assert_eq!(frames(&mut pair.server), vec![fin; fins]);
    }
}

#[test]
fn reset_after_finish_says_the_one_fin_that_is_missing() {
    for (half_close, fins) in [(true, 1), (false, 0)] {
        let mut pair = Pair::new(|settings| settings.half_close = half_close);
        let id = pair.stream();
        pair.server.finish(id);
        pair.exchange();

        pair.server.reset(id);

        let fin = (Command::Fin, id.0, Vec::new());
        assert_eq!(frames(&mut pair.server), vec![fin; fins]);
    }
}

#[test]
fn reset_in_the_middle_of_a_frame_completes_the_frame() {
    let mut pair = Pair::new(|_| {});
    let id = pair.stream();
    write(&mut pair.client, id, vec![1; 10_000]);
    let head = pair.client.poll_transmit(1024).unwrap();
    pair.server.handle_bytes(head, pair.now).unwrap();

    pair.client.reset(id);
    let other = pair.client.open(pair.now).unwrap();
    pair.exchange();

    let reset = Event::Reset {
        id,
        reason: ResetReason::Peer,
    };
    assert_eq!(events(&mut pair.server), [reset, Event::Opened(other)]);
}

#[test]
fn stream_that_was_reset_before_it_was_announced_is_never_heard_of() {
    let mut pair = Pair::new(|_| {});
    let id = pair.client.open(pair.now).unwrap();
    write(&mut pair.client, id, "never mind");

    pair.client.reset(id);

    assert_eq!(pair.client.poll_transmit(PAYLOAD), None);
    assert_eq!(pair.client.held(), EMPTY);
}

#[test]
fn streams_that_come_and_go_while_nothing_is_sent_leave_nothing_behind() {
    let mut pair = Pair::new(|settings| settings.half_close = false);

    for number in 0..100 {
        let id = StreamId(FIRST_ID + 2 * number);
        let syn = Header::bare(Command::Syn, id.0).encode();
        pair.server
            .handle_bytes(Bytes::copy_from_slice(&syn), pair.now)
            .unwrap();
        write(&mut pair.server, id, "an answer that nobody waits for");
        pair.server.reset(id);
    }

    assert_eq!(
        pair.server.held(),
        Held {
            farewells: 100,
            ..EMPTY
        }
    );
}

#[test]
fn stream_that_comes_and_goes_in_one_piece_is_never_heard_of() {
    let mut pair = Pair::new(|_| {});
    let id = pair.client.open(pair.now).unwrap();
    let opened = pair.client.poll_transmit(PAYLOAD).unwrap();
    pair.client.reset(id);
    let gone = pair.client.poll_transmit(PAYLOAD).unwrap();
    let both = Bytes::from([opened, gone].concat());

    pair.server.handle_bytes(both, pair.now).unwrap();

    assert_eq!(events(&mut pair.server), []);
    assert_eq!(pair.server.held(), EMPTY);
}

#[test]
fn what_is_called_with_a_stream_that_is_gone_does_nothing() {
    let mut pair = Pair::new(|_| {});
    let id = pair.stream();
    pair.client.reset(id);
    frames(&mut pair.client);

    write(&mut pair.client, id, "dropped");
    pair.client.finish(id);
    pair.client.reset(id);

    assert_eq!(pair.client.send_capacity(id), 0);
    assert_eq!(pair.client.unread(id), 0);
    assert_eq!(pair.client.read(id, pair.now), None);
    assert_eq!(pair.client.poll_transmit(PAYLOAD), None);
    assert_eq!(events(&mut pair.client), []);
}

#[test]
fn client_keeps_to_the_limit_of_streams() {
    let mut pair = Pair::new(|settings| settings.max_streams = 2);
    let first = pair.stream();
    pair.stream();

    let refused = pair.client.open(pair.now);
    pair.client.reset(first);
    let opened = pair.client.open(pair.now);

    assert_eq!(refused, Err(OpenError::TooMany { limit: 2 }));
    assert!(opened.is_ok());
}

#[test]
fn server_opens_no_streams() {
    let mut pair = Pair::new(|_| {});

    assert_eq!(pair.server.open(pair.now), Err(OpenError::NotTheClient));
}

#[test]
fn ids_are_used_once_and_then_open_streams_go_on() {
    let mut pair = Pair::new(|_| {});
    pair.client.next_id = Some(StreamId(u32::MAX));
    let last = pair.stream();

    assert_eq!(last.0, u32::MAX);
    assert_eq!(pair.client.open(pair.now), Err(OpenError::OutOfIds));
    write(&mut pair.client, last, "still here");
    pair.exchange();
    assert_eq!(read_all(&mut pair.server, last, pair.now), b"still here");
}

#[test]
fn a_thousand_idle_streams_take_little_memory() {
    let mut pair = Pair::new(|_| {});
    let ids: Vec<StreamId> = (0..1000).map(|_| pair.stream()).collect();
    for id in &ids {
        write(&mut pair.client, *id, vec![1; 3000]);
        write(&mut pair.client, *id, "and a little more");
    }
    pair.exchange();
    for id in &ids {
        read_all(&mut pair.server, *id, pair.now);
    }

    assert!(size_of::<Stream>() <= 256, "{}", size_of::<Stream>());
    for stream in pair
        .client
        .streams
        .values()
        .chain(pair.server.streams.values())
    {
        assert_eq!(stream.sending.allocated(), 0);
        assert_eq!(stream.received.allocated(), 0);
    }
}

const EMPTY: Held = Held {
    unread: 0,
    queued: 0,
    streams: 0,
    turns: 0,
    farewells: 0,
};
