use std::time::Duration;

use super::*;
use crate::protocol::wire::{MessageId, MessageType, PayloadType};

const MS: Duration = Duration::from_millis(1);

#[test]
fn messages_are_numbered_in_order_when_first_sent() {
    let mut bench = Bench::new();
    bench.push(3);

    assert_eq!(bench.transmit(), [0, 1, 2]);
    assert_eq!(bench.window.next_number(), 3);
}

#[test]
fn only_message_0_carries_the_first_flags() {
    let mut bench = Bench::new();
    bench.window.first_flags = 1;
    bench.push(2);

    let flags: Vec<_> = std::iter::from_fn(|| bench.transmit_one())
        .map(|message| message.flags)
        .collect();

    assert_eq!(flags, [1, 0]);
}

#[test]
fn window_counts_bytes_and_messages_until_they_are_acknowledged() {
    let mut bench = Bench::new();
    bench.window.limit = Window {
        bytes: 100,
        messages: 3,
    };
    bench.push(2);
    assert_eq!(bench.window.capacity(), 80);

    bench.push(1);
    assert_eq!(bench.window.capacity(), 0);
    bench.transmit();
    bench.acknowledge(1);

    assert_eq!(bench.window.capacity(), 80);
    bench.acknowledge(1);
    bench.acknowledge(77);
    bench.acknowledge(-1);
    assert_eq!(bench.window.held().messages, 2);
}

#[test]
fn resends_unacknowledged_message_after_timeout_unchanged() {
    let mut bench = Bench::new();
    bench.push(1);
    let first = bench.raw().unwrap();

    bench.advance(199 * MS);
    assert_eq!(bench.raw(), None);
    bench.advance(MS);

    assert_eq!(bench.raw(), Some(first));
}

