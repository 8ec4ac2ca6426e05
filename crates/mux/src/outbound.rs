//! The sending direction of a connection: its streams, control frames, and the order in which
//! streams send.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use sinew_plane::{CancelReason, Error, Headers, StopKind, Terminal, Window, budget::Account};

use crate::{
    Attach, Batch, CheckedMuxConfig, ConnectionError, Credit, Hello, Open, Outbox, Role,
    frame::{Kind, PREFACE},
    message,
    outbox::CHUNK_BYTES,
};

/// Bodies up to this many bytes travel inside the open frame, before all data: small requests
/// overtake other streams' items, large ones wait their turn.
const INLINE_BODY_BYTES: usize = 8 << 10;

/// Streams above this number are not opened: a new connection takes over long before the
/// numbers run out.
const LAST_STREAM: u32 = u32::MAX - (1 << 20);

/// Ends that are told in one frame at the most, so that a frame stays far under its limit.
const MAX_DONE_STREAMS: usize = 1024;

/// Why a stream cannot be opened on this connection now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The peer sent a goaway, or the stream numbers are used up: use another connection.
    Retired,
    /// The peer takes no more streams at once.
    Streams,
    /// The request bodies under way fill the peer's window: wait for a grant.
    RequestWindow,
    /// The body is over the peer's limit.
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
}

/// The sending direction of a connection: numbers streams, keeps to the peer's limits, and
/// gathers frames for the next write.
#[derive(Debug)]
pub struct Outbound {
    role: Role,
    hello: Hello,
    peer: Option<Hello>,
    outbox: Outbox,
    next_stream: u32,
    /// Streams this side opened that have not ended.
    open_streams: u32,
    body_bytes_sent: u64,
    body_bytes_granted: u64,
    connection_window: u64,
    granted_window: u64,
    window: Window,
    min_window_bytes: u32,
    /// Streams with data that found no room, in the order of their turn.
    ready: VecDeque<u32>,
    done: Vec<u32>,
    retired: bool,
    /// A goodbye that waits for the peer's hello.
    go_away: Option<(u32, Error)>,
}

impl Outbound {
    /// Makes the sending direction of a new connection. Preface and hello wait to be written: a
    /// dialler's at once, an acceptor's once the peer's hello has arrived.
    pub fn new(role: Role, config: &CheckedMuxConfig) -> Self {
        let mut outbound = Self {
            role,
            hello: Hello::of(config),
            peer: None,
            outbox: Outbox::default(),
            next_stream: role.first_stream(),
            open_streams: 0,
            body_bytes_sent: 0,
            body_bytes_granted: 0,
            connection_window: config.connection_window_bytes,
            granted_window: 0,
            window: config.window,
            min_window_bytes: config.min_window_bytes,
            ready: VecDeque::new(),
            done: Vec::new(),
            retired: false,
            go_away: None,
        };
        if role == Role::Dialler {
            outbound.send_hello();
        }
        outbound
    }

    /// Charges output that waits to be written to `account`, beyond a small amount.
    #[must_use]
    pub fn with_account(mut self, account: Option<Arc<Account>>) -> Self {
        if let Some(account) = account {
            self.outbox.charge_to(account);
        }
        self
    }

    fn send_hello(&mut self) {
        self.outbox.raw(&PREFACE);
        let hello = self.hello;
        self.outbox.control(Kind::Hello, 0, |out| hello.encode(out));
    }

    /// Handles the peer's hello. Streams may be opened from now on.
    pub fn on_hello(&mut self, peer: Hello) {
        if self.role == Role::Acceptor {
            self.send_hello();
        }
        self.outbox.set_integrity(self.hello.integrity || peer.integrity);
        self.body_bytes_granted = peer.request_window_bytes.into();
        self.peer = Some(peer);
        if let Some((last_stream, error)) = self.go_away.take() {
            self.tell_go_away(last_stream, &error);
        }
    }

    /// The peer's hello, once it has arrived.
    pub fn peer(&self) -> Option<&Hello> {
        self.peer.as_ref()
    }

    /// Streams this side opened that have not ended.
    pub fn open_streams(&self) -> u32 {
        self.open_streams
    }

    /// How many streams this side has opened since the connection began.
    pub fn opened(&self) -> u32 {
        (self.next_stream - self.role.first_stream()) / 2
    }

    /// True if no new stream can be opened on this connection any more.
    pub fn is_retired(&self) -> bool {
        self.retired || self.next_stream > LAST_STREAM
    }

