//! Which of many streams have something to do, so that one task can drive them all without asking
//! each in turn.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use crate::protocol::mux::StreamId;

/// The streams that were woken, in order.
#[derive(Debug, Default)]
pub struct Ready(Mutex<Line>);

#[derive(Debug, Default)]
struct Line {
    woken: VecDeque<Arc<Bell>>,
    /// The task that waits for one.
    task: Option<Waker>,
}

/// Wakes one stream.
#[derive(Debug)]
struct Bell {
    id: StreamId,
    /// Weak, because the line holds bells in its turn.
    ready: Weak<Ready>,
    /// Whether it stands in the line.
    is_rung: AtomicBool,
}

impl Ready {
    /// A waker that puts a stream into the line.
    pub fn waker(self: &Arc<Self>, id: StreamId) -> Waker {
        Waker::from(Arc::new(Bell {
            id,
            ready: Arc::downgrade(self),
            is_rung: AtomicBool::new(false),
        }))
    }

    /// Waits until a stream stands in the line.
    pub fn poll_woken(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut line = self.line();
        if !line.woken.is_empty() {
            return Poll::Ready(());
        }
        match &mut line.task {
            Some(task) => task.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Takes the streams that stand in the line now. Those that are woken while they are served
    /// stand in the next one.
    pub fn take(&self) -> impl Iterator<Item = StreamId> + use<> {
        let woken = std::mem::take(&mut self.line().woken);
        woken.into_iter().map(|bell| {
            // Before it is served: what happens from here on wakes it again, and what happened
            // before is seen.
            bell.is_rung.swap(false, Ordering::AcqRel);
            bell.id
        })
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_rung.swap(true, Ordering::AcqRel) {
            return;
        }
        let Some(ready) = self.ready.upgrade() else {
            return;
        };
        let task = {
            let mut line = ready.line();
            line.woken.push_back(Arc::clone(self));
            line.task.take()
        };
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Instant;

    use super::*;
    use crate::protocol::mux::{Role, Session, Settings};

    #[tokio::test]
    async fn stream_stands_in_the_line_once_however_often_it_is_woken() {
        let (ready, [one, two]) = world();
        let (first, second) = (ready.waker(one), ready.waker(two));

        second.wake_by_ref();
        first.wake_by_ref();
        second.wake();

        poll_fn(|cx| ready.poll_woken(cx)).await;
        assert_eq!(ready.take().collect::<Vec<_>>(), [two, one]);
        assert!(poll_fn(|cx| Poll::Ready(ready.poll_woken(cx).is_pending())).await);
    }

    #[tokio::test]
    async fn stream_woken_while_it_is_served_stands_in_the_next_line() {
        let (ready, [one, _]) = world();
        let waker = ready.waker(one);
        waker.wake_by_ref();

        for _served in ready.take() {
            waker.wake_by_ref();
        }

        assert_eq!(ready.take().collect::<Vec<_>>(), [one]);
    }

    #[tokio::test]
    async fn waiting_task_is_woken_from_another() {
        let (ready, [one, _]) = world();
        let waker = ready.waker(one);
        let waiting = tokio::spawn({
            let ready = Arc::clone(&ready);
            async move { poll_fn(|cx| ready.poll_woken(cx)).await }
        });
        tokio::task::yield_now().await;

        waker.wake();

        waiting.await.unwrap();
    }

    #[test]
    fn bells_in_the_line_keep_nothing_alive() {
        let (ready, [one, _]) = world();
        let waker = ready.waker(one);
        waker.wake_by_ref();
        let gone = Arc::downgrade(&ready);

        drop(ready);

        assert!(gone.upgrade().is_none());
        waker.wake();
    }

    fn world() -> (Arc<Ready>, [StreamId; 2]) {
        let now = Instant::now();
        let mut client = Session::new(Settings::new(Role::Client), now);
        let ids = [client.open(now).unwrap(), client.open(now).unwrap()];
        (Arc::default(), ids)
    }
}
