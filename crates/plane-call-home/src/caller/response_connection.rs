//! The caller's end of a connection that carries one response.

use std::{
    io,
    net::Shutdown,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use sinew_codec::TwoPartCodec;
use sinew_dynamo_wire::{ControlMessage, Failure, Heartbeats, MAX_HEADER_BYTES, Message};
use sinew_net::Place;
use sinew_plane::{BudgetUse, Code, Error, Headers, ItemBatch, ResponseMetadata, Terminal, clock};
use sinew_telemetry::ActiveConnection;
use socket2::SockRef;
use tokio::{io::AsyncReadExt, net::TcpStream};
use tokio_util::sync::CancellationToken;

use crate::{config::CheckedTcpStreamServerConfig, share::Share};

/// Room for the first read, in bytes. It doubles while reads fill it, so that a stream of small
/// items costs little and one of large items few system calls.
const FIRST_ROOM: usize = 4 << 10;
const LAST_ROOM: usize = 64 << 10;

/// Longest wait for the worker to close after this side has ended a stream, and how much of what
/// it still sends is read and dropped.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 64 << 20;

/// A connection that the handshake has assigned to a response. It is read when the consumer asks
/// for items and not before: what the consumer does not take stays in the sockets, and holds up
/// its producer.
pub(crate) struct ResponseConnection {
    socket: TcpStream,
    codec: TwoPartCodec,
    buffer: BytesMut,
    /// What is charged for a buffer that has grown.
    share: Share,
    room: usize,
    /// Control frames that the socket did not take yet.
    unsent: BytesMut,
    begun: bool,
    items: u64,
    metadata: ResponseMetadata,
    /// An item that came while the head was waited for.
    held: Option<Bytes>,
    heartbeats: Heartbeats,
    at_end: bool,
    /// What follows the items that were handed out.
    next: Option<ConnectionEnd>,
    counted: OpenGuard,
    /// Counts the connection and its bytes.
    active: ActiveConnection,
    sealed: bool,
}

/// How a response ended on its connection.
#[derive(Debug)]
pub(crate) enum ConnectionEnd {
    /// As the worker said.
    Said(Terminal),
    /// The connection ended first.
    Eof(Option<io::Error>),
    /// The worker broke the protocol.
    Violation(Error),
}

/// What a look at the connection waits for.
pub(crate) enum ReadUntil<'a> {
    /// The prologue.
    Start,
    /// The head, or an item that came without one.
    Head,
    /// Items, to be put here.
    Items(&'a mut ItemBatch),
}

impl ReadUntil<'_> {
    pub(crate) fn reborrow(&mut self) -> ReadUntil<'_> {
        match self {
            Self::Start => ReadUntil::Start,
            Self::Head => ReadUntil::Head,
            Self::Items(batch) => ReadUntil::Items(batch),
        }
    }
}

/// What a look at the connection gave.
#[derive(Debug)]
pub(crate) enum ReadEvent {
    /// What was waited for is there, and it is no item: the start or the head.
    Ready,
    Items,
    Outcome(ConnectionEnd),
}

impl ResponseConnection {
    /// A connection with what was read from it behind the handshake.
    pub(crate) fn new(
        socket: TcpStream,
        buffer: BytesMut,
        codec: TwoPartCodec,
        (counted, active): (OpenGuard, ActiveConnection),
        config: &CheckedTcpStreamServerConfig,
    ) -> Self {
        active.metrics().received(buffer.len());
        let codec = codec.with_max_header_size(MAX_HEADER_BYTES);
        Self {
            socket,
            codec,
            buffer,
            share: Share::new(config.driver.budget.as_ref(), BudgetUse::Frames),
            room: FIRST_ROOM,
            unsent: BytesMut::new(),
            begun: false,
            items: 0,
            metadata: ResponseMetadata::new(),
            held: None,
            heartbeats: Heartbeats::new(clock::now()),
            at_end: false,
            next: None,
            counted,
            active,
            sealed: config.writes_checks(),
        }
    }

    /// True once the prologue has said that the handler began.
    pub(crate) fn is_begun(&self) -> bool {
        self.begun
    }

    /// The head that came; empty without one.
    pub(crate) fn head(&self) -> Headers {
        self.metadata.head().cloned().unwrap_or_default()
    }

