//! Credentials that come from elsewhere and run out: asked for by one task, and renewed in time.
//!
//! The [`Refresher`] asks; everyone else watches what it has. So there is one request at a time however
//! many calls wait for it.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::aws::{Client, CredentialError, CredentialFuture, CredentialSource, Credentials};
use crate::runtime::backoff::Backoff;

/// First wait after a failed request.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait after failed requests. The reference waits up to an hour: a host that was denied by
/// mistake would stay away that long after the mistake is corrected.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Shortest time between two renewals, whatever lifetime the service gives.
const SHORTEST_RENEWAL: Duration = Duration::from_secs(5);

/// Where credentials come from.
pub(super) trait Provider: Send + 'static {
    /// What the source is called in errors.
    const SOURCE: &'static str;
    /// Why it has none.
    type Error: Error + Send + Sync + 'static;

    /// Asks for new ones.
    fn fetch(&mut self) -> impl Future<Output = Result<Fetched, Self::Error>> + Send;

    /// Does what follows from new ones, once they are in use; it is not cancelled.
    fn settle(&mut self, fetched: &Fetched) -> impl Future<Output = ()> + Send;
}

/// New credentials.
#[derive(Debug, Clone)]
pub(super) struct Fetched {
    pub(super) credentials: Credentials,
    /// When they came, by the services' clock.
    pub(super) retrieved: SystemTime,
    /// When they run out, by the same.
    pub(super) expires: SystemTime,
    /// When to ask again.
    pub(super) renew_after: Duration,
}

impl Fetched {
    /// Credentials that are renewed at half of their lifetime.
    pub(super) fn new(
        credentials: Credentials,
        retrieved: SystemTime,
        expires: SystemTime,
    ) -> Self {
        let lifetime = expires.duration_since(retrieved).unwrap_or_default();
        Self {
            credentials,
            retrieved,
            expires,
            renew_after: (lifetime / 2).max(SHORTEST_RENEWAL),
        }
    }
}

/// What the refresher has.
#[derive(Debug, Clone, Default)]
struct State {
    /// How many requests have come to an end.
    requests: u64,
    token: Option<Token>,
    /// Why the last request failed, if it did.
    failure: Option<CredentialError>,
}

#[derive(Debug, Clone)]
struct Token {
    credentials: Credentials,
    expires: SystemTime,
    /// The request that it came from.
    request: u64,
}

/// The credentials of the node.
#[derive(Debug)]
pub(super) struct Refreshed {
    state: watch::Receiver<State>,
    renew: mpsc::Sender<()>,
    /// Tokens of requests up to this one were refused.
    refused: AtomicU64,
    /// Knows the services' time.
    client: Client,
}

/// Keeps the credentials of the node fresh.
#[derive(Debug)]
pub(super) struct Refresher<P> {
    provider: P,
    state: watch::Sender<State>,
    renew: mpsc::Receiver<()>,
    backoff: Backoff,
}

/// The credentials of `provider`, and what keeps them fresh. `client` needs none of its own.
pub(super) fn open<P: Provider>(client: Client, provider: P) -> (Refreshed, Refresher<P>) {
    let (state, watched) = watch::channel(State::default());
    let (renew, renewals) = mpsc::channel(1);
    let credentials = Refreshed {
        state: watched,
        renew,
        refused: AtomicU64::new(0),
        client,
    };
    let refresher = Refresher {
        provider,
        state,
        renew: renewals,
        backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
    };
    (credentials, refresher)
}

impl Refreshed {
    async fn wait(&self) -> Result<Credentials, CredentialError> {
        let mut state = self.state.clone();
        loop {
            if let Some(answer) = self.judge(&state.borrow_and_update()) {
                return answer;
            }
            // A request that is already waiting is as good as this one.
            if let Err(mpsc::error::TrySendError::Closed(())) = self.renew.try_send(()) {
                return Err(CredentialError::Stopped);
            }
            state
                .changed()
                .await
                .map_err(|_| CredentialError::Stopped)?;
        }
    }

    /// The credentials, or why there are none; `None` if a request has to bring them.
    fn judge(&self, state: &State) -> Option<Result<Credentials, CredentialError>> {
        let refused = self.refused.load(Ordering::Relaxed);
        let valid = |token: &&Token| self.client.now() < token.expires && token.request > refused;
        match state.token.as_ref().filter(valid) {
            Some(token) => Some(Ok(token.credentials.clone())),
            // The refresher tries again by itself: those who wait learn why they would have to.
            None => state.failure.clone().map(Err),
        }
    }

    /// Waits until there was a token.
    #[cfg(test)]
    pub(super) async fn first(&self) {
        let mut state = self.state.clone();
        let first = state.wait_for(|state| state.token.is_some()).await;
        drop(first.expect("the refresher runs"));
    }
}

impl CredentialSource for Refreshed {
    fn credentials(&self) -> CredentialFuture<'_> {
        Box::pin(self.wait())
    }

    fn refused(&self) {
        let requests = self.state.borrow().requests;
        self.refused.fetch_max(requests, Ordering::Relaxed);
    }
}

impl<P: Provider> Refresher<P> {
    /// Runs until `cancel`.
    pub(super) async fn run(mut self, cancel: CancellationToken) {
        loop {
            // Whoever has asked up to now is served by this request.
            while self.renew.try_recv().is_ok() {}
            let fetch = self.provider.fetch();
            let Some(answer) = cancel.run_until_cancelled(fetch).await else {
                return;
            };
            // Not cancelled: half a key change would cost the node its registration.
            let failed = answer.is_err();
            let wait = self.take(answer).await;
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                // After a failure nobody can hurry the next request.
                Some(()) = self.renew.recv(), if !failed => {}
            }
        }
    }

    /// Takes the outcome of a request; returns the wait until the next.
    async fn take(&mut self, answer: Result<Fetched, P::Error>) -> Duration {
        match answer {
            Ok(fetched) => {
                self.backoff.reset();
                self.publish(&fetched);
                self.provider.settle(&fetched).await;
                fetched.renew_after
            }
            Err(error) => {
                let wait = self.backoff.next_wait();
                warn!(
                    error = &error as &dyn Error,
                    ?wait,
                    "no credentials for this node; trying again"
                );
                self.state.send_modify(|state| {
                    state.requests += 1;
                    state.failure = Some(CredentialError::unavailable(P::SOURCE, error));
                });
                wait
            }
        }
    }

    fn publish(&self, fetched: &Fetched) {
        debug!(expires = ?Timestamp::try_from(fetched.expires).ok(), "the node has new credentials");
        self.state.send_modify(|state| {
            state.requests += 1;
            state.failure = None;
            state.token = Some(Token {
                credentials: fetched.credentials.clone(),
                expires: fetched.expires,
                request: state.requests,
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_comes_at_half_of_the_lifetime() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_341_923);
        let renewal = |seconds| {
            let credentials = Credentials::new("AKID", "secret", None, None, "test");
            Fetched::new(credentials, now, now + Duration::from_secs(seconds)).renew_after
        };

        assert_eq!(renewal(3600), Duration::from_secs(1800));
        assert_eq!(renewal(1), SHORTEST_RENEWAL);
    }
}