    /// Opens a stream. Sends the whole body if it fits into the frame, or none of it and leaves it
    /// to [`body_chunk`](Self::body_chunk). Returns the number of the stream.
    ///
    /// # Errors
    /// Why the stream cannot be opened. Nothing was sent.
    pub fn open(&mut self, open: &Open, body: &Bytes) -> Result<(u32, usize), Refusal> {
        let Some(peer) = self.peer.filter(|_| !self.is_retired()) else {
            return Err(Refusal::Retired);
        };
        let limit = peer.max_message_bytes as usize;
        if body.len() > limit {
            return Err(Refusal::TooLarge { limit });
        }
        if self.open_streams >= peer.max_streams {
            return Err(Refusal::Streams);
        }
        if self.body_bytes_sent >= self.body_bytes_granted {
            return Err(Refusal::RequestWindow);
        }
        let stream = self.take_number();
        self.body_bytes_sent += body.len() as u64;
        let inline = if body.len() <= INLINE_BODY_BYTES { body.len() } else { 0 };
        self.outbox.request(stream, |out| {
            open.encode(body.len(), out);
            out.extend_from_slice(&body[..inline]);
        });
        Ok((stream, inline))
    }

    fn take_number(&mut self) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        self.open_streams += 1;
        stream
    }

    /// Sends the next chunk of a body from offset `sent` on, and returns the offset after it.
    pub fn body_chunk(&mut self, stream: u32, body: &Bytes, sent: usize) -> usize {
        let end = body.len().min(sent + CHUNK_BYTES);
        self.outbox.payload(Kind::Chunk, stream, b"", &body.slice(sent..end));
        end
    }

    /// Attaches an open stream to this connection.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn attach(&mut self, attach: &Attach) -> Result<u32, Refusal> {
        self.may_attach()?;
        let stream = self.take_number();
        self.outbox.control(Kind::Attach, stream, |out| attach.encode(out));
        Ok(stream)
    }

    /// Whether a stream can be attached.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn may_attach(&self) -> Result<(), Refusal> {
        let peer = self.peer.filter(|_| !self.is_retired()).ok_or(Refusal::Retired)?;
        if self.open_streams < peer.max_streams { Ok(()) } else { Err(Refusal::Streams) }
    }

    /// Grants a window for a new stream: the wanted one, or less if this connection has granted
    /// much already. Return it with [`release_window`](Self::release_window).
    pub fn grant_window(&mut self, wanted: Option<Window>) -> Window {
        let wanted = wanted.unwrap_or(self.window);
        let free = self.connection_window.saturating_sub(self.granted_window);
        // An eighth of what is free: the first streams get what they want, and a crowd shares.
        let share = u32::try_from(free / 8).unwrap_or(u32::MAX).max(self.min_window_bytes);
        let bytes = wanted.bytes.clamp(1, share);
        self.granted_window += u64::from(bytes);
        Window { items: wanted.items.max(1), bytes }
    }

    /// Counts the window of a stream that comes from another connection.
    pub(crate) fn take_over_window(&mut self, window: Window) {
        self.granted_window += u64::from(window.bytes);
    }

    /// Returns the window of a stream that has ended.
    pub fn release_window(&mut self, window: Window) {
        self.granted_window = self.granted_window.saturating_sub(window.bytes.into());
    }

    /// Records that a stream which this side opened has ended.
    pub fn on_stream_ended(&mut self) {
        self.open_streams = self.open_streams.saturating_sub(1);
    }

    /// Handles a grant: the peer takes request bodies of `total` bytes since the connection began.
    pub fn on_grant(&mut self, total: u64) {
        self.body_bytes_granted = self.body_bytes_granted.max(total);
    }

    /// Handles a goaway: the peer takes no new streams.
    pub fn on_go_away(&mut self) {
        self.retired = true;
    }

    /// Sends credit for a stream.
    pub fn credit(&mut self, stream: u32, credit: Credit) {
        self.outbox.control(Kind::Credit, stream, |out| message::encode_credit(&credit, out));
    }

    /// Asks for the end of a stream.
    pub fn cancel(&mut self, stream: u32, kind: StopKind, reason: CancelReason) {
        let kind = message::stop_kind_to_wire(kind);
        let payload = [kind, reason.to_wire()];
        self.outbox.control(Kind::Cancel, stream, |out| out.extend(payload));
    }

    /// Refuses a stream before anything ran.
    pub fn reject(&mut self, stream: u32, error: &Error) {
        self.outbox.control(Kind::Reject, stream, |out| message::encode_error(error, out));
    }

    /// Ends a stream that has no producer.
    pub fn terminal(&mut self, stream: u32, terminal: &Terminal, items: u64) {
        self.outbox.terminal(stream, terminal, items, &Headers::new());
    }

    /// Reports to the peer, with the next write, that this side has received the end of a stream.
    pub fn done(&mut self, stream: u32) {
        self.done.push(stream);
        if self.done.len() >= MAX_DONE_STREAMS {
            self.tell_done();
        }
    }

    fn tell_done(&mut self) {
        if self.done.is_empty() {
            return;
        }
        self.outbox.control(Kind::Done, 0, |out| {
            self.done.iter().for_each(|stream| out.extend_from_slice(&stream.to_be_bytes()));
        });
        self.done.clear();
    }

    /// Sends the peer its new total for request bodies.
    pub fn grant(&mut self, total: u64) {
        self.outbox.control(Kind::Grant, 0, |out| out.extend(total.to_be_bytes()));
    }

    /// Sends the peer a ping. Sends nothing before the peer's hello, because the peer could not
    /// read a ping; the keep-alive timeout covers its silence.
    pub fn ping(&mut self, token: u64) {
        if self.peer.is_none() {
            return;
        }
        self.outbox.control(Kind::Ping, 0, |out| out.extend(token.to_be_bytes()));
    }

    /// Answers a ping.
    pub fn pong(&mut self, token: u64) {
        self.outbox.control(Kind::Pong, 0, |out| out.extend(token.to_be_bytes()));
    }

    /// Sends a goaway: this side takes no streams above `last_stream`, for the reason `error`. It
    /// is sent at once, or after the hello if the peer's hello has not arrived yet.
    pub fn go_away(&mut self, last_stream: u32, error: &Error) {
        if self.peer.is_none() {
            self.go_away = Some((last_stream, error.clone()));
            return;
        }
        self.tell_go_away(last_stream, error);
    }

    fn tell_go_away(&mut self, last_stream: u32, error: &Error) {
        self.outbox.control(Kind::GoAway, 0, |out| {
            out.extend(last_stream.to_be_bytes());
            message::encode_error(error, out);
        });
    }

    /// Sends the goaway for a peer that broke the protocol.
    pub fn close(&mut self, error: &ConnectionError) {
        self.retired = true;
        self.go_away = None;
        // To somebody who speaks another protocol nothing is said: it would not understand.
        // Who never said a word may be such a one.
        let unknown = *error == ConnectionError::NotSinew
            || (*error == ConnectionError::Silent && self.peer.is_none());
        if unknown {
            return;
        }
        if self.peer.is_none() {
            if self.role == Role::Dialler {
                // Whether the acceptor expects checks is not known: it could not read it.
                return;
            }
            // A goaway is read only behind a hello, which also tells the versions spoken here.
            self.send_hello();
            self.outbox.set_integrity(self.hello.integrity);
        }
        // Nothing is promised about streams that were not begun: any may have been.
        self.tell_go_away(u32::MAX, &Error::new(error.code(), error.to_string()));
    }

    /// The outbox for the frames of producers.
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Bytes of the answers that wait, as [`Outbox::answer_bytes`].
    pub fn answer_bytes(&self) -> usize {
        self.outbox.answer_bytes()
    }

    /// True while a stream may add data without queueing.
    pub fn is_clear(&self) -> bool {
        self.ready.is_empty() && self.outbox.has_room()
    }

    /// Adds a stream to the end of the queue of senders. It must not be in the queue already.
    pub fn queue(&mut self, stream: u32) {
        self.ready.push_back(stream);
    }

    /// The first stream of the queue, if there is room for its data.
    pub fn next_turn(&mut self) -> Option<u32> {
        if self.outbox.make_room() { self.ready.pop_front() } else { None }
    }

    /// True if there is something to write or a stream is queued.
    pub fn has_output(&self) -> bool {
        !self.outbox.is_empty() || !self.ready.is_empty()
    }

    /// All output that waits to be written, control frames first.
    pub fn take_batch(&mut self) -> Batch {
        self.tell_done();
        self.outbox.take_batch()
    }

    /// Frees empty buffers. They are allocated again when they are needed.
    pub fn shrink(&mut self) {
        self.outbox.shrink();
        if self.ready.is_empty() {
            self.ready = VecDeque::new();
        }
        if self.done.is_empty() {
            self.done = Vec::new();
        }
    }

    /// Takes back the buffers of a batch that was written.
    pub fn recycle(&mut self, batch: &mut Batch) {
        self.outbox.recycle(batch);
    }
}