    /// Head and facts, for the time after this.
    pub(crate) fn take_metadata(&mut self) -> ResponseMetadata {
        std::mem::take(&mut self.metadata)
    }

    /// True when what is waited for is there, and is no item.
    fn has(&self, until: &ReadUntil<'_>) -> bool {
        match until {
            ReadUntil::Start => self.begun,
            ReadUntil::Head => self.metadata.head().is_some() || self.items > 0,
            ReadUntil::Items(_) => false,
        }
    }

    /// Reads until what is waited for is there, or the end.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut until: ReadUntil<'_>,
    ) -> Poll<ReadEvent> {
        if let ReadUntil::Items(batch) = &mut until
            && let Some(item) = self.held.take()
        {
            batch.push(item);
        }
        if !self.unsent.is_empty() && self.socket.poll_write_ready(cx).is_ready() {
            self.send_unsent();
        }
        loop {
            if matches!(until, ReadUntil::Head) && self.has(&until) {
                return Poll::Ready(ReadEvent::Ready);
            }
            if let Some(end) = self.next.take() {
                return Poll::Ready(ReadEvent::Outcome(end));
            }
            if self.has(&until) {
                return Poll::Ready(ReadEvent::Ready);
            }
            self.next = self.decode(&mut until);
            if matches!(&until, ReadUntil::Items(batch) if !batch.is_empty()) {
                return Poll::Ready(ReadEvent::Items);
            }
            if self.next.is_some() || self.has(&until) {
                continue;
            }
            match self.socket.poll_read_ready(cx) {
                Poll::Ready(Ok(())) => self.next = self.read(),
                Poll::Ready(Err(error)) => self.next = Some(ConnectionEnd::Eof(Some(error))),
                Poll::Pending => {
                    // A stream that waits keeps no buffer.
                    if self.buffer.is_empty() {
                        self.buffer = BytesMut::new();
                        self.share.settle(self.metadata.bytes());
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    fn read(&mut self) -> Option<ConnectionEnd> {
        if self.buffer.capacity() - self.buffer.len() < self.room / 2 {
            self.buffer.reserve(self.room);
        }
        // A frame that is not whole has as much as has arrived of it, and the next step.
        if !self.share.cover(self.buffer.capacity() + self.metadata.bytes()) {
            return self.share.overflow().map(ConnectionEnd::Violation);
        }
        let room = self.buffer.capacity() - self.buffer.len();
        match self.socket.try_read_buf(&mut self.buffer) {
            Ok(0) => {
                self.at_end = true;
                // Whole frames were decoded before this read.
                Some(ConnectionEnd::Eof(None))
            }
            Ok(bytes) => {
                self.active.metrics().received(bytes);
                if bytes == room {
                    self.room = (self.room * 2).min(LAST_ROOM);
                }
                None
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
            Err(error) => {
                self.at_end = true;
                Some(ConnectionEnd::Eof(Some(error)))
            }
        }
    }

    /// Takes whole frames out of the buffer, up to what is waited for, or to its end.
    fn decode(&mut self, until: &mut ReadUntil<'_>) -> Option<ConnectionEnd> {
        // A consumer may keep what it gets for long: items that are little of what was read are
        // copied, so that a few of them do not hold a whole piece of reading each.
        let sparse = self.buffer.len() < self.buffer.capacity() / 4;
        loop {
            if self.has(until) {
                return None;
            }
            let frame = match self.codec.decode_frame(&mut self.buffer) {
                Ok(Some(frame)) => frame,
                Ok(None) => return None,
                Err(cause) => {
                    let message = format!("the worker sent what is no response frame: {cause}");
                    let error = Error::new(Code::Violation, message).with_source(cause);
                    return Some(ConnectionEnd::Violation(error));
                }
            };
            match Message::read(frame) {
                Ok(Message::Item(item)) if self.begun => {
                    self.items += 1;
                    let item = if sparse { Bytes::copy_from_slice(&item) } else { item };
                    match until {
                        ReadUntil::Items(batch) => batch.push(item),
                        ReadUntil::Start | ReadUntil::Head => self.held = Some(item),
                    }
                }
                Ok(Message::Item(_)) => return violation("an item before the prologue"),
                Ok(Message::Heartbeat) if self.heartbeats.accept(clock::now()) => {}
                Ok(Message::Heartbeat) => return violation("too many heartbeats"),
                Ok(Message::Control(ControlMessage::Sentinel)) if self.begun => {
                    self.at_end = true;
                    return Some(ConnectionEnd::Said(Terminal::Complete { items: self.items }));
                }
                Ok(Message::Control(_)) => return violation("a control message out of place"),
                Ok(Message::Begun) if self.begun => return violation("a second prologue"),
                Ok(Message::Begun) => self.begun = true,
                Ok(Message::Head(head)) => {
                    if !self.begun || self.items > 0 || !self.metadata.set_head(head) {
                        return violation("a head out of place");
                    }
                }
                Ok(Message::Facts(facts)) => {
                    if facts.is_empty() || !self.metadata.facts().is_empty() {
                        return violation("facts out of place");
                    }
                    self.metadata.set_facts(facts);
                }
                Ok(Message::Failed(Failure::Failed(error))) => {
                    return Some(ConnectionEnd::Said(Terminal::Failed { error }));
                }
                Ok(Message::Failed(Failure::Cancelled(reason))) => {
                    return Some(ConnectionEnd::Said(Terminal::Cancelled { reason }));
                }
                Err(what) => return violation(what),
            }
        }
    }

    /// Sends a control message now, as far as the socket takes it; it always does unless the
    /// worker has stopped reading.
    pub(crate) fn send(&mut self, control: ControlMessage) {
        self.unsent.extend_from_slice(&control.frame());
        self.send_unsent();
    }

    fn send_unsent(&mut self) {
        while !self.unsent.is_empty() {
            match self.socket.try_write(&self.unsent) {
                Ok(bytes) => self.unsent.advance(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Reading will find the same.
                Err(_) => self.unsent.clear(),
            }
        }
    }

    /// True when frames that this side sends carry a checksum.
    pub(crate) fn writes_checks(&self) -> bool {
        self.sealed
    }

    /// The bare socket, for the other direction. What was read ahead is dropped.
    pub(crate) fn into_socket(self) -> (TcpStream, OpenGuard) {
        (self.socket, self.counted)
    }

    /// True when nothing more can come: closing loses nothing.
    pub(crate) fn is_at_end(&self) -> bool {
        self.at_end
    }

    /// Ends this direction and reads and drops what still comes for a while: a socket that is
    /// closed with unread input resets the connection, and takes along what was sent.
    pub(crate) async fn linger(mut self) {
        let farewell = async {
            while !self.unsent.is_empty() && self.socket.writable().await.is_ok() {
                self.send_unsent();
            }
            // It fails only when the peer is gone already, which is as good.
            let _ = SockRef::from(&self.socket).shutdown(Shutdown::Write);
            let mut dropped = 0;
            self.buffer = BytesMut::with_capacity(LAST_ROOM);
            while dropped < LINGER_BYTES {
                self.buffer.clear();
                match self.socket.read_buf(&mut self.buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(bytes) => dropped += bytes,
                }
            }
        };
        let _ = tokio::time::timeout(LINGER, farewell).await;
    }
}

fn violation(what: &str) -> Option<ConnectionEnd> {
    let message = format!("the worker sent {what}");
    Some(ConnectionEnd::Violation(Error::new(Code::Violation, message)))
}

/// Counts a connection as open for as long as it lives, and has its place at the listener.
pub(crate) struct OpenGuard {
    open: Arc<AtomicUsize>,
    place: Option<Place>,
}

impl OpenGuard {
    pub(crate) fn new(open: &Arc<AtomicUsize>, place: Place) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self { open: Arc::clone(open), place: Some(place) }
    }

    /// Cancelled when the connection is to go before it has a stream.
    pub(crate) fn leave(&self) -> CancellationToken {
        self.place.as_ref().map_or_else(CancellationToken::new, |place| place.leave().clone())
    }

    /// It carries a stream from here on, or nothing more.
    pub(crate) fn is_busy(&self) {
        if let Some(place) = &self.place {
            place.is_busy();
        }
    }

    /// Counted by somebody else from here on.
    pub(crate) fn into_place(mut self) -> Option<Place> {
        self.place.take()
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}
