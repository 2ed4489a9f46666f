//! Which of its two ways to the service the agent gets its commands by, by the reference's rules:
//!
//! | the control channel | then |
//! |---|---|
//! | opens | commands come over it, and the message delivery service is polled for one minute more: what lies there already is not to be lost |
//! | is denied | the message delivery service is polled, again if it was not any more |
//! | fails otherwise | it stays as it is: the channel comes back by itself. Until it was open once, that service is polled |
//!
//! Both begin together at the start.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::control::Status;

/// How long that service is still polled once the control channel is open.
const GRACE: Duration = Duration::from_mins(1);

/// The way by which commands come, as a report of the node's health names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It is not known yet.
    Unknown,
    /// The control channel, even while it is being opened again.
    MessageGateway,
    /// Polls of the message delivery service.
    MessageDelivery,
}

impl Way {
    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "",
            Self::MessageGateway => "ssmmessages",
            Self::MessageDelivery => "ec2messages",
        }
    }

    /// The way of an agent that starts. One in a container has no other than the control channel.
    pub fn at_start(is_container: bool) -> Self {
        if is_container {
            Self::MessageGateway
        } else {
            Self::Unknown
        }
    }

    fn after(self, status: &Status) -> Self {
        match status {
            Status::Connected { .. } => Self::MessageGateway,
            Status::Waiting {
                is_denied: true, ..
            } => Self::MessageDelivery,
            Status::Waiting {
                is_denied: false, ..
            } if self == Self::Unknown => Self::MessageDelivery,
            Status::Waiting { .. } | Status::Connecting | Status::Stopped => self,
        }
    }
}

/// Follows the control channel until `cancel`, and tells by which way commands come and whether the
/// message delivery service is to be polled.
pub async fn follow(
    mut status: watch::Receiver<Status>,
    way: watch::Sender<Way>,
    polling: watch::Sender<bool>,
    cancel: CancellationToken,
) {
    let mut stop_at: Option<Instant> = None;
    loop {
        let before = *way.borrow();
        let after = before.after(&status.borrow_and_update());
        if after != before {
            stop_at = match after {
                Way::MessageGateway => Some(Instant::now() + GRACE),
                Way::MessageDelivery | Way::Unknown => None,
            };
            if after == Way::MessageDelivery && before == Way::MessageGateway {
                info!("the control channel is denied, commands are polled for");
            }
            if after != Way::MessageGateway {
                polling.send_replace(true);
            }
            way.send_replace(after);
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = status.changed() => if changed.is_err() {
                return;
            },
            () = sleep_until_some(stop_at) => {
                stop_at = None;
                polling.send_replace(false);
            }
        }
    }
}

async fn sleep_until_some(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use tokio::time::sleep;

    use super::*;
    use crate::protocol::wire::PeerFeatures;

    #[tokio::test(start_paused = true)]
    async fn polling_goes_on_for_a_minute_once_the_channel_is_open() {
        let world = World::start();
        assert_eq!(world.seen().await, (Way::Unknown, true));

        world.status.send_replace(connected());
        assert_eq!(world.seen().await, (Way::MessageGateway, true));
        sleep(GRACE - Duration::from_secs(1)).await;
        assert_eq!(world.seen().await, (Way::MessageGateway, true));
        sleep(Duration::from_secs(2)).await;

        assert_eq!(world.seen().await, (Way::MessageGateway, false));
    }

    #[tokio::test(start_paused = true)]
    async fn node_whose_channel_fails_from_the_start_is_on_the_older_way() {
        let world = World::start();

        world.status.send_replace(waiting(false));
        assert_eq!(world.seen().await, (Way::MessageDelivery, true));
        sleep(10 * GRACE).await;
        assert_eq!(world.seen().await, (Way::MessageDelivery, true));

        world.status.send_replace(connected());
        sleep(2 * GRACE).await;
        assert_eq!(world.seen().await, (Way::MessageGateway, false));
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_denied_channel_brings_polling_back() {
        let world = World::start();
        world.status.send_replace(connected());
        sleep(2 * GRACE).await;

        for lost in [waiting(false), Status::Connecting, waiting(false)] {
            world.status.send_replace(lost);
            sleep(GRACE).await;
            assert_eq!(world.seen().await, (Way::MessageGateway, false));
        }
        world.status.send_replace(waiting(true));
        assert_eq!(world.seen().await, (Way::MessageDelivery, true));
        world.status.send_replace(connected());
        sleep(2 * GRACE).await;

        assert_eq!(world.seen().await, (Way::MessageGateway, false));
    }

    #[tokio::test(start_paused = true)]
    async fn channel_that_is_denied_within_the_minute_keeps_polling() {
        let world = World::start();
        world.status.send_replace(connected());
        sleep(GRACE / 2).await;

        world.status.send_replace(waiting(true));
        sleep(GRACE).await;

        assert_eq!(world.seen().await, (Way::MessageDelivery, true));
    }

    struct World {
        status: watch::Sender<Status>,
        way: watch::Receiver<Way>,
        polling: watch::Receiver<bool>,
        _cancel: tokio_util::sync::DropGuard,
    }

    impl World {
        fn start() -> Self {
            let (status, seen) = watch::channel(Status::Connecting);
            let (set_way, way) = watch::channel(Way::Unknown);
            let (set_polling, polling) = watch::channel(true);
            let cancel = CancellationToken::new();
            tokio::spawn(follow(seen, set_way, set_polling, cancel.clone()));
            Self {
                status,
                way,
                polling,
                _cancel: cancel.drop_guard(),
            }
        }

        async fn seen(&self) -> (Way, bool) {
            // On the paused clock everything else runs before this goes on.
            sleep(Duration::from_millis(1)).await;
            (*self.way.borrow(), *self.polling.borrow())
        }
    }

    fn connected() -> Status {
        Status::Connected {
            since: SystemTime::now(),
            features: PeerFeatures::default(),
        }
    }

    fn waiting(is_denied: bool) -> Status {
        Status::Waiting {
            problem: "it broke".into(),
            is_denied,
            retry_in: Duration::from_secs(1),
        }
    }
}
