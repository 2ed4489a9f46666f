use super::*;

const TIMED_OUT: &str = "Handshake timed out. Please ensure that you have the latest version of the session manager plugin.";

#[test]
fn handshake_request_is_message_0_and_data_waits_for_the_response() {
    let mut bench = Bench::port();

    bench.pump();
    assert_eq!(bench.sent[0].payload_type, PayloadType::HandshakeRequest);
    assert_eq!((bench.sent[0].sequence_number, bench.sent[0].flags), (0, 1));
    let refused = bench.channel.send(output(b"early"), bench.now);
    assert_eq!(refused, Err(SendError::NotOpen));
    assert_eq!(bench.channel.send_capacity(), 0);

    bench.receive_input(0, PayloadType::HandshakeResponse, &response(1));
    bench.pump();

    let Some(Event::Open {
        session_type,
        peer_version,
        ..
    }) = bench.channel.poll_event()
    else {
        panic!("not open");
    };
    assert_eq!(
        (session_type.as_str(), peer_version.as_str()),
        ("Port", "1.2.0.0")
    );
    assert_eq!(bench.acknowledged(), [0]);
    assert_eq!(
        bench.sent.last().unwrap().payload_type,
        PayloadType::HandshakeComplete
    );
    assert_eq!(
        bench.channel.held().sending.messages,
        1,
        "the answer says the request was taken"
    );
}

#[test]
fn data_during_the_handshake_is_acknowledged_and_discarded() {
    let mut bench = Bench::port();

    bench.receive_input(0, PayloadType::Size, br#"{"cols":80,"rows":24}"#);
    bench.receive_input(
        2,
        PayloadType::Output,
        b"kept, its turn comes after the response",
    );
    bench.receive_input(1, PayloadType::HandshakeResponse, &response(1));
    bench.pump();

    assert_eq!(bench.acknowledged(), [0, 2, 1]);
    let delivered = bench.channel.poll_delivery(bench.now);
    assert_eq!(
        delivered,
        Some(output(b"kept, its turn comes after the response"))
    );
    assert_eq!(bench.channel.poll_delivery(bench.now), None);
}

#[test]
fn handshake_fails_15_seconds_after_the_first_connection() {
    let mut bench = Bench::port();
    assert_eq!(
        bench.channel.poll_timeout(),
        Some(bench.now + Duration::from_secs(15))
    );
    bench.now += Duration::from_secs(10);
    bench.channel.handle_disconnected(bench.now);
    bench.channel.handle_connected(bench.now);

    bench.now += Duration::from_secs(5);
    bench.channel.handle_timeout(bench.now);

    assert_eq!(
        bench.channel.poll_event(),
        Some(Event::HandshakeFailed(TIMED_OUT.into()))
    );
    assert_eq!(
        bench.channel.send(output(b"x"), bench.now),
        Err(SendError::NotOpen)
    );
}

#[test]
fn refused_handshake_fails_and_its_response_is_acknowledged() {
    let mut bench = Bench::port();

    bench.receive_input(0, PayloadType::HandshakeResponse, &response(2));
    bench.pump();

    let text = "SessionType failed on client with status 2 error: why";
    assert_eq!(
        bench.channel.poll_event(),
        Some(Event::HandshakeFailed(text.into()))
    );
    assert_eq!(bench.acknowledged(), [0]);
}

#[test]
fn client_acknowledges_the_request_before_it_answers() {
    let mut bench = Bench::client();

    let request = br#"{"AgentVersion":"3.3.0.0","RequestedClientActions":[{"ActionType":"SessionType","ActionParameters":{"SessionType":"NonInteractiveCommands","Properties":null}}]}"#;
    bench.receive(0, PayloadType::HandshakeRequest, request);
    bench.pump();
    assert_eq!(
        bench.channel.send(output(b"x"), bench.now),
        Err(SendError::NotOpen)
    );
    bench.receive(
        1,
        PayloadType::HandshakeComplete,
        br#"{"HandshakeTimeToComplete":1,"CustomerMessage":"hi"}"#,
    );

    assert_eq!(bench.sent[0].message_type, MessageType::Acknowledge);
    assert_eq!(bench.sent[1].payload_type, PayloadType::HandshakeResponse);
    assert_eq!(
        bench.channel.poll_event(),
        Some(Event::Open {
            session_type: "NonInteractiveCommands".into(),
            properties: Value::Null,
            peer_version: "3.3.0.0".into(),
            customer_message: "hi".into(),
        })
    );
}

#[test]
fn empty_output_opens_a_shell_and_is_acknowledged_but_not_delivered() {
    let mut bench = Bench::client();

    bench.receive_output(0, b"");
    bench.pump();

    assert!(
        matches!(bench.channel.poll_event(), Some(Event::Open { session_type, .. }) if session_type == "Standard_Stream")
    );
    assert_eq!(bench.acknowledged(), [0]);
    assert_eq!(bench.channel.poll_delivery(bench.now), None);
    bench.channel.send(output(b"x"), bench.now).unwrap();
}
