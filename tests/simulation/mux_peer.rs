//! An end that carries a mux session over a real channel, with an owner that plays the streams.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ssm_agent::protocol::channel::{Channel, ChannelError, Event as ChannelEvent};
use ssm_agent::protocol::mux::{Event, ResetReason, Session, Settings, StreamId};
use ssm_agent::protocol::wire::{Payload, PeerFeatures};

use crate::mux_plan::{Fate, Mix, Plan};
use crate::network::Side;
use crate::random::Random;
use crate::world::Peer;

/// What an owner knows of a stream.
#[derive(Debug)]
pub struct Played {
    plan: Plan,
    written: usize,
    read: usize,
    read_at: Instant,
    has_finished: bool,
    peer_has_finished: bool,
    reset: Option<ResetReason>,
    has_reset: bool,
}

impl Played {
    fn is_over(&self) -> bool {
        (self.has_finished && self.peer_has_finished) || self.reset.is_some() || self.has_reset
    }
}

/// A session over a channel, and its owner.
pub struct MuxPeer {
    pub session: Session,
    pub failed: Option<String>,
    pub streams: BTreeMap<StreamId, Played>,
    side: Side,
    channel: Channel,
    is_open: bool,
    settings: Settings,
    mix: Mix,
    to_open: usize,
    open_at: Instant,
    open_pause: Duration,
    gives_up: bool,
    random: Random,
    said: Vec<u8>,
    heard: Vec<u8>,
}

impl MuxPeer {
    pub fn new(
        side: Side,
        channel: Channel,
        settings: Settings,
        mix: Mix,
        random: &mut Random,
        now: Instant,
    ) -> Self {
        Self {
            session: Session::new(settings, now),
            failed: None,
            streams: BTreeMap::new(),
            side,
            channel,
            is_open: false,
            settings,
            mix,
            to_open: 0,
            open_at: now,
            open_pause: Duration::ZERO,
            gives_up: false,
            random: random.fork(),
            said: Vec::new(),
            heard: Vec::new(),
        }
    }

    /// Client: opens so many streams, with pauses up to `pause`.
    pub fn open(&mut self, streams: usize, pause: Duration) {
        self.to_open = streams;
        self.open_pause = pause;
    }

    /// Whether every stream is over, but for those that stall if `despite_stalls`.
    pub fn is_over(&self, despite_stalls: bool) -> bool {
        self.to_open == 0
            && self.streams.values().all(|stream| {
                stream.is_over() || (despite_stalls && matches!(stream.plan.fate, Fate::Stalls(_)))
            })
    }

    /// Resets the streams that stall, also those that are still to come.
    pub fn give_up(&mut self) {
        self.gives_up = true;
    }

