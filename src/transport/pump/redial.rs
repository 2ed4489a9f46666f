//! Dialling: the first connection and each one after a cut.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{debug, info, warn};

use super::{ConnectError, Connected, Connector, PumpEnd, PumpSettings};
use crate::runtime::backoff::{self, Backoff};

/// How long after a cut somebody is likely to sit there and wait …
const EAGER_FOR: Duration = Duration::from_secs(120);
/// … and the longest wait between two attempts meanwhile: the session answers within 2 s of the
/// network being back.
const EAGER_WAIT: Duration = Duration::from_secs(1);

/// Makes connections with jittered waits between attempts, until the time for it is over.
pub(super) struct Redial<C> {
    connector: C,
    patience: Duration,
    /// When nobody is there to connect to any more, if that is known.
    end: Option<Instant>,
    backoff: Backoff,
    /// Until when the back-off is a short one, after a good connection was cut.
    eager_until: Option<Instant>,
    attempt: u32,
    give_up: Instant,
    /// The first attempt of all is made at once. After a cut even the first one waits a little:
    /// a gateway that restarts would otherwise hear from all its sessions in the same moment.
    wait_first: bool,
}

impl<C: Connector> Redial<C> {
    pub(super) fn new(connector: C, settings: &PumpSettings, now: Instant) -> Self {
        let patience = settings.reconnect_for;
        Self {
            connector,
            patience,
            end: settings.session_ends,
            backoff: Backoff::default(),
            eager_until: None,
            attempt: 0,
            give_up: now + patience,
            wait_first: false,
        }
    }

    /// A connection that lived for `age` was lost. Returns until when others will be tried.
    pub(super) fn lost(&mut self, was_proven: bool, age: Duration, now: Instant) -> Instant {
        if was_proven {
            self.backoff = Backoff::new(backoff::INITIAL, EAGER_WAIT);
            self.eager_until = Some(now + EAGER_FOR);
            self.give_up = now + self.patience;
        } else {
            self.give_up += age;
        }
        if let Some(end) = self.end {
            self.give_up = self.give_up.min(end);
        }
        self.wait_first = true;
        self.give_up
    }

    /// Makes a connection.
    pub(super) async fn connect(&mut self) -> Result<Connected, PumpEnd> {
        let mut failure = None;
        loop {
            if self.wait_first {
                let next = Instant::now() + self.next_wait();
                sleep_until(next.min(self.give_up)).await;
                if self.give_up <= Instant::now() {
                    let error = failure.unwrap_or_else(|| self.out_of_time());
                    warn!(%error, patience = ?self.patience, "giving up to connect");
                    return Err(PumpEnd::GaveUp(error));
                }
            }
            self.wait_first = true;
            let attempt = self.attempt;
            self.attempt += 1;
            match timeout_at(self.give_up, self.connector.connect(attempt)).await {
                Ok(Ok(connected)) => {
                    debug!(attempt, "connected");
                    return Ok(connected);
                }
                Ok(Err(ConnectError::Ended(reason))) => {
                    info!(reason, "the session is over");
                    return Err(PumpEnd::Ended(reason));
                }
                Ok(Err(error)) => {
                    debug!(attempt, %error, "no connection");
                    failure = Some(error);
                }
                Err(_) => debug!(attempt, "no connection in time"),
            }
        }
    }

    fn next_wait(&mut self) -> Duration {
        if self
            .eager_until
            .is_some_and(|until| until <= Instant::now())
        {
            self.eager_until = None;
            self.backoff = Backoff::new(EAGER_WAIT, backoff::MAX);
        }
        self.backoff.next_wait()
    }

    fn out_of_time(&self) -> ConnectError {
        let text = format!("no connection within {:?}", self.patience);
        ConnectError::Retry(Box::new(io::Error::new(io::ErrorKind::TimedOut, text)))
    }
}