#[test]
fn silence_backs_off_exponentially_up_to_five_seconds() {
    let mut bench = Bench::new();
    bench.push(1);
    bench.transmit();

    let mut waits = Vec::new();
    for _ in 0..8 {
        let before = bench.now;
        bench.now = bench.window.poll_timeout().unwrap();
        bench.advance(Duration::ZERO);
        assert_eq!(bench.transmit(), [0]);
        waits.push(bench.now.duration_since(before).as_millis());
    }

    assert_eq!(waits, [200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
}

#[test]
fn no_timer_runs_when_nothing_is_outstanding() {
    let mut bench = Bench::new();
    assert_eq!(bench.window.poll_timeout(), None);
    bench.push(1);
    bench.transmit();

    bench.acknowledge(0);

    assert_eq!(bench.window.poll_timeout(), None);
}

#[test]
fn slow_but_steady_acknowledgements_cause_no_repeats() {
    let mut bench = Bench::new();
    bench.push(40);
    bench.transmit();

    for sequence_number in 0..40 {
        bench.advance(150 * MS);
        bench.acknowledge(sequence_number);
        assert!(bench.transmit().is_empty());
    }
}

#[test]
fn passed_message_goes_out_again_while_others_are_acknowledged() {
    let mut bench = Bench::new();
    bench.push(10);
    bench.transmit();

    bench.advance(150 * MS);
    bench.acknowledge(1);
    bench.advance(60 * MS);
    bench.acknowledge(2);

    assert!(bench.transmit().is_empty());
    bench.advance(1000 * MS);
    assert_eq!(bench.transmit()[0], 0);
}

#[test]
fn silence_repeats_a_burst_and_doubles_it_when_answered() {
    let mut bench = Bench::new();
    bench.push_sized(10, 30 << 10);
    bench.transmit();

    bench.advance(200 * MS);
    assert_eq!(bench.transmit(), [0, 1, 2]);
    for sequence_number in [0, 1, 2] {
        bench.acknowledge(sequence_number);
    }
    bench.advance(200 * MS);

    assert_eq!(bench.transmit(), [3, 4, 5, 6, 7]);
}

#[test]
fn silent_burst_goes_on_where_the_last_one_ended() {
    let mut bench = Bench::new();
    bench.push_sized(6, 30 << 10);
    bench.transmit();

    let mut bursts = Vec::new();
    for _ in 0..3 {
        bench.advance(Duration::from_secs(5));
        bursts.push(bench.transmit());
    }

    assert_eq!(bursts, [[0, 1, 2], [3, 4, 5], [0, 1, 2]]);
}

#[test]
fn acknowledged_originals_stop_the_recovery() {
    let mut bench = Bench::new();
    bench.push_sized(10, 30 << 10);
    bench.transmit();
    bench.advance(300 * MS);
    assert_eq!(bench.transmit(), [0, 1, 2]);

    for sequence_number in [0, 1, 2, 3] {
        bench.acknowledge(sequence_number);
    }
    bench.advance(100 * MS);

    assert!(bench.transmit().is_empty());
}

#[test]
fn everything_unacknowledged_goes_out_at_once_and_first_after_a_reconnect() {
    let mut bench = Bench::new();
    bench.push(5);
    bench.transmit();
    bench.acknowledge(1);
    bench.push(2);

    bench.window.start_over(bench.now);

    assert_eq!(bench.transmit(), [0, 2, 3, 4, 5, 6]);
}

#[test]
fn ambiguous_acknowledgement_gives_no_sample() {
    let mut bench = Bench::new();
    bench.push(1);
    bench.transmit();
    bench.advance(2000 * MS);
    bench.transmit();

    bench.advance(2000 * MS);
    bench.acknowledge(0);

    assert_eq!(bench.window.round_trip.timeout(), 200 * MS);
}

#[test]
fn newest_message_stays_within_the_span_of_the_oldest() {
    let mut bench = Bench::new();
    bench.window.limit.messages = usize::MAX;
    bench.push_sized(9000, 0);

    let sent = bench.transmit();
    assert_eq!(sent.last(), Some(&(SPAN - 1)));
    for sequence_number in 1..SPAN {
        bench.acknowledge(sequence_number);
    }
    assert!(bench.transmit().is_empty());
    bench.acknowledge(0);

    assert_eq!(bench.transmit().len(), 9000 - 8192);
}

#[test]
fn emptied_window_gives_its_memory_back() {
    let mut bench = Bench::new();
    bench.push_sized(4000, 0);
    bench.transmit();

    for sequence_number in 0..4000 {
        bench.acknowledge(sequence_number);
    }

    assert_eq!(bench.window.outstanding.capacity(), 0);
    assert_eq!(bench.window.flights.capacity(), 0);
    assert_eq!(bench.window.queued.capacity(), 0);
}

#[test]
fn mute_peer_gets_nothing_more_before_it_took_the_first_message() {
    let mut bench = Bench::mute();
    bench.push(3);

    assert_eq!(bench.transmit(), [0]);
    bench.acknowledge(0);

    assert_eq!(bench.transmit(), [1, 2]);
}

#[test]
fn mute_and_ready_peer_is_presumed_to_have_what_16_rounds_passed() {
    let mut bench = Bench::mute_with_lost_acknowledgements(1);

    for round in 1..=16 {
        assert_eq!(bench.window.held().messages, 1, "round {round}");
        bench.round();
    }

    assert_eq!(bench.window.held().messages, 0);
    bench.advance(Duration::from_secs(60));
    assert!(bench.transmit().is_empty());
    assert_eq!(bench.window.poll_timeout(), None);
}

#[test]
fn younger_messages_follow_the_oldest_and_are_repeated_less() {
    let mut bench = Bench::mute_with_lost_acknowledgements(20);
    let mut repeats = 0;

    for _ in 0..16 {
        repeats += bench.round();
    }

    assert_eq!(bench.window.held().messages, 0);
    // Not counting the transmissions after the reconnect, which made the first round.
    assert_eq!(repeats, 15 + 19 * 2);
}

#[test]
fn nothing_is_presumed_of_a_peer_that_acknowledges_repeats() {
    let mut bench = Bench::mute_with_lost_acknowledgements(1);
    bench.window.set_listener(false, true);

    for _ in 0..30 {
        bench.round();
    }

    assert_eq!(bench.window.held().messages, 1);
}

#[test]
fn nothing_is_presumed_where_the_owner_forbids_it() {
    let mut bench = Bench::mute_with_lost_acknowledgements(1);
    bench.window.set_listener(true, false);

    for _ in 0..30 {
        bench.round();
    }

    assert_eq!(bench.window.held().messages, 1);
}

#[test]
fn nothing_is_presumed_before_the_peer_is_ready() {
    let mut bench = Bench::mute_with_lost_acknowledgements(1);
    bench.window.listener.is_ready = false;

    for _ in 0..30 {
        bench.round();
    }

    assert_eq!(bench.window.held().messages, 1);
}

#[test]
fn rounds_do_not_outlive_a_connection() {
    let mut bench = Bench::mute_with_lost_acknowledgements(1);
    for _ in 0..15 {
        bench.round();
    }

    bench.window.start_over(bench.now);
    bench.transmit();
    bench.round();

    assert_eq!(bench.window.held().messages, 1);
}

#[test]
fn idle_line_is_probed_until_the_message_is_presumed_delivered() {
    let mut bench = Bench::mute_with_lost_acknowledgements(1);
    let stuck = bench.window.base;
    let mut probes = 0;

    for _ in 0..60 {
        bench.advance(Duration::from_secs(5));
        for sequence_number in bench.transmit() {
            if sequence_number > stuck {
                probes += 1;
                bench.acknowledge(sequence_number);
            }
        }
    }

    assert_eq!(bench.window.held().messages, 0);
    assert_eq!(probes, 16);
    assert_eq!(bench.window.poll_timeout(), None);
}

#[test]
fn no_probe_follows_an_unanswered_handshake_request() {
    let mut bench = Bench::mute();
    bench
        .window
        .push(encoded(b"request".to_vec()), Kind::HandshakeRequest);
    bench.transmit();

    for _ in 0..100 {
        bench.advance(Duration::from_secs(5));
        assert_eq!(bench.transmit(), [0]);
    }
}

#[test]
fn unanswered_probes_are_few_and_fill_no_window() {
    let mut bench = Bench::mute_with_lost_acknowledgements(1);
    let held = bench.window.held();

    for _ in 0..1000 {
        bench.advance(Duration::from_secs(5));
        bench.transmit();
    }

    assert_eq!(bench.window.outstanding.len(), 1 + 4);
    assert_eq!(bench.window.held(), held);
}

/// A window under test, with a clock of its own.
struct Bench {
    window: SendWindow,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            window: SendWindow::new(Window::SEND, 0, now),
            now,
        }
    }

    fn mute() -> Self {
        let mut bench = Self::new();
        bench.window.set_listener(true, true);
        bench
    }

    /// A ready peer that took `count` messages whose acknowledgements went down with a connection.
    fn mute_with_lost_acknowledgements(count: usize) -> Self {
        let mut bench = Self::mute();
        bench.push(1);
        bench.transmit();
        bench.acknowledge(0);
        bench.window.note_ready();
        bench.push(count);
        bench.transmit();
        bench.window.start_over(bench.now);
        assert_eq!(bench.transmit().len(), count);
        bench
    }

    /// Sends one more message, which is acknowledged, and lets time pass; returns how many messages
    /// were repeated before it.
    fn round(&mut self) -> usize {
        self.push(1);
        let sent = self.transmit();
        self.acknowledge(*sent.last().unwrap());
        self.advance(Duration::from_secs(5));
        sent.len() - 1
    }

    fn push(&mut self, count: usize) {
        self.push_sized(count, 10);
    }

    fn push_sized(&mut self, count: usize, size: usize) {
        for _ in 0..count {
            self.window.push(encoded(vec![0; size]), Kind::Output);
        }
    }

    fn raw(&mut self) -> Option<Bytes> {
        self.window.transmit(self.now, || encoded(Vec::new()))
    }

    fn transmit_one(&mut self) -> Option<Message> {
        self.raw().map(|raw| Message::decode(&raw).unwrap())
    }

    fn transmit(&mut self) -> Vec<i64> {
        std::iter::from_fn(|| self.transmit_one())
            .map(|message| message.sequence_number)
            .collect()
    }

    fn acknowledge(&mut self, sequence_number: i64) {
        self.window.acknowledge(sequence_number, self.now);
    }

    fn advance(&mut self, duration: Duration) {
        self.now += duration;
        self.window.handle_timeout(self.now);
    }
}

fn encoded(payload: Vec<u8>) -> BytesMut {
    let mut encoded = BytesMut::new();
    Message {
        message_type: MessageType::OutputStreamData,
        created_ms: 1,
        sequence_number: 0,
        flags: 0,
        id: MessageId::from_wire([1; 16]),
        payload_type: PayloadType::Output,
        payload: payload.into(),
    }
    .encode_into(&mut encoded);
    encoded
}
