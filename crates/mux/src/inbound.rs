//! What arrives on a connection: bytes in, checked events out.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use rustc_hash::FxHashMap;
use sinew_plane::budget::Account;

use crate::{
    CheckedMuxConfig, ConnectionError, Event, Hello,
    assembly::Assembly,
    buffer_pool::BufferPool,
    frame::{FRAME_HEADER_BYTES, FrameHeader, Kind},
    keep_alive::{KeepAlive, KeepAliveStep},
    rate_limit::RateLimit,
    request_bodies::RequestBodies,
};

mod control;
mod direct_read;
mod framing;
mod request;
mod response;
mod role;

pub use self::role::Role;
use self::{direct_read::DirectRead, response::StartedItem};

/// Frames that had no effect: a peer that is in order sends few. Pings and credit that crossed
/// an end on its way are the ordinary cause.
const INEFFECTIVE_BURST: u32 = 2_000;
const INEFFECTIVE_PER_SECOND: u32 = 200;

/// Attaches: all streams of a connection may come back at once, and again when that is lost as well.
const ATTACH_BURST: u32 = 65_536;
const ATTACHES_PER_SECOND: u32 = 5_000;

/// Attaches that found no stream: a worker that was started anew knows none of those that a connection
/// had, by default at most so many.
const REFUSED_ATTACH_BURST: u32 = 16_384;
const REFUSED_ATTACHES_PER_SECOND: u32 = 200;

/// What an attach adds to the frames without effect, as an open with the default window does: credit
/// and cancels that cross its end, and the word that its end has arrived.
const ATTACH_CROSSING: u32 = 16;

/// Cancels: a caller may well drop all its streams at once, but not for ever.
const CANCEL_BURST: u32 = 32_768;
const CANCELS_PER_SECOND: u32 = 10_000;

/// The result of a look at the clock for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tick {
    /// Nothing to do.
    Idle,
    /// Send the peer a ping: [`Outbound::ping`](crate::Outbound::ping).
    Ping,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Preface,
    Hello,
    Streams,
}

/// The receiving direction of a connection. Add bytes with [`ingest`](Self::ingest), take the
/// events with [`poll_event`](Self::poll_event), and repeat until `ingest` returns false. After an
/// [`ItemBegin`](Event::ItemBegin) call [`assemble`](Self::assemble), or the item is skipped.
#[derive(Debug)]
pub struct Inbound {
    role: Role,
    phase: Phase,
    /// Whole frames that wait to be looked at, from `at` on.
    frames: Bytes,
    at: usize,
    own_integrity: bool,
    integrity: bool,
    verify_checks: bool,
    max_message_bytes: usize,
    next_stream: u32,
    request_bodies: RequestBodies,
    /// Items that come in chunks, by their streams.
    items: FxHashMap<u32, Assembly>,
    /// The item that the last event began, until somebody says that it is wanted.
    started: Option<StartedItem>,
    direct_read: DirectRead,
    pool: BufferPool,
    /// Request bodies that the peer lets this side send, since the connection began.
    peer_granted: u64,
    ineffective_frames: RateLimit,
    attaches: RateLimit,
    refused_attaches: RateLimit,
    cancels: RateLimit,
    keep_alive: KeepAlive,
    /// The stream whose frame broke the protocol.
    faulty: Option<u32>,
}

impl Inbound {
    /// Makes the receiving direction of a new connection.
    pub fn new(role: Role, config: &CheckedMuxConfig, now: Instant) -> Self {
        Self {
            role,
            phase: Phase::Preface,
            frames: Bytes::new(),
            at: 0,
            own_integrity: config.integrity,
            integrity: false,
            verify_checks: config.verify_checks,
            max_message_bytes: config.max_message_bytes,
            next_stream: role.peer().first_stream(),
            request_bodies: RequestBodies::new(config),
            items: FxHashMap::default(),
            started: None,
            direct_read: DirectRead::default(),
            pool: BufferPool::default(),
            peer_granted: 0,
            ineffective_frames: RateLimit::new(INEFFECTIVE_BURST, INEFFECTIVE_PER_SECOND, now),
            attaches: RateLimit::new(ATTACH_BURST, ATTACHES_PER_SECOND, now),
            refused_attaches: RateLimit::new(
                REFUSED_ATTACH_BURST,
                REFUSED_ATTACHES_PER_SECOND,
                now,
            ),
            cancels: RateLimit::new(CANCEL_BURST, CANCELS_PER_SECOND, now),
            keep_alive: KeepAlive::new(config.keepalive_interval, config.keepalive_timeout, now),
            faulty: None,
        }
    }

    /// The stream whose frame caused the returned error, if a stream did.
    pub fn faulty_stream(&self) -> Option<u32> {
        self.faulty.filter(|stream| *stream != 0)
    }

    /// Charges the messages that are put together here to `account`: request bodies until they are
    /// dropped, items until they are whole. Call it before the first byte arrives.
    #[must_use]
    pub fn with_account(mut self, account: Option<Arc<Account>>) -> Self {
        self.pool = BufferPool::new(account);
        self
    }

    /// True once the peer's hello has arrived.
    pub fn is_established(&self) -> bool {
        self.phase == Phase::Streams
    }

    /// The number of the last stream that the peer opened; 0 before the first.
    pub fn last_stream(&self) -> u32 {
        self.next_stream.saturating_sub(2)
    }