    /// Fails unless every stream that was to finish has said and heard all, and no stream was reset
    /// but those that were to be.
    pub fn check_streams(&self) {
        for (id, stream) in &self.streams {
            match (stream.plan.fate, stream.reset) {
                (Fate::Finishes, None) => {
                    assert_eq!(stream.read, stream.plan.length(self.side.other()), "{id}");
                    assert_eq!(stream.written, stream.plan.length(self.side), "{id}");
                }
                (Fate::Finishes, Some(reason)) => panic!("stream {id} was reset: {reason}"),
                (Fate::Stalls(side), Some(ResetReason::Stalled { .. })) => {
                    assert_eq!(side, self.side, "stream {id} did not stall here");
                }
                (Fate::IsReset(..), Some(ResetReason::Stalled { .. })) => {
                    panic!("stream {id} did not stall");
                }
                (Fate::IsReset(..) | Fate::Stalls(_), _) => {}
            }
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let mut has_taken = false;
        while self.session.has_room()
            && let Some(payload) = self.channel.poll_delivery(now)
        {
            has_taken = true;
            if let Payload::Output(bytes) = payload {
                self.heard.extend_from_slice(&bytes);
                self.session
                    .handle_bytes(bytes, now)
                    .expect("our own bytes");
            }
        }
        has_taken
    }

    fn say(&mut self, now: Instant) -> bool {
        let mut has_said = false;
        while self.is_open
            && self.channel.send_capacity() > 0
            && let Some(piece) = self.session.poll_transmit(self.channel.peer().max_payload)
        {
            has_said = true;
            self.said.extend_from_slice(&piece);
            self.channel
                .send(Payload::Output(piece), now)
                .expect("there is capacity");
        }
        has_said
    }

    fn note_events(&mut self, now: Instant) {
        while let Some(event) = self.channel.poll_event() {
            match event {
                ChannelEvent::Open { .. } => self.is_open = true,
                ChannelEvent::HandshakeFailed(text) => self.failed = Some(text),
                ChannelEvent::Closed(_)
                | ChannelEvent::Paused
                | ChannelEvent::Resumed
                | ChannelEvent::PeerFeatures(_)
                | ChannelEvent::Drained(_) => {}
            }
        }
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Opened(id) => self.play(id, now),
                Event::Readable(_) | Event::Writable(_) => {}
                Event::PeerFinished { id, may_still_read } => {
                    let stream = self.streams.get_mut(&id).expect("a known stream");
                    assert!(!stream.peer_has_finished, "stream {id} finished twice");
                    stream.peer_has_finished = true;
                    if !may_still_read {
                        stream.has_finished = true;
                        self.session.finish(id);
                    }
                }
                Event::Reset { id, reason } => {
                    let stream = self.streams.get_mut(&id).expect("a known stream");
                    // One that is over here may still have its FIN to send, and be reset so late.
                    if !stream.is_over() {
                        stream.reset = Some(reason);
                    }
                }
            }
        }
    }

    fn open_streams(&mut self, now: Instant) {
        while self.is_open && self.to_open > 0 && self.open_at <= now {
            let Ok(id) = self.session.open(now) else {
                self.open_at = now + Duration::from_millis(50);
                return;
            };
            self.to_open -= 1;
            self.play(id, now);
            let micros = usize::try_from(self.open_pause.as_micros()).expect("a short time");
            self.open_at = now + Duration::from_micros(self.random.range(0..micros + 1) as u64);
        }
    }

    fn play(&mut self, id: StreamId, now: Instant) {
        let number = id.to_string().parse().expect("a number");
        let played = Played {
            plan: self.mix.plan(number),
            written: 0,
            read: 0,
            read_at: now,
            has_finished: false,
            peer_has_finished: false,
            reset: None,
            has_reset: false,
        };
        assert!(self.streams.insert(id, played).is_none(), "{id} came twice");
    }

    /// Plays every stream as far as it goes now.
    fn play_all(&mut self, now: Instant) {
        let mut streams = std::mem::take(&mut self.streams);
        for (id, stream) in streams.iter_mut().filter(|(_, stream)| !stream.is_over()) {
            self.read(*id, stream, now);
            let is_reset = match stream.plan.fate {
                Fate::IsReset(side, after) => {
                    side == self.side && stream.read >= after.min(stream.plan.length(side.other()))
                }
                Fate::Stalls(_) => self.gives_up,
                Fate::Finishes => false,
            };
            if is_reset {
                stream.has_reset = true;
                self.session.reset(*id);
                continue;
            }
            self.write(*id, stream);
        }
        self.streams = streams;
    }

    fn read(&mut self, id: StreamId, stream: &mut Played, now: Instant) {
        if stream.plan.fate == Fate::Stalls(self.side) {
            return;
        }
        while stream.read_at <= now
            && let Some(piece) = self.session.read(id, now)
        {
            let other = self.side.other();
            let expected = stream.plan.bytes(other, stream.read, piece.len());
            assert!(piece == expected, "other bytes on stream {id}");
            stream.read += piece.len();
            assert!(stream.read <= stream.plan.length(other), "too much on {id}");
            let pause = stream.plan.read_pause(self.side);
            if !pause.is_zero() {
                stream.read_at = now + pause;
            }
        }
    }

    fn write(&mut self, id: StreamId, stream: &mut Played) {
        let length = stream.plan.length(self.side);
        while !stream.has_finished && stream.written < length {
            let capacity = self.session.send_capacity(id).min(length - stream.written);
            if capacity == 0 {
                return;
            }
            let piece = self.random.range(1..9000).min(capacity);
            let mut data = stream.plan.bytes(self.side, stream.written, piece);
            self.session.write(id, &mut data);
            assert!(data.is_empty(), "less was taken than there was room for");
            stream.written += piece;
        }
        // To a foreign peer FIN is the end, so the client waits for the answer.
        let may_finish = self.settings.half_close
            || (self.side == Side::Client && stream.read == stream.plan.length(Side::Agent))
            || stream.peer_has_finished;
        if may_finish && !stream.has_finished {
            stream.has_finished = true;
            self.session.finish(id);
        }
    }
}

impl Peer for MuxPeer {
    fn connected(&mut self, now: Instant) {
        self.channel.handle_connected(now);
    }

    fn disconnected(&mut self, now: Instant) {
        self.channel.handle_disconnected(now);
    }

    fn receive(&mut self, raw: Bytes, now: Instant) {
        match self.channel.handle_message(raw, now) {
            Ok(()) | Err(ChannelError::Unexpected(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn work(&mut self, now: Instant) {
        if self.channel.poll_timeout().is_some_and(|at| at <= now) {
            self.channel.handle_timeout(now);
        }
        if self.session.poll_timeout().is_some_and(|at| at <= now) {
            self.session.handle_timeout(now);
            let still_due = self.session.poll_timeout().is_some_and(|at| at <= now);
            assert!(!still_due, "a timeout that was handled is due again");
        }
        loop {
            let has_taken = self.take(now);
            self.note_events(now);
            self.open_streams(now);
            self.play_all(now);
            self.note_events(now);
            let has_said = self.say(now);
            self.note_events(now);
            if !has_taken && !has_said {
                return;
            }
        }
    }

    fn next_work(&self, now: Instant) -> Option<Instant> {
        let opens = (self.is_open && self.to_open > 0).then_some(self.open_at);
        let reads = self.streams.iter().filter_map(|(id, stream)| {
            let wants = stream.plan.fate != Fate::Stalls(self.side) && self.session.unread(*id) > 0;
            wants.then_some(stream.read_at)
        });
        [
            self.channel.poll_timeout(),
            self.session.poll_timeout(),
            opens,
        ]
        .into_iter()
        .flatten()
        .chain(reads)
        .min()
        .map(|at| at.max(now))
    }

    fn transmit(&mut self, now: Instant) -> Option<Bytes> {
        self.channel.poll_transmit(now)
    }

    fn sent(&self) -> &[u8] {
        &self.said
    }

    fn received(&self) -> &[u8] {
        &self.heard
    }

    fn check_memory(&self) {
        let held = self.session.held();
        let Settings {
            receive_budget,
            send_budget,
            max_streams,
            ..
        } = self.settings;
        assert!(held.unread < receive_budget + (32 << 10), "{held:?}");
        assert!(
            held.queued <= send_budget + held.streams * Settings::SEND_FLOOR,
            "{held:?}"
        );
        assert!(held.streams <= max_streams, "{held:?}");
        assert!(held.turns <= held.streams, "{held:?}");
    }

    fn features(&self) -> String {
        let mut features = PeerFeatures::ours();
        features.max_payload = self.channel.peer().max_payload;
        features.to_string()
    }
}
