//! The outgoing byte stream: bounds, turns, where it is cut.

use super::*;

#[test]
fn stream_takes_no_more_than_its_budget_and_asks_for_more_in_time() {
    let mut pair = Pair::new(|settings| settings.stream_send_budget = 100_000);
    let id = pair.stream();
    let mut data = Bytes::from(vec![1; 150_000]);

    pair.client.write(id, &mut data);

    assert_eq!(data.len(), 50_000);
    assert_eq!(pair.client.send_capacity(id), 0);
    assert_eq!(events(&mut pair.client), []);
    pair.client.poll_transmit(PAYLOAD).unwrap();
    assert_eq!(events(&mut pair.client), []);
    pair.client.poll_transmit(PAYLOAD).unwrap();
    assert_eq!(events(&mut pair.client), [Event::Writable(id)]);
    assert!(pair.client.send_capacity(id) > 50_000);
}

#[test]
fn full_session_still_takes_a_little_of_every_stream() {
    let mut pair = Pair::new(|settings| settings.send_budget = 100_000);
    let greedy = pair.stream();
    let modest = pair.stream();

    let mut data = Bytes::from(vec![1; 150_000]);
    pair.client.write(greedy, &mut data);

    assert_eq!(data.len(), 50_000);
    assert_eq!(pair.client.send_capacity(greedy), 0);
    assert_eq!(pair.client.send_capacity(modest), Settings::SEND_FLOOR);
}

#[test]
fn stream_that_found_the_session_full_learns_of_room() {
    let mut pair = Pair::new(|settings| settings.send_budget = 100_000);
    let greedy = pair.stream();
    let modest = pair.stream();
    pair.client
        .write(greedy, &mut Bytes::from(vec![1; 150_000]));
    pair.client.write(modest, &mut Bytes::from(vec![2; 10_000]));
    assert_eq!(pair.client.send_capacity(modest), 0);

    while !events(&mut pair.client).contains(&Event::Writable(modest)) {
        pair.client.poll_transmit(1024).expect("it never learned");
    }

    assert!(pair.client.send_capacity(modest) > 0);
}

#[test]
fn streams_take_turns() {
    let mut pair = Pair::new(|_| {});
    let ids = [pair.stream(), pair.stream(), pair.stream()];
    for id in ids {
        write(&mut pair.client, id, vec![1; 100_000]);
    }

    let order: Vec<u32> = frames(&mut pair.client)
        .into_iter()
        .map(|(_, id, _)| id)
        .take(6)
        .collect();

    assert_eq!(order, [3, 5, 7, 3, 5, 7]);
}

#[test]
fn small_writes_of_many_streams_share_a_payload() {
    let mut pair = Pair::new(|_| {});
    let ids: Vec<StreamId> = (0..50).map(|_| pair.stream()).collect();
    for id in &ids {
        write(&mut pair.client, *id, "small");
        write(&mut pair.client, *id, " talk");
    }

    let piece = pair.client.poll_transmit(PAYLOAD).unwrap();

    assert_eq!(piece.len(), 50 * (HEADER_LENGTH + 10));
    assert_eq!(pair.client.poll_transmit(PAYLOAD), None);
}

#[test]
fn frame_ends_with_its_payload_if_that_is_large() {
    let mut pair = Pair::new(|_| {});
    let id = pair.stream();
    for _ in 0..10 {
        write(&mut pair.client, id, vec![1; 20_000]);
    }

    for _ in 0..6 {
        let piece = pair.client.poll_transmit(PAYLOAD).unwrap();

        let header = Header::decode(*piece.first_chunk().unwrap()).unwrap();
        assert_eq!(piece.len(), PAYLOAD);
        assert_eq!(usize::from(header.length), PAYLOAD - HEADER_LENGTH);
    }
}

#[test]
fn large_frame_goes_on_through_small_payloads_without_being_copied() {
    let mut pair = Pair::new(|_| {});
    let id = pair.stream();
    let data = Bytes::from(vec![1; 30_000]);
    write(&mut pair.client, id, data.clone());

    let pieces: Vec<Bytes> = std::iter::from_fn(|| pair.client.poll_transmit(1024)).collect();

    let (last, full) = pieces.split_last().unwrap();
    assert!(full.iter().all(|piece| piece.len() == 1024));
    assert_eq!(last.len(), (30_000 + HEADER_LENGTH) % 1024);
    let shares = |piece: &Bytes| data.as_ptr_range().contains(&piece.as_ptr());
    assert!(full[1..].iter().all(shares));
}

#[test]
fn fin_goes_out_behind_all_that_was_written() {
    for payload in [9, 64, 1024, PAYLOAD] {
        let mut pair = Pair::new(|_| {});
        let id = pair.client.open(pair.now).unwrap();
        write(&mut pair.client, id, vec![1; 100_000]);
        pair.client.finish(id);

        let mut received = 0;
        while let Some(piece) = pair.client.poll_transmit(payload) {
            assert!(piece.len() <= payload);
            pair.server.handle_bytes(piece, pair.now).unwrap();
            received += read_all(&mut pair.server, id, pair.now).len();
        }

        assert_eq!(received, 100_000);
        let finished = Event::PeerFinished {
            id,
            may_still_read: true,
        };
        assert_eq!(events(&mut pair.server), [Event::Opened(id), finished]);
    }
}

#[test]
fn what_is_written_after_finish_is_dropped() {
    let mut pair = Pair::new(|_| {});
    let id = pair.stream();

    pair.client.finish(id);
    write(&mut pair.client, id, "too late");

    assert_eq!(pair.client.send_capacity(id), 0);
    assert_eq!(frames(&mut pair.client), [(Command::Fin, id.0, Vec::new())]);
}