    /// The next event from the peer; `None` if more bytes are needed.
    ///
    /// # Errors
    /// The peer broke the protocol: close the connection with
    /// [`Outbound::close`](crate::Outbound::close).
    pub fn poll_event(&mut self, now: Instant) -> Result<Option<Event>, ConnectionError> {
        if self.has_whole() {
            return Ok(self.take_whole());
        }
        if let Some(total) = self.request_bodies.take_grant() {
            return Ok(Some(Event::GrantDue { total }));
        }
        loop {
            if let Some(arrived) = self.poll_items()? {
                let (stream, items) = (arrived.stream(), arrived.to_items());
                return Ok(Some(Event::Items { stream, items }));
            }
            let Some(header) = FrameHeader::read(&self.frames[self.at..]) else { break };
            let end = self.end_of(header)?;
            let start = std::mem::replace(&mut self.at, end);
            match self.read_frame(header, start, now) {
                Ok(None) => {}
                Ok(event) => return Ok(event),
                Err(error) => {
                    self.faulty = Some(header.stream);
                    return Err(error);
                }
            }
        }
        // What was looked at is let go of, so that an idle connection holds no buffer.
        self.started = None;
        self.frames = Bytes::new();
        self.at = 0;
        Ok(None)
    }

    /// Records that bytes have arrived, so the peer is alive. True if the [next
    /// look](Self::next_look) is due earlier than before.
    pub fn on_bytes(&mut self, now: Instant) -> bool {
        self.keep_alive.on_bytes(now)
    }

    /// The latest time for the next call of [`on_tick`](Self::on_tick).
    pub fn next_look(&self) -> Instant {
        self.keep_alive.next_look()
    }

    /// Looks at the clock, at [`next_look`](Self::next_look) or earlier. A late call means that
    /// this process did not run meanwhile. The peer then gets a new ping and the full time to
    /// answer, because its bytes may still be in the socket.
    ///
    /// # Errors
    /// [`ConnectionError::Silent`]: the peer is dead.
    pub fn on_tick(&mut self, now: Instant) -> Result<Tick, ConnectionError> {
        match self.keep_alive.on_tick(now) {
            KeepAliveStep::Alive => Ok(Tick::Idle),
            KeepAliveStep::Ask => Ok(Tick::Ping),
            KeepAliveStep::Dead => Err(ConnectionError::Silent),
        }
    }

    /// Frees empty buffers, and those for large messages that were not used since the last call.
    /// Call it if nothing has arrived for a while.
    pub fn shrink(&mut self) {
        self.pool.on_tick();
        if self.items.is_empty() && self.items.capacity() > 0 {
            self.items = FxHashMap::default();
        }
    }

    /// Records a frame that had no effect on its stream, or whose stream has ended.
    ///
    /// # Errors
    /// [`ConnectionError::Abuse`] when there are too many of them.
    pub fn on_ineffective_frame(&mut self, now: Instant) -> Result<(), ConnectionError> {
        if self.ineffective_frames.try_acquire(now) {
            return Ok(());
        }
        Err(ConnectionError::Abuse("frames without effect"))
    }

    /// An attach came.
    ///
    /// # Errors
    /// [`ConnectionError::Abuse`] when there are too many of them.
    pub(crate) fn on_attach(&mut self, now: Instant) -> Result<(), ConnectionError> {
        if !self.attaches.try_acquire(now) {
            return Err(ConnectionError::Abuse("attaches"));
        }
        self.ineffective_frames.refund(ATTACH_CROSSING);
        Ok(())
    }

    /// The attach found no stream.
    ///
    /// # Errors
    /// [`ConnectionError::Abuse`] when there are too many of them.
    pub(crate) fn on_refused_attach(&mut self, now: Instant) -> Result<(), ConnectionError> {
        if self.refused_attaches.try_acquire(now) {
            return Ok(());
        }
        Err(ConnectionError::Abuse("attaches without effect"))
    }

    fn read_frame(
        &mut self,
        header: FrameHeader,
        start: usize,
        now: Instant,
    ) -> Result<Option<Event>, ConnectionError> {
        let body = start + FRAME_HEADER_BYTES;
        let payload = self.frames.slice(body..body + header.len);
        let Some(kind) = Kind::from_wire(header.kind) else {
            if self.phase == Phase::Streams && header.may_be_ignored() {
                self.on_ineffective_frame(now)?;
                return Ok(None);
            }
            return Err(ConnectionError::Violation("a critical frame of unknown kind"));
        };
        if (kind == Kind::Hello) != (self.phase == Phase::Hello) {
            return Err(ConnectionError::Violation("a hello must come first, and once"));
        }
        let stream = header.stream;
        match kind {
            Kind::Hello => self.read_hello(&payload).map(Some),
            Kind::Open => self.read_open(stream, &payload, now),
            Kind::Chunk if self.role.peer().opens(stream) => self.read_body(stream, &payload, now),
            Kind::Attach => self.read_attach(stream, &payload).map(Some),
            // Looked at before this, see `poll_items`.
            Kind::Item => Ok(None),
            Kind::Accept
            | Kind::Head
            | Kind::Checkpoint
            | Kind::ItemBegin
            | Kind::Chunk
            | Kind::Complete
            | Kind::Failed
            | Kind::Cancelled
            | Kind::Reject => self.read_response(kind, stream, payload),
            Kind::Credit | Kind::Cancel => self.read_control(kind, stream, &payload, now).map(Some),
            Kind::Done | Kind::Grant | Kind::Ping | Kind::Pong | Kind::GoAway => {
                self.read_connection(kind, payload, now)
            }
        }
    }

    fn read_hello(&mut self, payload: &[u8]) -> Result<Event, ConnectionError> {
        let hello = Hello::decode(payload)?;
        self.integrity = self.own_integrity || hello.integrity;
        self.peer_granted = hello.request_window_bytes.into();
        self.phase = Phase::Streams;
        Ok(Event::Hello(hello))
    }
}
