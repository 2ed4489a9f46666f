//! When replies are sent, and sent again: under the same id, after a second (30 s where a reply is a call
//! of its own), then with doubling waits, and at once on a new connection. The reference waits five
//! minutes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::replies::{KEPT, Reply};
use crate::protocol::wire::Message;

/// Time until the first repetition: as long as the reference waits for an acknowledgement.
pub(super) const RESEND_FIRST: Duration = Duration::from_secs(1);
/// The same where a reply is a call, which fails by itself before that and is retried then.
pub(super) const CALL_AGAIN: Duration = Duration::from_secs(30);
/// Longest time between two transmissions: as often as the reference repeats.
const RESEND_MAX: Duration = Duration::from_mins(5);
/// Replies that are not acknowledged at one time; the others wait on disk for their turn.
const IN_FLIGHT: usize = 64;

/// When which reply goes out.
#[derive(Debug)]
pub(super) struct Deliveries {
    in_flight: Vec<Delivery>,
    waiting: VecDeque<Reply>,
    is_connected: bool,
    first_wait: Duration,
}

#[derive(Debug)]
struct Delivery {
    reply: Reply,
    due: Instant,
    wait: Duration,
    accepted: Instant,
}

impl Default for Deliveries {
    fn default() -> Self {
        Self::new(RESEND_FIRST)
    }
}

impl Deliveries {
    /// None yet; one that is not acknowledged goes out again after `first_wait`.
    pub(super) fn new(first_wait: Duration) -> Self {
        Self {
            in_flight: Vec::new(),
            waiting: VecDeque::new(),
            is_connected: false,
            first_wait,
        }
    }

    /// Takes a reply, to be sent as soon as there is a connection.
    pub(super) fn handle_reply(&mut self, reply: Reply, now: Instant) {
        let flying = self.in_flight.iter().map(|delivery| &delivery.reply);
        if flying
            .chain(&self.waiting)
            .any(|known| known.id == reply.id)
        {
            return;
        }
        self.waiting.push_back(reply);
        self.fill(now);
    }

    /// The connection is there, or gone.
    pub(super) fn handle_connection(&mut self, is_connected: bool, now: Instant) {
        self.is_connected = is_connected;
        if is_connected {
            for delivery in &mut self.in_flight {
                delivery.due = now;
                delivery.wait = self.first_wait;
            }
        }
    }

    /// The gateway has taken the reply with this id; returns it if it was waited for.
    #[must_use]
    pub(super) fn handle_acknowledgement(&mut self, id: &str, now: Instant) -> Option<Reply> {
        let id = Uuid::parse_str(id).ok()?;
        let at = self
            .in_flight
            .iter()
            .position(|delivery| delivery.reply.id == id)?;
        let delivery = self.in_flight.swap_remove(at);
        self.fill(now);
        Some(delivery.reply)
    }

    /// Gives up on replies that were here for a day, and returns them.
    #[must_use]
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Vec<Reply> {
        let is_late =
            |delivery: &Delivery| now.saturating_duration_since(delivery.accepted) >= KEPT;
        let late = self.in_flight.extract_if(.., |delivery| is_late(delivery));
        let late: Vec<Reply> = late.map(|delivery| delivery.reply).collect();
        self.fill(now);
        late
    }

    /// The next message that is due.
    pub(super) fn poll_message(&mut self, now: Instant) -> Option<Message> {
        if !self.is_connected {
            return None;
        }
        let mut due = self
            .in_flight
            .iter_mut()
            .filter(|delivery| delivery.due <= now);
        let delivery = due.next()?;
        delivery.due = now + delivery.wait;
        delivery.wait = (delivery.wait * 2).min(RESEND_MAX);
        Some(delivery.reply.message())
    }

