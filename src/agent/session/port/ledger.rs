//! What the audit log is told of the connections of one port session.
//!
//! A connection is a line, at its end. A session that makes thousands of them must not push the lines of
//! others out of a log that is put aside by its size: beyond [`BURST`] lines, and one more each
//! [`REFILL`], connections are told together, in one line a [`TOGETHER`].

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};

use super::super::task::Session;
use super::super::trail::seconds;
use super::account::Account;
use crate::agent::audit::{AuditLog, Event, Text};
use crate::protocol::wire::SessionId;
use crate::transport::forward::Traffic;

/// Connections of a session that are told one by one, however fast they come: a page of a browser has
/// a hundred.
const BURST: u32 = 200;
/// How soon one more can be: a session adds 2 MB a day to the log with them.
const REFILL: Duration = Duration::from_secs(10);
/// How long connections beyond that are gathered for one line.
const TOGETHER: Duration = Duration::from_mins(1);
/// Different outcomes that such a line tells apart.
const OUTCOMES: usize = 8;
/// What further ones count as.
const OTHERS: &str = "others";

/// The connections of one session, for the audit log. Dropped, it tells what it still has.
pub(super) struct Ledger {
    audit: AuditLog,
    session: SessionId,
    pace: Pace,
    together: Option<Together>,
}

/// Connections that are told in one line.
struct Together {
    since: Instant,
    opened: Timestamp,
    target: Text,
    connections: u64,
    traffic: Traffic,
    outcomes: BTreeMap<String, u64>,
}

/// How many lines of its own the session has left.
struct Pace {
    lines: u32,
    /// When one was added last.
    refilled: Instant,
}

impl Ledger {
    /// The ledger of a session without connections.
    pub(super) fn new(session: &Session) -> Self {
        Self {
            audit: session.context.settings.audit.clone(),
            session: session.start.session_id.clone(),
            pace: Pace {
                lines: BURST,
                refilled: Instant::now(),
            },
            together: None,
        }
    }

    /// A connection is over, or did not come about.
    pub(super) fn close(&mut self, account: &Account, traffic: Traffic, outcome: &str) {
        if self.is_due() {
            self.tell();
        }
        if self.together.is_none() && self.pace.take() {
            self.audit.record(&Event::Connection {
                session: &self.session,
                target: account.target(),
                opened: account.opened,
                seconds: seconds(account.since.elapsed()),
                up: traffic.up,
                down: traffic.down,
                outcome: Text::from(outcome),
            });
            return;
        }
        let together = self.together.get_or_insert_with(|| Together::new(account));
        together.add(traffic, outcome);
    }

    /// Waits until connections have to be told.
    pub(super) async fn due(&self) {
        match &self.together {
            Some(together) => sleep_until(together.since + TOGETHER).await,
            None => std::future::pending().await,
        }
    }

    /// Tells of the connections that were gathered.
    pub(super) fn tell(&mut self) {
        let Some(together) = self.together.take() else {
            return;
        };
        self.audit.record(&Event::Connections {
            session: &self.session,
            target: together.target,
            opened: together.opened,
            seconds: seconds(together.since.elapsed()),
            connections: together.connections,
            up: together.traffic.up,
            down: together.traffic.down,
            outcomes: together.outcomes,
        });
    }

    fn is_due(&self) -> bool {
        let together = self.together.as_ref();
        together.is_some_and(|together| together.since.elapsed() >= TOGETHER)
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.tell();
    }
}

impl Together {
    fn new(first: &Account) -> Self {
        Self {
            since: Instant::now(),
            opened: first.opened,
            target: first.target(),
            connections: 0,
            traffic: Traffic::default(),
            outcomes: BTreeMap::new(),
        }
    }

    fn add(&mut self, traffic: Traffic, outcome: &str) {
        self.connections += 1;
        self.traffic.add(traffic);
        let is_known = self.outcomes.contains_key(outcome) || self.outcomes.len() < OUTCOMES;
        let outcome = if is_known { outcome } else { OTHERS };
        *self.outcomes.entry(outcome.to_owned()).or_default() += 1;
    }
}

impl Pace {
    /// Takes a line, if there is one left.
    fn take(&mut self) -> bool {
        let (passed, refill) = (self.refilled.elapsed(), REFILL.as_nanos());
        let more = u32::try_from(passed.as_nanos() / refill).unwrap_or(u32::MAX);
        if more > 0 {
            self.lines = self.lines.saturating_add(more).min(BURST);
            self.refilled += REFILL * more.min(BURST);
            if more >= BURST {
                self.refilled = Instant::now();
            }
        }
        let has_line = self.lines > 0;
        self.lines = self.lines.saturating_sub(1);
        has_line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lines_are_as_many_as_a_burst_and_one_more_at_a_time() {
        let mut pace = Pace {
            lines: BURST,
            refilled: Instant::now(),
        };
        let mut taken = |count: u32| (0..count).filter(|_| pace.take()).count();

        assert_eq!(taken(BURST + 50), BURST as usize);
        tokio::time::advance(REFILL * 3 + REFILL / 2).await;
        assert_eq!(taken(50), 3);
        tokio::time::advance(REFILL / 2).await;
        assert_eq!(taken(50), 1);
        tokio::time::advance(REFILL * BURST * 10).await;
        assert_eq!(taken(BURST + 50), BURST as usize);
    }
}
