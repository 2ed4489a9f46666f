use super::*;

#[test]
fn acknowledgements_and_states_go_out_before_data_and_during_a_pause() {
    let mut bench = Bench::shell();
    bench.channel.send(output(b"data"), bench.now).unwrap();
    bench.channel.send_state(SessionState::Connected, bench.now);
    bench
        .channel
        .handle_message(service(MessageType::PausePublication, b""), bench.now)
        .unwrap();
    bench.receive_unacknowledged_size(0);
    bench
        .channel
        .handle_message(service(MessageType::PausePublication, b""), bench.now)
        .unwrap();

    bench.pump();

    let types: Vec<_> = bench.sent.iter().map(|m| m.message_type.clone()).collect();
    assert_eq!(
        types,
        [MessageType::Acknowledge, MessageType::AgentSessionState]
    );
    bench
        .channel
        .handle_message(service(MessageType::StartPublication, b""), bench.now)
        .unwrap();
    bench.pump();
    assert_eq!(bench.sent[2].message_type, MessageType::OutputStreamData);
}

#[test]
fn pause_stops_output_until_anything_comes_from_the_client() {
    let wake: [fn(&mut Bench); 3] = [
        |bench| bench.receive_input(0, PayloadType::Output, b"x"),
        |bench| bench.acknowledge(77),
        |bench| {
            bench.channel.handle_disconnected(bench.now);
            bench.channel.handle_connected(bench.now);
        },
    ];
    for wake in wake {
        let mut bench = Bench::shell();
        bench
            .channel
            .handle_message(service(MessageType::PausePublication, b""), bench.now)
            .unwrap();
        assert_eq!(bench.channel.send_capacity(), 0);
        assert_eq!(bench.channel.poll_event(), Some(Event::Paused));
        bench.send_output(b"later");
        assert!(bench.sent.is_empty());
        assert_eq!(bench.channel.poll_timeout(), None);

        wake(&mut bench);
        bench.pump();

        assert_eq!(bench.channel.poll_event(), Some(Event::Resumed));
        assert!(bench.sent.iter().any(|m| m.payload == "later"));
        assert!(bench.channel.send_capacity() > 0);
    }
}

#[test]
fn start_publication_tells_the_clients_features_and_repeats_what_was_lost() {
    let mut bench = Bench::shell();
    bench.send_output(b"prompt");
    let features = PeerFeatures::ours();

    let start = service(
        MessageType::StartPublication,
        features.to_string().as_bytes(),
    );
    bench
        .channel
        .handle_message(start.clone(), bench.now)
        .unwrap();
    bench.pump();

    assert_eq!(
        bench.channel.poll_event(),
        Some(Event::PeerFeatures(features))
    );
    assert_eq!(
        bench.channel.peer(),
        PeerFeatures {
            empty_output: false,
            ..features
        }
    );
    assert_eq!(bench.sent.len(), 2);
    assert_eq!(bench.sent[0], bench.sent[1]);
    bench.channel.handle_message(start, bench.now).unwrap();
    assert_eq!(bench.channel.poll_event(), None, "no news");
    bench
        .channel
        .handle_message(
            service(MessageType::StartPublication, b"{\"x\":1}"),
            bench.now,
        )
        .unwrap();
    assert_eq!(
        bench.channel.poll_event(),
        Some(Event::PeerFeatures(PeerFeatures::default()))
    );
}

#[test]
fn gateway_ends_the_session_and_close_answers_at_once() {
    let mut bench = Bench::shell();
    bench.send_output(b"never acknowledged");

    let closed = service(
        MessageType::ChannelClosed,
        br#"{"SessionId":"s","Output":"bye"}"#,
    );
    bench
        .channel
        .handle_message(closed.clone(), bench.now)
        .unwrap();
    bench.channel.handle_message(closed, bench.now).unwrap();
    assert_eq!(
        bench.channel.send(output(b"x"), bench.now),
        Err(SendError::Closed)
    );
    bench.channel.close(bench.now);

    assert!(
        matches!(bench.channel.poll_event(), Some(Event::Closed(closed)) if closed.output == "bye")
    );
    assert_eq!(bench.channel.poll_event(), Some(Event::Drained(false)));
    assert_eq!(bench.channel.poll_event(), None);
    assert_eq!(bench.channel.poll_timeout(), None);
}

#[test]
fn malformed_channel_closed_ends_the_client_but_not_the_agent() {
    for (mut bench, ends) in [(Bench::client(), true), (Bench::shell(), false)] {
        let outcome = bench
            .channel
            .handle_message(service(MessageType::ChannelClosed, b"{"), bench.now);

        assert_eq!(outcome.is_ok(), ends);
        let event = bench.channel.poll_event();
        assert_eq!(
            matches!(event, Some(Event::Closed(closed)) if closed.session_id == "s-1"),
            ends
        );
    }
}

#[test]
fn close_waits_for_acknowledgements_and_then_says_so_once() {
    let mut bench = Bench::shell();
    bench.send_output(b"last words");

    bench.channel.close(bench.now);
    assert_eq!(
        bench.channel.send(output(b"x"), bench.now),
        Err(SendError::Closed)
    );
    assert_eq!(bench.channel.poll_event(), None);
    bench.acknowledge(0);
    bench.channel.close(bench.now);

    assert_eq!(bench.channel.poll_event(), Some(Event::Drained(true)));
    assert_eq!(bench.channel.poll_event(), None);
}

#[test]
fn close_gives_up_at_the_deadline_even_if_paused_or_disconnected() {
    for hinder in [
        |bench: &mut Bench| bench.channel.handle_disconnected(bench.now),
        |bench: &mut Bench| {
            let pause = service(MessageType::PausePublication, b"");
            bench.channel.handle_message(pause, bench.now).unwrap();
            bench.channel.poll_event();
        },
    ] {
        let mut bench = Bench::shell();
        bench.send_output(b"x");
        hinder(&mut bench);
        bench.channel.close(bench.now);
        assert_eq!(
            bench.channel.poll_timeout(),
            Some(bench.now + Settings::DRAIN)
        );

        bench.now += Settings::DRAIN;
        bench.channel.handle_timeout(bench.now);

        assert_eq!(bench.channel.poll_event(), Some(Event::Drained(false)));
        assert_eq!(bench.channel.poll_timeout(), None);
        bench.pump();
        assert_eq!(bench.channel.held().sending.messages, 0);
    }
}

#[test]
fn nothing_is_written_without_a_connection() {
    let mut bench = Bench::shell();
    bench.channel.handle_disconnected(bench.now);
    bench.channel.send_state(SessionState::Connected, bench.now);

    bench.send_output(b"kept");
    assert!(bench.sent.is_empty());
    bench.channel.handle_connected(bench.now);
    bench.pump();

    assert_eq!(bench.sent.len(), 2);
}
