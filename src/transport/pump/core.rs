//! The turns of the pump: what happens in which order when anything can happen.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tracing::{debug, info};

use super::app::App;
use super::keys::Keys;
use super::link::{Cut, Link};
use super::redial::Redial;
use super::timer::Timer;
use super::{Connector, Incoming, PumpEnd, PumpSettings};
use crate::protocol::channel::Channel;

/// Messages read per turn, so that their acknowledgements go out in one write.
const READ_BATCH: usize = 64;
/// Turns before other tasks get theirs.
const MAX_TURNS: usize = 16;

/// How long a session may leave one payload untaken once there will be no further connection.
const LAST_DELIVERY_WAIT: Duration = Duration::from_secs(10);

/// A channel, its session, and what wakes them.
pub(super) struct Core {
    channel: Channel,
    app: App,
    keys: Keys,
    timer: Timer,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
    /// The gateway closed the session: a cut needs no new connection.
    closed_by_peer: bool,
    /// Tells the session of an end that it did not ask for, ahead of what it has not read.
    over: CancellationToken,
}

/// Why the current connection is left.
enum Stop {
    Cut(Cut),
    End(PumpEnd),
}

impl Core {
    pub(super) fn new(
        channel: Channel,
        app: App,
        keys: Keys,
        cancel: &CancellationToken,
        over: CancellationToken,
    ) -> Self {
        Self {
            channel,
            app,
            keys,
            timer: Timer::new(),
            cancelled: Box::pin(cancel.clone().cancelled_owned()),
            closed_by_peer: false,
            over,
        }
    }

    /// Runs until the session or the connection is over for good.
    pub(super) async fn run<C: Connector>(
        mut self,
        connector: C,
        settings: PumpSettings,
    ) -> PumpEnd {
        let mut redial = Redial::new(connector, &settings, Instant::now());
        loop {
            let connected = match self.while_offline(redial.connect()).await {
                Ok(connected) => connected,
                Err(end) => return self.conclude(end).await,
            };
            let now = Instant::now();
            let is_ours = connected.features.reacknowledge;
            let mut link = Link::new(connected.socket, &settings, is_ours, now);
            self.channel.set_peer(connected.features);
            self.channel.handle_connected(now.into_std());
            self.app.notify(Incoming::Connected);

            match poll_fn(|cx| self.poll_online(&mut link, cx)).await {
                Stop::End(end) => return self.hang_up(link, end).await,
                Stop::Cut(cut) => {
                    let now = Instant::now();
                    info!(reason = %cut, "the connection was lost");
                    self.channel.handle_disconnected(now.into_std());
                    let give_up = redial.lost(link.is_proven(now), link.age(now), now);
                    link.close_now();
                    if self.closed_by_peer {
                        return self.until_left().await;
                    }
                    self.app.notify(Incoming::Disconnected { give_up });
                }
            }
        }
    }

    /// Serves the session without a connection until `next` is there or the session ends.
    async fn while_offline<T>(
        &mut self,
        next: impl Future<Output = Result<T, PumpEnd>>,
    ) -> Result<T, PumpEnd> {
        let mut next = pin!(next);
        poll_fn(|cx| {
            if let Poll::Ready(next) = next.as_mut().poll(cx) {
                return Poll::Ready(next);
            }
            self.poll_offline(cx).map(Err)
        })
        .await
    }

    /// Serves the session, without a connection and without seeking one, until it ends.
    async fn until_left(&mut self) -> PumpEnd {
        poll_fn(|cx| self.poll_offline(cx)).await
    }

