//! Jobs for nodes that poll for them because they have no control channel.
//!
//! A node has a letterbox from its first poll until it has not polled for [`GAP`]. What is posted there
//! goes out with the next poll, and is not given out again for as long as that poll asked for.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::protocol::wire::job::{CANCEL_TOPIC, Job};

/// How long after its last poll a node still counts as polling: agents pause for 2 s, or for up to 30 s
/// after a failure.
const GAP: Duration = Duration::from_secs(35);
/// Jobs that wait for one node's poll; each is sent again if it finds no room.
const ROOM: usize = 256;
/// Jobs that go out with one poll.
const BATCH: usize = 10;

/// The letterboxes of all nodes.
#[derive(Debug, Default)]
pub(in crate::gateway::broker) struct Letterboxes {
    boxes: Mutex<HashMap<String, Letterbox>>,
}

#[derive(Debug)]
struct Letterbox {
    jobs: VecDeque<Job>,
    /// Jobs that were given out, and until when they are not given out again.
    given: HashMap<String, Instant>,
    /// Polls that wait now.
    polls: usize,
    /// When the last poll ended.
    seen: Instant,
    posted: Arc<Notify>,
}

impl Letterbox {
    fn new(now: Instant) -> Self {
        Self {
            jobs: VecDeque::new(),
            given: HashMap::new(),
            polls: 0,
            seen: now,
            posted: Arc::new(Notify::new()),
        }
    }

    fn is_live(&self, now: Instant) -> bool {
        self.polls > 0 || now.saturating_duration_since(self.seen) < GAP
    }
}

/// A poll that waits. The letterbox knows of it until it is dropped.
pub(super) struct Poll<'a> {
    letterboxes: &'a Letterboxes,
    node_id: String,
    posted: Arc<Notify>,
    /// The node did not poll before.
    pub(super) is_new: bool,
}