    /// When [`Self::poll_message`] has something.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let dues = self.in_flight.iter().map(|delivery| delivery.due);
        dues.min().filter(|_| self.is_connected)
    }

    fn fill(&mut self, now: Instant) {
        while self.in_flight.len() < IN_FLIGHT
            && let Some(reply) = self.waiting.pop_front()
        {
            self.in_flight.push(Delivery {
                reply,
                due: now,
                wait: self.first_wait,
                accepted: now,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;
    use crate::agent::run_command::replies::Store;
    use crate::agent::run_command::report;
    use crate::agent::run_command::route::Route;
    use crate::agent::run_command::settings::Settings;
    use crate::agent::run_command::state::DocumentResult;
    use crate::protocol::wire::MessageId;
    use crate::protocol::wire::command::Status;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn reply_is_repeated_under_its_id_until_it_is_acknowledged() {
        let (_folder, store) = store();
        let now = Instant::now();
        let mut deliveries = Deliveries::default();
        let reply = store.keep(Uuid::new_v4(), result("j")).unwrap();
        deliveries.handle_reply(reply.clone(), now);

        assert_eq!(deliveries.poll_message(now), None, "there is no connection");
        deliveries.handle_connection(true, now);
        let first = deliveries.poll_message(now).unwrap();
        assert_eq!(deliveries.poll_message(now + SECOND / 2), None);
        let second = deliveries.poll_message(now + SECOND).unwrap();
        assert_eq!(deliveries.poll_message(now + 2 * SECOND), None);

        assert_eq!(first.id, second.id);
        assert_eq!(first.id, MessageId::from(reply.id));
        assert_eq!(deliveries.handle_acknowledgement("garbage", now), None);
        let taken = deliveries.handle_acknowledgement(&reply.id.to_string(), now);
        taken.unwrap().forget();
        assert_eq!(deliveries.poll_message(now + 60 * SECOND), None);
        assert!(store.load().unwrap().is_empty());
    }

    #[test]
    fn new_connection_gets_everything_at_once() {
        let (_folder, store) = store();
        let now = Instant::now();
        let mut deliveries = Deliveries::default();
        deliveries.handle_connection(true, now);
        for _ in 0..3 {
            let reply = store.keep(Uuid::new_v4(), result("j")).unwrap();
            deliveries.handle_reply(reply, now);
        }
        while deliveries.poll_message(now).is_some() {}

        deliveries.handle_connection(false, now);
        assert_eq!(deliveries.poll_timeout(), None);
        let later = now + SECOND / 10;
        deliveries.handle_connection(true, later);

        let again = std::iter::from_fn(|| deliveries.poll_message(later));
        assert_eq!(again.count(), 3);
    }

    #[test]
    fn a_few_are_in_flight_and_the_rest_follows() {
        let (_folder, store) = store();
        let now = Instant::now();
        let mut deliveries = Deliveries::default();
        deliveries.handle_connection(true, now);
        for _ in 0..=IN_FLIGHT {
            let reply = store.keep(Uuid::new_v4(), result("j")).unwrap();
            deliveries.handle_reply(reply, now);
        }

        let sent: Vec<_> = std::iter::from_fn(|| deliveries.poll_message(now)).collect();
        assert_eq!(sent.len(), IN_FLIGHT);
        let id = sent[0].id.to_string();
        deliveries.handle_acknowledgement(&id, now).unwrap();

        assert!(deliveries.poll_message(now).is_some());
    }

    #[test]
    fn reply_is_given_up_after_a_day() {
        let (_folder, store) = store();
        let now = Instant::now();
        let mut deliveries = Deliveries::default();
        deliveries.handle_reply(store.keep(Uuid::new_v4(), result("j")).unwrap(), now);

        assert!(deliveries.handle_timeout(now + KEPT / 2).is_empty());
        assert_eq!(deliveries.handle_timeout(now + KEPT).len(), 1);
    }

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::new(folder.path().join("mi-1"), "mi-1");
        let connections = watch::channel(false).1;
        let store = Store::open(&settings, connections).unwrap();
        (folder, store)
    }

    fn result(job: &str) -> DocumentResult {
        report::not_run(Route::Gateway, job, Status::Failed, "why")
    }
}
