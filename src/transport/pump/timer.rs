//! One timer for all deadlines of a pump.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that follows a moving deadline. Deadlines mostly move away (each acknowledgement and each
/// frame moves one), so it is set again only when one comes nearer or when it fires too early; that
/// keeps the runtime's timer wheel out of the path of messages.
pub(super) struct Timer {
    sleep: Pin<Box<Sleep>>,
    armed: Option<Instant>,
}

impl Timer {
    pub(super) fn new() -> Self {
        Self {
            sleep: Box::pin(sleep_until(Instant::now())),
            armed: None,
        }
    }

    /// Ready once `deadline` has passed.
    pub(super) fn poll(&mut self, deadline: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = deadline else {
            return Poll::Pending;
        };
        if self.armed.is_none_or(|armed| deadline < armed) {
            self.arm(deadline);
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            if deadline <= Instant::now() {
                self.armed = None;
                return Poll::Ready(());
            }
            self.arm(deadline);
        }
        Poll::Pending
    }

    fn arm(&mut self, deadline: Instant) {
        self.sleep.as_mut().reset(deadline);
        self.armed = Some(deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_moved_away_does_not_fire_early() {
        let mut timer = Timer::new();
        let start = Instant::now();
        let near = start + Duration::from_secs(1);
        let far = start + Duration::from_secs(3);
        assert!(
            poll_fn(|cx| Poll::Ready(timer.poll(Some(near), cx)))
                .await
                .is_pending()
        );

        poll_fn(|cx| timer.poll(Some(far), cx)).await;

        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_came_nearer_fires_in_time() {
        let mut timer = Timer::new();
        let start = Instant::now();
        let far = start + Duration::from_secs(3);
        let near = start + Duration::from_secs(1);
        assert!(
            poll_fn(|cx| Poll::Ready(timer.poll(Some(far), cx)))
                .await
                .is_pending()
        );

        poll_fn(|cx| timer.poll(Some(near), cx)).await;

        assert_eq!(start.elapsed(), Duration::from_secs(1));
    }
}