    fn poll_offline(&mut self, cx: &mut Context<'_>) -> Poll<PumpEnd> {
        loop {
            let now = Instant::now();
            self.handle_channel_timeout(now);
            match self.serve_app(cx, now) {
                Err(end) => return Poll::Ready(end),
                Ok(true) => continue,
                Ok(false) => {}
            }
            let deadline = self.channel.poll_timeout().map(Instant::from_std);
            if self.timer.poll(deadline, cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn poll_online(&mut self, link: &mut Link, cx: &mut Context<'_>) -> Poll<Stop> {
        for _ in 0..MAX_TURNS {
            match self.turn(link, cx) {
                Err(stop) => return Poll::Ready(stop),
                Ok(true) => continue,
                Ok(false) => {}
            }
            let link_deadline = link.deadline();
            let channel_deadline = self.channel.poll_timeout().map(Instant::from_std);
            let deadline = channel_deadline.map_or(link_deadline, |at| at.min(link_deadline));
            if self.timer.poll(Some(deadline), cx).is_pending() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Handles everything that is ready. Returns whether there may be more right now.
    fn turn(&mut self, link: &mut Link, cx: &mut Context<'_>) -> Result<bool, Stop> {
        let now = Instant::now();
        self.handle_channel_timeout(now);
        let read = self.read(link, cx, now);
        // What was read before a cut is the session's.
        let mut more = self.serve_app(cx, now).map_err(Stop::End)?;
        more |= read.map_err(Stop::Cut)?;
        link.handle_timeout(now).map_err(Stop::Cut)?;
        if let Err(cut) = self.transmit(link, cx, now) {
            // What the peer said before it went (above all that it closed the session) may still be
            // there to be read.
            while let Ok(true) = self.read(link, cx, now) {}
            return Err(Stop::Cut(cut));
        }
        Ok(more)
    }

    fn handle_channel_timeout(&mut self, now: Instant) {
        let now = now.into_std();
        if self.channel.poll_timeout().is_some_and(|at| at <= now) {
            self.channel.handle_timeout(now);
        }
    }

    /// Returns whether there may be more right now.
    fn read(&mut self, link: &mut Link, cx: &mut Context<'_>, now: Instant) -> Result<bool, Cut> {
        let mut more = Ok(true);
        for _ in 0..READ_BATCH {
            match link.poll_read(cx, now) {
                Poll::Ready(Ok(message)) => self.handle_message(message, now),
                Poll::Ready(Err(cut)) => {
                    more = Err(cut);
                    break;
                }
                Poll::Pending => {
                    more = Ok(false);
                    break;
                }
            }
        }
        self.collect_events();
        more
    }

    fn collect_events(&mut self) {
        if self.app.collect_events(&mut self.channel) {
            self.closed_by_peer = true;
            self.over.cancel();
        }
    }

    fn handle_message(&mut self, message: Bytes, now: Instant) {
        if let Err(error) = self.channel.handle_message(message, now.into_std()) {
            debug!(%error, "a message was ignored");
        }
    }

    /// The session's part of a turn.
    fn serve_app(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, PumpEnd> {
        if self.cancelled.as_mut().poll(cx).is_ready() {
            return Err(PumpEnd::Cancelled);
        }
        let std_now = now.into_std();
        let got_key = self.keys.serve(&mut self.channel, cx, std_now);
        let more_outgoing = self.app.take_outgoing(&mut self.channel, cx, std_now);
        self.collect_events();
        let more_incoming = self.app.deliver(&mut self.channel, cx, std_now);
        if let Some(drained) = self.app.drained() {
            return Err(PumpEnd::Closed { drained });
        }
        if self.app.poll_gone(cx).is_ready() {
            debug!("the session left its channel without closing it");
            return Err(PumpEnd::Closed { drained: false });
        }
        Ok(got_key || more_outgoing || more_incoming)
    }

    fn transmit(&mut self, link: &mut Link, cx: &mut Context<'_>, now: Instant) -> Result<(), Cut> {
        loop {
            match link.poll_writable(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(writable) => writable?,
            }
            link.write_due_ping()?;
            match self.channel.poll_transmit(now.into_std()) {
                Some(message) => link.write(message)?,
                None => return link.flush(cx),
            }
        }
    }

    /// Writes what is left to say, says goodbye, and ends.
    async fn hang_up(mut self, mut link: Link, end: PumpEnd) -> PumpEnd {
        if let PumpEnd::Cancelled = end {
            link.close_now();
            return end;
        }
        let last = poll_fn(|cx| Poll::Ready(self.transmit(&mut link, cx, Instant::now()))).await;
        if let Err(cut) = last {
            debug!(reason = %cut, "the connection broke at its end");
        }
        link.close().await;
        end
    }

    /// Lets a session that reads slowly have what was received, before an end that it did not ask for.
    async fn conclude(mut self, end: PumpEnd) -> PumpEnd {
        match end {
            PumpEnd::Cancelled | PumpEnd::Closed { .. } => return end,
            PumpEnd::Ended(_) | PumpEnd::GaveUp(_) => self.over.cancel(),
        }
        while let Ok(true) = timeout(LAST_DELIVERY_WAIT, poll_fn(|cx| self.poll_rest(cx))).await {}
        end
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.cancelled.as_mut().poll(cx).is_ready() {
            return Poll::Ready(false);
        }
        let now = Instant::now().into_std();
        self.app.poll_deliver(&mut self.channel, cx, now)
    }
}