impl Letterboxes {
    /// A poll of the node begins.
    pub(super) fn poll(&self, node_id: &str, now: Instant) -> Poll<'_> {
        let mut boxes = self.lock();
        let letterbox = boxes
            .entry(node_id.to_owned())
            .or_insert_with(|| Letterbox::new(now.checked_sub(GAP).unwrap_or(now)));
        let is_new = !letterbox.is_live(now);
        if is_new {
            letterbox.jobs.clear();
        }
        letterbox.polls += 1;
        Poll {
            letterboxes: self,
            node_id: node_id.to_owned(),
            posted: Arc::clone(&letterbox.posted),
            is_new,
        }
    }

    /// Whether the node polls.
    pub(super) fn is_live(&self, node_id: &str, now: Instant) -> bool {
        let boxes = self.lock();
        boxes
            .get(node_id)
            .is_some_and(|letterbox| letterbox.is_live(now))
    }

    /// Posts a job. Returns whether it is there, now or already; false if the node does not poll.
    pub(super) fn post(&self, node_id: &str, job: Job, now: Instant) -> bool {
        let mut boxes = self.lock();
        let letterbox = boxes.get_mut(node_id);
        let Some(letterbox) = letterbox.filter(|letterbox| letterbox.is_live(now)) else {
            return false;
        };
        // Each telling of a cancellation is a job of its own.
        let is_same = |there: &Job| {
            there.job_id == job.job_id
                || (job.topic == CANCEL_TOPIC && there.content == job.content)
        };
        let is_there = letterbox.jobs.iter().any(is_same);
        if !is_there && letterbox.jobs.len() < ROOM {
            letterbox.jobs.push_back(job);
            letterbox.posted.notify_one();
        }
        true
    }

    /// Whether a job was given to a poll so lately that it is not to be sent by any way.
    pub(super) fn was_given(&self, node_id: &str, job_id: &str, now: Instant) -> bool {
        let boxes = self.lock();
        let until = boxes
            .get(node_id)
            .and_then(|letterbox| letterbox.given.get(job_id));
        until.is_some_and(|until| *until > now)
    }

    /// Nobody wants this job done any more.
    pub(super) fn take_back(&self, node_id: &str, job_id: &str) {
        if let Some(letterbox) = self.lock().get_mut(node_id) {
            letterbox.jobs.retain(|job| job.job_id != job_id);
        }
    }

    /// The node has a better way now: what waits here goes there.
    pub(super) fn clear(&self, node_id: &str) {
        if let Some(letterbox) = self.lock().get_mut(node_id) {
            letterbox.jobs.clear();
        }
    }

    /// Forgets nodes that do not poll any more.
    pub(in crate::gateway::broker) fn sweep(&self, now: Instant) {
        let mut boxes = self.lock();
        boxes.retain(|_, letterbox| {
            letterbox.given.retain(|_, until| *until > now);
            letterbox.is_live(now) || !letterbox.given.is_empty()
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Letterbox>> {
        // Nothing that can panic runs while the lock is held.
        self.boxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Poll<'_> {
    /// Waits for jobs and takes them; they are not given out again for `visibility`.
    pub(super) async fn jobs(&self, visibility: Duration) -> Vec<Job> {
        loop {
            let posted = self.posted.notified();
            let jobs = self.take(visibility, Instant::now());
            if !jobs.is_empty() {
                return jobs;
            }
            posted.await;
        }
    }

    fn take(&self, visibility: Duration, now: Instant) -> Vec<Job> {
        let mut boxes = self.letterboxes.lock();
        let Some(letterbox) = boxes.get_mut(&self.node_id) else {
            return Vec::new();
        };
        letterbox.given.retain(|_, until| *until > now);
        let mut jobs = Vec::new();
        while jobs.len() < BATCH
            && let Some(job) = letterbox.jobs.pop_front()
        {
            letterbox.given.insert(job.job_id.clone(), now + visibility);
            jobs.push(job);
        }
        if !letterbox.jobs.is_empty() {
            letterbox.posted.notify_one();
        }
        jobs
    }
}

impl Drop for Poll<'_> {
    fn drop(&mut self) {
        if let Some(letterbox) = self.letterboxes.lock().get_mut(&self.node_id) {
            letterbox.polls -= 1;
            letterbox.seen = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "mi-1";
    const VISIBILITY: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn job_goes_to_the_poll_that_waits_or_to_the_next_one() {
        let letterboxes = Letterboxes::default();
        let poll = letterboxes.poll(NODE, Instant::now());
        assert!(poll.is_new);
        let (taken, _) = tokio::join!(poll.jobs(VISIBILITY), async {
            assert!(letterboxes.post(NODE, job("a"), Instant::now()));
        });
        assert_eq!(taken, [job("a")]);
        drop(poll);

        assert!(letterboxes.post(NODE, job("b"), Instant::now()));
        let poll = letterboxes.poll(NODE, Instant::now());

        assert!(!poll.is_new);
        assert_eq!(poll.jobs(VISIBILITY).await, [job("b")]);
    }

    #[tokio::test(start_paused = true)]
    async fn job_that_was_given_out_is_told_for_as_long_as_the_poll_asked() {
        let letterboxes = Letterboxes::default();
        let poll = letterboxes.poll(NODE, Instant::now());
        letterboxes.post(NODE, job("a"), Instant::now());
        poll.jobs(VISIBILITY).await;

        let given = |after| letterboxes.was_given(NODE, "a", Instant::now() + after);

        assert!(given(VISIBILITY / 2));
        assert!(!given(VISIBILITY));
        assert!(!letterboxes.was_given(NODE, "b", Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn node_that_polls_no_more_takes_nothing() {
        let letterboxes = Letterboxes::default();
        assert!(!letterboxes.post(NODE, job("a"), Instant::now()));
        drop(letterboxes.poll(NODE, Instant::now()));
        assert!(letterboxes.is_live(NODE, Instant::now()));
        assert!(letterboxes.post(NODE, job("a"), Instant::now()));

        tokio::time::sleep(GAP).await;

        assert!(!letterboxes.is_live(NODE, Instant::now()));
        assert!(!letterboxes.post(NODE, job("a"), Instant::now()));
        letterboxes.sweep(Instant::now());
        assert!(letterboxes.lock().is_empty());
        assert!(letterboxes.poll(NODE, Instant::now()).is_new);
    }

    #[tokio::test(start_paused = true)]
    async fn job_waits_once_and_not_more_than_there_is_room_for() {
        let letterboxes = Letterboxes::default();
        let poll = letterboxes.poll(NODE, Instant::now());
        for number in 0..2 * ROOM {
            for _ in 0..2 {
                letterboxes.post(NODE, job(&number.to_string()), Instant::now());
            }
        }

        let mut taken = 0;
        while taken < ROOM {
            taken += poll.jobs(VISIBILITY).await.len();
        }

        assert_eq!(taken, ROOM);
    }

    #[tokio::test(start_paused = true)]
    async fn cancellation_that_is_told_again_waits_once() {
        let letterboxes = Letterboxes::default();
        let poll = letterboxes.poll(NODE, Instant::now());
        for id in ["a", "b"] {
            let cancel = Job {
                topic: CANCEL_TOPIC.into(),
                content: "the command".into(),
                ..job(id)
            };
            assert!(letterboxes.post(NODE, cancel, Instant::now()));
        }

        let taken = poll.jobs(VISIBILITY).await;

        let ids = taken.iter().map(|job| job.job_id.as_str());
        assert_eq!(ids.collect::<Vec<_>>(), ["a"]);
    }

    fn job(id: &str) -> Job {
        Job {
            content: String::new(),
            job_id: id.into(),
            topic: String::new(),
            schema_version: 1,
        }
    }
}
