//! What arrives on a connection: bytes in, checked events out.

use std::{sync::Arc, time::Instant};

use bytes::{Buf, Bytes, BytesMut};
use rustc_hash::FxHashMap;
use sinew_plane::{Error, StreamId, Window, budget::Account};

use crate::{
    CheckedMuxConfig, ConnectionError, Event, Hello, Open,
    assembly::Assembly,
    frame::{self, CHECK_BYTES, FRAME_HEADER_BYTES, FrameHeader, Kind, PREFACE},
    hello::MAX_HELLO_BYTES,
    intake::{Chunk, GivenUp, Intake},
    message::{self, Fields, MAX_ENDPOINT_BYTES, OPEN_HEAD_BYTES},
    outbox::CHUNK_BYTES,
    pool::Pool,
    vigilance::{Allowance, Beat, Pulse},
};

mod control;
mod direct;
mod response;

use self::{direct::Direct, response::Begun};

/// Longest frame payload that is taken: an open with the largest header block and a whole chunk
/// of body.
const MAX_FRAME_BYTES: usize = OPEN_HEAD_BYTES + MAX_ENDPOINT_BYTES + (64 << 10) + CHUNK_BYTES;

/// Reads up to this many bytes are copied out of the read buffer, so that an item which waits
/// for its consumer does not hold a buffer that is far larger than itself.
const COPY_OUT_BYTES: usize = 16 << 10;

/// Frames that had no effect: a peer that is in order sends few. Pings and credit that crossed
/// an end on its way are the ordinary cause.
const USELESS_BURST: u32 = 2_000;
const USELESS_PER_SECOND: u32 = 200;

/// Cancels: a caller may well drop all its streams at once, but not for ever.
const CANCEL_BURST: u32 = 32_768;
const CANCELS_PER_SECOND: u32 = 10_000;

/// Which end of a connection this is. It decides who numbers streams how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Made the connection; opens streams 1, 3, 5, ...
    Dialler,
    /// Accepted it; opens streams 2, 4, 6, ...
    Acceptor,
}

impl Role {
    /// The other end.
    pub const fn peer(self) -> Self {
        match self {
            Self::Dialler => Self::Acceptor,
            Self::Acceptor => Self::Dialler,
        }
    }

    /// The first stream that this end opens.
    pub const fn first_stream(self) -> u32 {
        match self {
            Self::Dialler => 1,
            Self::Acceptor => 2,
        }
    }

    /// True when this end opens streams with this number.
    pub const fn opens(self, stream: u32) -> bool {
        stream != 0 && stream % 2 == self.first_stream() % 2
    }
}

/// What a look at the clock means for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tick {
    /// Nothing to do.
    Idle,
    /// Ask the peer whether it is there: [`Outbound::ping`](crate::Outbound::ping).
    Ping,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Preface,
    Hello,
    Streams,
}

/// The receiving direction of a connection. Feed it with [`ingest`](Self::ingest), empty it with
/// [`poll_event`](Self::poll_event), and repeat until `ingest` has nothing more. An
/// [`ItemBegin`](Event::ItemBegin) is answered with [`assemble`](Self::assemble), or the item is
/// skipped.
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
    intake: Intake,
    /// Items that come in chunks, by their streams.
    items: FxHashMap<u32, Assembly>,
    /// The item that the last event began, until somebody says that it is wanted.
    begun: Option<Begun>,
    direct: Direct,
    pool: Pool,
    /// Request bodies that the peer lets this side send, since the connection began.
    peer_granted: u64,
    useless: Allowance,
    cancels: Allowance,
    pulse: Pulse,
    /// The stream whose frame broke the protocol.
    faulty: Option<u32>,
}

