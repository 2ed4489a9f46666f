//! Dialling a service again, beside the attempts under way, for as long as nobody answers.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Uri;
use tokio::time::sleep;
use tower_service::Service;

/// How long nobody may answer until there is another attempt. The kernel repeats a lost attempt at
/// growing distances only, a resolver after 5 s; a network that is back is found sooner.
const ANOTHER_ATTEMPT: Duration = Duration::from_secs(1);
/// Attempts beside each other. The first one, which has a timeout, ends the dial if nobody answers;
/// this is for a resolver that hangs for longer.
const MAX_ATTEMPTS: usize = 5;

/// A connector that repeats the attempts of another one. What is heard first, a connection or an
/// error, is the result.
#[derive(Debug, Clone)]
pub(super) struct Repeating<C>(pub(super) C);

impl<C> Service<Uri> for Repeating<C>
where
    C: Service<Uri> + Clone + Send + 'static,
    C::Response: Send,
    C::Error: Send,
    C::Future: Send,
{
    type Response = C::Response;
    type Error = C::Error;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, C::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(dial(self.0.clone(), uri))
    }
}

async fn dial<C: Service<Uri>>(mut connector: C, uri: Uri) -> Result<C::Response, C::Error> {
    let mut attempts = FuturesUnordered::new();
    loop {
        if attempts.len() < MAX_ATTEMPTS {
            poll_fn(|cx| connector.poll_ready(cx)).await?;
            attempts.push(connector.call(uri.clone()));
        }
        tokio::select! {
            Some(heard) = attempts.next() => return heard,
            () = sleep(ANOTHER_ATTEMPT) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn attempt_that_nobody_answers_is_repeated_after_a_second() {
        let network = Network {
            lost: 2,
            ..Network::default()
        };
        let began = Instant::now();

        let answered = Repeating(network.clone()).call(host()).await;

        assert_eq!(answered, Ok(2));
        assert_eq!(began.elapsed(), 2 * ANOTHER_ATTEMPT);
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_beside_each_other_are_limited() {
        let network = Network {
            lost: usize::MAX,
            ..Network::default()
        };

        let dialling = Repeating(network.clone()).call(host());
        let ended = tokio::time::timeout(100 * ANOTHER_ATTEMPT, dialling).await;

        assert!(ended.is_err());
        assert_eq!(network.attempts.load(Ordering::Relaxed), MAX_ATTEMPTS);
    }

    #[tokio::test(start_paused = true)]
    async fn refusal_is_an_answer() {
        let network = Network {
            refuses: true,
            ..Network::default()
        };

        let answered = Repeating(network.clone()).call(host()).await;

        assert_eq!(answered, Err("refused"));
        assert_eq!(network.attempts.load(Ordering::Relaxed), 1);
    }

    fn host() -> Uri {
        Uri::from_static("https://host")
    }

    /// Swallows attempts, then answers one with its number.
    #[derive(Clone, Default)]
    struct Network {
        lost: usize,
        refuses: bool,
        attempts: Arc<AtomicUsize>,
    }

    impl Service<Uri> for Network {
        type Response = usize;
        type Error = &'static str;
        type Future = Pin<Box<dyn Future<Output = Result<usize, &'static str>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Uri) -> Self::Future {
            let number = self.attempts.fetch_add(1, Ordering::Relaxed);
            if number < self.lost {
                return Box::pin(std::future::pending());
            }
            let answer = if self.refuses {
                Err("refused")
            } else {
                Ok(number)
            };
            Box::pin(std::future::ready(answer))
        }
    }
}
