//! Results of sessions on their way to the gateway.
//!
//! A result is sent again, under the same message id, until the gateway acknowledges it: after 1 s as
//! the reference does, then with doubling waits. The reference gives up after three transmissions
//! and forgets everything with the connection; here results outlive connections.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::warn;

use crate::protocol::wire::task::TaskComplete;
use crate::protocol::wire::{Message, MessageId, MessageType, PayloadType, PeerFeatures};

/// Results kept while the gateway does not take them; beyond that the oldest are dropped.
const CAPACITY: usize = 1000;
/// Time until the first repetition, as in the reference.
const RESEND_FIRST: Duration = Duration::from_secs(1);
/// Longest time between two transmissions.
const RESEND_MAX: Duration = Duration::from_mins(1);
/// A gateway that does not acknowledge a result for this long on one connection never will.
const GIVE_UP_AFTER: Duration = Duration::from_hours(1);

/// Takes results of sessions. A clone is the same outbox.
#[derive(Debug, Clone)]
pub struct Outbox {
    results: mpsc::Sender<TaskComplete>,
}

impl Outbox {
    pub(super) fn new() -> (Self, mpsc::Receiver<TaskComplete>) {
        let (results, receiver) = mpsc::channel(CAPACITY);
        (Self { results }, receiver)
    }

    /// Hands over a session's result; it is delivered when the gateway can be reached.
    pub async fn complete(&self, result: TaskComplete) {
        if let Err(undelivered) = self.results.send(result).await {
            let session = undelivered.0.task_id;
            warn!(
                session,
                "the control channel is closed, the result of the session is lost"
            );
        }
    }
}

/// The results that the gateway has not acknowledged.
#[derive(Debug, Default)]
pub struct Deliveries {
    pending: VecDeque<Delivery>,
}

#[derive(Debug)]
struct Delivery {
    result: TaskComplete,
    id: MessageId,
    created_ms: u64,
    /// When to send it next.
    due: Instant,
    /// Wait after that.
    wait: Duration,
    /// First transmission on this connection.
    first_sent: Option<Instant>,
    transmissions: u32,
}

impl Deliveries {
    /// Takes a result, to be sent at once. Returns the one that had to go for it, if any.
    #[must_use]
    pub fn handle_result(
        &mut self,
        result: TaskComplete,
        id: MessageId,
        created_ms: u64,
        now: Instant,
    ) -> Option<TaskComplete> {
        let is_full = self.pending.len() >= CAPACITY;
        let dropped = is_full.then(|| self.pending.pop_front()).flatten();
        self.pending.push_back(Delivery {
            result,
            id,
            created_ms,
            due: now,
            wait: RESEND_FIRST,
            first_sent: None,
            transmissions: 0,
        });
        dropped.map(|delivery| delivery.result)
    }

    /// The gateway has taken the message with this id; returns whether it was still waited for.
    pub fn handle_acknowledgement(&mut self, message_id: &str) -> bool {
        let before = self.pending.len();
        self.pending
            .retain(|delivery| !delivery.id.to_string().eq_ignore_ascii_case(message_id));
        self.pending.len() < before
    }

    /// There is a new connection: everything goes out again at once.
    pub fn handle_connected(&mut self, now: Instant) {
        for delivery in &mut self.pending {
            delivery.due = now;
            delivery.wait = RESEND_FIRST;
            delivery.first_sent = None;
        }
    }

    /// Gives up on results that the gateway leaves unacknowledged, and returns them.
    #[must_use]
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<TaskComplete> {
        let is_hopeless = |delivery: &Delivery| {
            let first_sent = delivery.first_sent;
            first_sent.is_some_and(|at| now.saturating_duration_since(at) >= GIVE_UP_AFTER)
        };
        let (hopeless, pending) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition::<VecDeque<_>, _>(is_hopeless);
        self.pending = pending;
        hopeless
            .into_iter()
            .map(|delivery| delivery.result)
            .collect()
    }

    /// The next message that is due, for a gateway with these features.
    pub fn poll_message(&mut self, gateway: PeerFeatures, now: Instant) -> Option<Message> {
        let delivery = self
            .pending
            .iter_mut()
            .find(|delivery| delivery.due <= now)?;
        Some(delivery.transmit(gateway, now))
    }

    /// When [`Self::poll_message`] or [`Self::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.pending.iter().map(|delivery| delivery.due).min()
    }

    /// How many results are not acknowledged.
    pub fn len(&self) -> usize {
        self.pending.len()
    }
}