impl Inbound {
    /// The receiving direction of a new connection.
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
            intake: Intake::new(config),
            items: FxHashMap::default(),
            begun: None,
            direct: Direct::default(),
            pool: Pool::default(),
            peer_granted: 0,
            useless: Allowance::new(USELESS_BURST, USELESS_PER_SECOND, now),
            cancels: Allowance::new(CANCEL_BURST, CANCELS_PER_SECOND, now),
            pulse: Pulse::new(config.keepalive_interval, config.keepalive_timeout, now),
            faulty: None,
        }
    }

    /// The stream whose frame was at fault when an error was returned, where one was.
    pub fn faulty_stream(&self) -> Option<u32> {
        self.faulty.filter(|stream| *stream != 0)
    }

    /// Charges what is put together here to `account`: request bodies for as long as somebody holds
    /// them, items until they are whole. To be called before the first byte.
    #[must_use]
    pub fn with_account(mut self, account: Option<Arc<Account>>) -> Self {
        self.pool = Pool::new(account);
        self
    }

    /// True once the peer's hello was seen.
    pub fn is_established(&self) -> bool {
        self.phase == Phase::Streams
    }

    /// The last stream that the peer opened; 0 before the first.
    pub fn last_stream(&self) -> u32 {
        self.next_stream.saturating_sub(2)
    }

    /// Takes all whole frames off the front of `buffer`. False when there is none yet; then
    /// read more.
    ///
    /// # Errors
    /// The bytes are no sinew protocol, or a frame is over the limit.
    pub fn ingest(&mut self, buffer: &mut BytesMut) -> Result<bool, ConnectionError> {
        debug_assert!(self.at == self.frames.len(), "events are taken before more is read");
        if self.phase == Phase::Preface {
            let seen = buffer.len().min(PREFACE.len());
            if buffer[..seen] != PREFACE[..seen] {
                return Err(ConnectionError::NotSinew);
            }
            if seen < PREFACE.len() {
                return Ok(false);
            }
            buffer.advance(PREFACE.len());
            self.phase = Phase::Hello;
        }
        self.begun = None;
        let inside = self.absorb(buffer);
        if self.has_whole() {
            return Ok(true);
        }
        if inside {
            return Ok(false);
        }
        let whole = match self.whole_frames(buffer) {
            Ok(whole) => whole,
            Err(error) => {
                self.faulty = FrameHeader::read(buffer).map(|header| header.stream);
                return Err(error);
            }
        };
        if whole == 0 {
            return Ok(self.cut(buffer));
        }
        self.at = 0;
        self.frames = if whole <= COPY_OUT_BYTES {
            let frames = Bytes::copy_from_slice(&buffer[..whole]);
            buffer.advance(whole);
            frames
        } else {
            buffer.split_to(whole).freeze()
        };
        Ok(true)
    }

    /// How many bytes of whole frames stand at the front.
    fn whole_frames(&self, buffer: &[u8]) -> Result<usize, ConnectionError> {
        let (limit, check) = match self.phase {
            Phase::Streams => (MAX_FRAME_BYTES, if self.integrity { CHECK_BYTES } else { 0 }),
            // Whether checks follow is decided by the hello, so it is looked at alone.
            Phase::Preface | Phase::Hello => (MAX_HELLO_BYTES, 0),
        };
        let mut end = 0;
        while let Some(header) = FrameHeader::read(&buffer[end..]) {
            if header.len > limit {
                // The frames before it count, however they were cut: they are looked at first.
                if end > 0 {
                    break;
                }
                return Err(ConnectionError::FrameTooLarge { bytes: header.len });
            }
            let next = end + FRAME_HEADER_BYTES + header.len + check;
            if next > buffer.len() {
                break;
            }
            end = next;
            if self.phase != Phase::Streams {
                break;
            }
        }
        Ok(end)
    }

    /// The next thing that the peer said; `None` when more bytes are needed.
    ///
    /// # Errors
    /// The peer broke the protocol: close the connection with
    /// [`Outbound::close`](crate::Outbound::close).
    pub fn poll_event(&mut self, now: Instant) -> Result<Option<Event>, ConnectionError> {
        if self.has_whole() {
            return Ok(self.take_whole());
        }
        if let Some(total) = self.intake.take_grant() {
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
        self.begun = None;
        self.frames = Bytes::new();
        self.at = 0;
        Ok(None)
    }

    /// Bytes arrived: the peer is alive. True when the [next look](Self::next_look) is due
    /// earlier than it was.
    pub fn on_bytes(&mut self, now: Instant) -> bool {
        self.pulse.on_bytes(now)
    }

    /// When to look at the clock at the latest, with [`on_tick`](Self::on_tick).
    pub fn next_look(&self) -> Instant {
        self.pulse.next_look()
    }

    /// A look at the clock, at [`next_look`](Self::next_look) or earlier. One that comes late
    /// means that this process did not run meanwhile: the peer is then asked anew and has its
    /// time to answer, as what it said may lie in the socket.
    ///
    /// # Errors
    /// [`ConnectionError::Silent`]: the peer is dead.
    pub fn on_tick(&mut self, now: Instant) -> Result<Tick, ConnectionError> {
        self.pool.on_tick();
        if self.items.is_empty() && self.items.capacity() > 0 {
            self.items = FxHashMap::default();
        }
        match self.pulse.on_tick(now) {
            Beat::Alive => Ok(Tick::Idle),
            Beat::Ask => Ok(Tick::Ping),
            Beat::Dead => Err(ConnectionError::Silent),
        }
    }

    /// The requests that are given up now because their bodies do not come along, each with the
    /// error for [`Outbound::reject`](crate::Outbound::reject). To be asked for with each
    /// [tick](Self::on_tick).
    pub fn overdue(&mut self, now: Instant) -> Vec<(u32, Error)> {
        let overdue = self.intake.overdue(now, &self.pool);
        overdue.into_iter().map(|given_up| self.forgive(given_up)).collect()
    }

    /// What of a request that was given up still comes is not held against the peer.
    fn forgive(&mut self, given_up: GivenUp) -> (u32, Error) {
        self.useless.earn(given_up.chunks);
        (given_up.stream, given_up.error)
    }

    /// The memory budget has no room for more of the message of this stream.
    fn refuse(&mut self, stream: u32) -> Event {
        if self.role.opens(stream) {
            self.items.remove(&stream);
            return Event::ItemRefused { stream };
        }
        let account = self.pool.account();
        // Without an account nothing is ever refused.
        let error = account.map(|account| account.budget().refusal());
        let error = error.unwrap_or_else(|| Error::new(sinew_plane::Code::Overloaded, "no memory"));
        let given_up = self.intake.give_up(stream, error);
        let (stream, error) = self.forgive(given_up);
        Event::OpenRefused { stream, error }
    }

    /// A frame had no effect on its stream, or its stream is no longer there.
    ///
    /// # Errors
    /// [`ConnectionError::Abuse`] when there are too many of them.
    pub fn on_useless(&mut self, now: Instant) -> Result<(), ConnectionError> {
        if self.useless.spend(now) {
            return Ok(());
        }
        Err(ConnectionError::Abuse("frames without effect"))
    }

    /// Where the frame at the front ends, after a look at its check.
    fn end_of(&self, header: FrameHeader) -> Result<usize, ConnectionError> {
        let end = self.at + FRAME_HEADER_BYTES + header.len;
        if !self.integrity {
            return Ok(end);
        }
        let sent = &self.frames[end..end + CHECK_BYTES];
        if self.verify_checks && frame::check_one(&self.frames[self.at..end]) != sent {
            return Err(ConnectionError::Corrupt);
        }
        Ok(end + CHECK_BYTES)
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
                self.on_useless(now)?;
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
            | Kind::ItemBegin
            | Kind::Chunk
            | Kind::Complete
            | Kind::Failed
            | Kind::Cancelled
            | Kind::Reject => self.read_response(kind, stream, payload),
            Kind::Credit | Kind::Cancel => self.read_control(kind, stream, &payload, now).map(Some),
            Kind::Done | Kind::Grant | Kind::Ping | Kind::Pong | Kind::GoAway => {
                self.read_connection(kind, &payload, now)
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

    fn begin_stream(&mut self, stream: u32) -> Result<(), ConnectionError> {
        if stream != self.next_stream {
            return Err(ConnectionError::Violation("streams must be numbered without a gap"));
        }
        self.next_stream = self
            .next_stream
            .checked_add(2)
            .ok_or(ConnectionError::Violation("the stream numbers are used up"))?;
        Ok(())
    }

    fn read_open(
        &mut self,
        stream: u32,
        payload: &Bytes,
        now: Instant,
    ) -> Result<Option<Event>, ConnectionError> {
        let (open, body_len, first) = Open::decode(payload)?;
        self.begin_stream(stream)?;
        self.useless.earn(crossing(open.window));
        let begun = self.intake.begin((stream, now), open, body_len, first, &mut self.pool)?;
        if let Chunk::NoRoom = begun {
            self.useless.earn(u32::try_from(body_len.div_ceil(CHUNK_BYTES)).unwrap_or(u32::MAX));
        }
        Ok(self.body_event(stream, begun))
    }

    fn body_event(&mut self, stream: u32, chunk: Chunk) -> Option<Event> {
        match chunk {
            Chunk::Whole(opened) => Some(Event::Opened(opened)),
            Chunk::NoRoom => Some(self.refuse(stream)),
            Chunk::Partial | Chunk::Unknown => None,
        }
    }

    fn read_body(
        &mut self,
        stream: u32,
        chunk: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, ConnectionError> {
        if stream >= self.next_stream {
            return Err(ConnectionError::Violation("a chunk of a stream that was not opened"));
        }
        let chunk = self.intake.chunk(stream, chunk, &mut self.pool)?;
        // Chunks that were in line when their stream was cancelled still arrive.
        if let Chunk::Unknown = chunk {
            self.on_useless(now)?;
        }
        Ok(self.body_event(stream, chunk))
    }

    fn read_attach(&mut self, stream: u32, payload: &[u8]) -> Result<Event, ConnectionError> {
        let mut fields = Fields(payload);
        let mut read = || {
            let id = StreamId(u128::from_be_bytes(fields.take()?));
            Some((id, fields.u64()?, message::decode_credit(&mut fields)?))
        };
        let (id, next_item, credit) =
            read().ok_or(ConnectionError::Violation("an attach that cannot be read"))?;
        self.begin_stream(stream)?;
        Ok(Event::Attach { stream, id, next_item, credit })
    }
}

/// What a stream may add to the frames without effect: its consumer tells credit at the latest
/// every 256 items or 64 KiB, and all of a window's credit may cross the end, and two cancels.
fn crossing(window: Window) -> u32 {
    (window.items / 256).saturating_add(window.bytes / (64 << 10)).saturating_add(4)
}
