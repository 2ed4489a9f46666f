//! Frames that a peer in its right mind does not send, and frames that come late.

use super::*;

#[test]
fn syn_for_an_open_stream_is_ignored() {
    let mut pair = Pair::new(|_| {});
    let id = pair.stream();
    write(&mut pair.client, id, "kept");
    pair.exchange();
    events(&mut pair.server);

    pair.server
        .handle_bytes(bare(Command::Syn, id.0), pair.now)
        .unwrap();

    assert_eq!(events(&mut pair.server), []);
    assert_eq!(read_all(&mut pair.server, id, pair.now), b"kept");
    assert_eq!(frames(&mut pair.server), []);
}

#[test]
fn id_of_a_stream_that_is_gone_opens_a_new_one() {
    let mut pair = Pair::new(|_| {});
    let id = pair.stream();
    write(&mut pair.client, id, "old");
    pair.exchange();
    pair.server.reset(id);
    events(&mut pair.server);

    let again = [bare(Command::Syn, id.0), psh(id.0, b"new")].concat();
    pair.server.handle_bytes(again.into(), pair.now).unwrap();

    let expected = [Event::Opened(id), Event::Readable(id)];
    assert_eq!(events(&mut pair.server), expected);
    assert_eq!(read_all(&mut pair.server, id, pair.now), b"new");
}

#[test]
fn syn_that_may_not_open_a_stream_is_refused_and_the_session_goes_on() {
    for (half_close, fins) in [(true, 2), (false, 1)] {
        let mut pair = Pair::new(|settings| settings.half_close = half_close);
        let id = pair.stream();

        for (role, refused) in [(Role::Server, 4), (Role::Server, 0), (Role::Client, 9)] {
            let session = match role {
                Role::Client => &mut pair.client,
                Role::Server => &mut pair.server,
            };
            let piece = [bare(Command::Syn, refused), psh(refused, b"lost")].concat();
            session.handle_bytes(piece.into(), pair.now).unwrap();

            let fin = (Command::Fin, refused, Vec::new());
            assert_eq!(frames(session), vec![fin; fins]);
            assert_eq!(events(session), []);
        }
        write(&mut pair.client, id, "on it goes");
        pair.exchange();
        assert_eq!(read_all(&mut pair.server, id, pair.now), b"on it goes");
    }
}

#[test]
fn one_stream_too_many_is_refused() {
    let mut pair = Pair::new(|_| {});
    pair.server.settings.max_streams = 1;
    pair.stream();
    let refused = pair.client.open(pair.now).unwrap();

    pair.exchange();

    assert_eq!(events(&mut pair.server), []);
    let reset = Event::Reset {
        id: refused,
        reason: ResetReason::Peer,
    };
    assert_eq!(events(&mut pair.client), [reset]);
}

#[test]
fn peer_has_to_take_refusals_before_it_opens_more() {
    let mut pair = Pair::new(|settings| settings.max_streams = 1);
    pair.stream();
    let syn: Vec<u8> = (1000..2000u32)
        .flat_map(|n| Header::bare(Command::Syn, 2 * n + 1).encode())
        .collect();

    pair.server.handle_bytes(syn.into(), pair.now).unwrap();

    assert!(!pair.server.has_room());
    assert_eq!(pair.server.poll_timeout(), None);
    frames(&mut pair.server);
    assert!(pair.server.has_room());
}

#[test]
fn frames_of_unknown_streams_are_ignored() {
    let mut pair = Pair::new(|_| {});
    let id = pair.stream();
    let late = [
        psh(77, b"too late"),
        bare(Command::Fin, 77),
        bare(Command::Nop, 0),
        bare(Command::Nop, 77),
        psh(id.0, b"in time"),
    ]
    .concat();

    pair.server.handle_bytes(late.into(), pair.now).unwrap();

    assert_eq!(events(&mut pair.server), [Event::Readable(id)]);
    assert_eq!(read_all(&mut pair.server, id, pair.now), b"in time");
    assert_eq!(frames(&mut pair.server), []);
}

#[test]
fn bytes_behind_the_end_of_a_stream_are_ignored() {
    let mut pair = Pair::new(|_| {});
    let id = pair.stream();
    let piece = [bare(Command::Fin, id.0), psh(id.0, b"one more thing")].concat();

    pair.server.handle_bytes(piece.into(), pair.now).unwrap();

    assert_eq!(pair.server.held().unread, 0);
    assert_eq!(events(&mut pair.server).len(), 1);
}

#[test]
fn second_fin_of_a_foreign_peer_means_nothing() {
    let mut pair = Pair::new(|settings| settings.half_close = false);
    let id = pair.stream();
    write(&mut pair.client, id, "kept");
    pair.client.finish(id);
    pair.exchange();

    pair.server
        .handle_bytes(bare(Command::Fin, id.0), pair.now)
        .unwrap();

    assert_eq!(read_all(&mut pair.server, id, pair.now), b"kept");
}

#[test]
fn empty_frame_says_nothing() {
    let mut pair = Pair::new(|_| {});
    let id = pair.stream();

    pair.server.handle_bytes(psh(id.0, b""), pair.now).unwrap();

    assert_eq!(events(&mut pair.server), []);
}

#[test]
fn frame_larger_than_any_of_ours_is_taken() {
    let mut pair = Pair::new(|_| {});
    let id = pair.stream();

    pair.server
        .handle_bytes(psh(id.0, &[1; 65_535]), pair.now)
        .unwrap();

    let pieces: Vec<usize> = std::iter::from_fn(|| pair.server.read(id, pair.now))
        .map(|piece| piece.len())
        .collect();
    assert_eq!(pieces, [32_768, 32_767]);
}

#[test]
fn byte_stream_that_cannot_be_followed_stays_so() {
    let unexpected_payload = [1, 0, 1, 0, 3, 0, 0, 0];
    let other_version = [2, 0, 0, 0, 3, 0, 0, 0];
    let window_update = [1, 4, 8, 0, 3, 0, 0, 0];
    for header in [unexpected_payload, other_version, window_update] {
        let mut pair = Pair::new(|_| {});
        let bad = Bytes::copy_from_slice(&header);

        let first = pair.server.handle_bytes(bad, pair.now);
        let second = pair.server.handle_bytes(bare(Command::Syn, 3), pair.now);

        assert!(matches!(first, Err(MuxError::Malformed(_))), "{first:?}");
        assert_eq!(second, first);
        assert_eq!(events(&mut pair.server), []);
    }
}