impl Delivery {
    fn transmit(&mut self, gateway: PeerFeatures, now: Instant) -> Message {
        self.transmissions += 1;
        self.first_sent.get_or_insert(now);
        self.due = now + self.wait;
        self.wait = (self.wait * 2).min(RESEND_MAX);
        let mut result = TaskComplete {
            retry_number: self.transmissions,
            ..self.result.clone()
        };
        if !gateway.exit_code {
            result.exit_code = None;
        }
        if !gateway.recordings {
            result.recordings.clear();
        }
        Message {
            message_type: MessageType::AgentTaskComplete,
            created_ms: self.created_ms,
            sequence_number: 0,
            flags: 0,
            id: self.id,
            payload_type: PayloadType::None,
            payload: result.encode(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::wire::task::{Recording, TaskStatus};

    /// A gateway of ours; it has every feature.
    const OURS: PeerFeatures = PeerFeatures::ours();
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn unacknowledged_result_is_sent_again_under_the_same_id() {
        let (mut deliveries, now) = with_results(1);

        let first = deliveries.poll_message(OURS, now).unwrap();
        let too_early = deliveries.poll_message(OURS, now + SECOND / 2);
        let second = deliveries.poll_message(OURS, now + SECOND).unwrap();

        assert_eq!(too_early, None);
        assert_eq!(first.id, second.id);
        assert_eq!(first.created_ms, second.created_ms);
        assert_eq!((retry_number(&first), retry_number(&second)), (1, 2));
    }

    #[test]
    fn acknowledged_result_is_forgotten() {
        let (mut deliveries, now) = with_results(2);
        let first = deliveries.poll_message(OURS, now).unwrap();
        deliveries.poll_message(OURS, now).unwrap();

        assert!(deliveries.handle_acknowledgement(&first.id.to_string()));
        assert!(!deliveries.handle_acknowledgement(&first.id.to_string()));
        assert!(!deliveries.handle_acknowledgement("garbage"));

        let left = deliveries.poll_message(OURS, now + SECOND).unwrap();
        assert_ne!(left.id, first.id);
        assert_eq!(deliveries.poll_message(OURS, now + SECOND), None);
    }

    #[test]
    fn repetitions_slow_down_and_end() {
        let (mut deliveries, mut now) = with_results(1);
        let start = now;
        let mut transmissions = 0;

        let given_up = loop {
            while deliveries.poll_message(OURS, now).is_some() {
                transmissions += 1;
            }
            now = deliveries.poll_timeout().unwrap();
            let given_up = deliveries.handle_timeout(now);
            if !given_up.is_empty() {
                break given_up;
            }
        };

        assert_eq!(given_up[0].task_id, "session-0");
        assert_eq!(deliveries.len(), 0);
        assert!(now - start >= GIVE_UP_AFTER && now - start <= GIVE_UP_AFTER + RESEND_MAX);
        assert!((60..70).contains(&transmissions), "{transmissions}");
    }

    #[test]
    fn new_connection_sends_everything_at_once_and_counts_on() {
        let (mut deliveries, now) = with_results(2);
        deliveries.poll_message(OURS, now).unwrap();
        deliveries.poll_message(OURS, now).unwrap();
        let hours_later = now + 5 * GIVE_UP_AFTER;

        deliveries.handle_connected(hours_later);
        let given_up = deliveries.handle_timeout(hours_later);
        let first = deliveries.poll_message(OURS, hours_later).unwrap();
        let second = deliveries.poll_message(OURS, hours_later).unwrap();

        assert_eq!(given_up, []);
        assert_eq!((retry_number(&first), retry_number(&second)), (2, 2));
        assert_eq!(deliveries.poll_message(OURS, hours_later), None);
    }

    #[test]
    fn oldest_result_makes_room_when_there_are_too_many() {
        let (mut deliveries, now) = with_results(CAPACITY);

        let dropped = deliveries.handle_result(result(CAPACITY), id(CAPACITY), 1, now);

        assert_eq!(dropped.unwrap().task_id, "session-0");
        assert_eq!(deliveries.len(), CAPACITY);
    }

    #[test]
    fn exit_code_and_recordings_are_kept_from_gateways_that_do_not_know_them() {
        let (mut deliveries, now) = with_results(1);

        let without = deliveries
            .poll_message(PeerFeatures::default(), now)
            .unwrap();
        let with = deliveries.poll_message(OURS, now + SECOND).unwrap();

        let without = TaskComplete::decode(&without.payload).unwrap();
        let with = TaskComplete::decode(&with.payload).unwrap();
        assert_eq!((without.exit_code, without.recordings.len()), (None, 0));
        assert_eq!((with.exit_code, with.recordings.len()), (Some(3), 1));
    }

    fn with_results(count: usize) -> (Deliveries, Instant) {
        let now = Instant::now();
        let mut deliveries = Deliveries::default();
        for number in 0..count {
            let dropped = deliveries.handle_result(result(number), id(number), 1, now);
            assert_eq!(dropped, None);
        }
        (deliveries, now)
    }

    fn result(number: usize) -> TaskComplete {
        let session = format!("session-{number}");
        TaskComplete {
            exit_code: Some(3),
            recordings: vec![Recording {
                file: format!("{session}.cast"),
                bytes: 7,
                sha256: "ab".into(),
            }],
            ..TaskComplete::new(&session, "mi-1", TaskStatus::Success, "")
        }
    }

    fn id(number: usize) -> MessageId {
        MessageId::from_random((number as u128).to_be_bytes())
    }

    fn retry_number(message: &Message) -> u32 {
        TaskComplete::decode(&message.payload).unwrap().retry_number
    }
}
