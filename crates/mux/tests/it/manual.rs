//! A driver without tasks, sockets and a clock: bytes move where and when its user says.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{BufMut, BytesMut};
use sinew_mux::{
    CheckedMuxConfig, Connection, ConnectionError, Driver, Effects, ReceivedRequest, Receiver,
    Sessions,
};
use sinew_plane::{Fault, burst};

/// Header, payload and check of the longest frame.
const MAX_FRAME: usize = 8 + 59 + 1024 + 65_536 + 65_536 + 4;

/// An outbox is full at 256 KiB, and then may hold one chunk more; the rest is control, terminals
/// and opens with their bodies of a few streams.
const MAX_BATCH: usize = (256 << 10) + (64 << 10) + (64 << 10);

/// No connection is closed because it is idle.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1 << 30);

/// The driver's part of a connection: what a driver with tasks would have been woken for.
#[derive(Debug, Default)]
pub(crate) struct Manual {
    wants_write: AtomicBool,
}

impl Manual {
    fn wake_writer(&self) {
        self.wants_write.store(true, Ordering::Relaxed);
    }
}

impl Driver for Manual {
    fn transmit(connection: &Connection<Self>) {
        connection.driver().wake_writer();
    }

    fn transmit_soon(connection: &Connection<Self>) {
        connection.driver().wake_writer();
    }

    fn flush(connection: &Connection<Self>) {
        connection.driver().wake_writer();
    }

    fn on_idle(&self) {}

    fn on_refused(&self, _: Fault) {}

    fn on_detached(&self) {}
}

/// One end of a connection: its reader, its writer and its timer.
pub(crate) struct End {
    pub(crate) connection: Arc<Connection<Manual>>,
    receiver: Receiver<Manual>,
    effects: Effects<Manual>,
    buffer: BytesMut,
    /// When the timer fires. It is set anew only when the machine says that it has to be.
    due: Instant,
    /// Requests were admitted whose callers may not know.
    watches: bool,
    /// The rest of a large message is read to where it belongs, not into the buffer.
    pub(crate) direct: bool,
    pub(crate) is_established: bool,
}

impl End {
    pub(crate) fn new(
        connection: Arc<Connection<Manual>>,
        config: &CheckedMuxConfig,
        sessions: Arc<Sessions<Manual>>,
        now: Instant,
    ) -> Self {
        let receiver = Receiver::new(Arc::clone(&connection), config, sessions, IDLE_TIMEOUT, now);
        connection.driver().wake_writer();
        Self {
            due: receiver.poll_timeout(),
            connection,
            receiver,
            effects: Effects::default(),
            buffer: BytesMut::new(),
            watches: false,
            direct: true,
            is_established: false,
        }
    }

    /// Takes bytes in and hands the requests among them to `serve`.
    pub(crate) fn handle_input(
        &mut self,
        mut bytes: &[u8],
        now: Instant,
        mut serve: impl FnMut(ReceivedRequest<Manual>),
    ) -> Result<(), ConnectionError> {
        while !bytes.is_empty() {
            bytes = &bytes[self.put(bytes)..];
            self.effects.timeout_is_earlier |= self.receiver.on_bytes(now);
            loop {
                let (buffer, effects) = (&mut self.buffer, &mut self.effects);
                let handled = self.receiver.handle_input(now, buffer, effects);
                if handled == Ok(false) {
                    break;
                }
                self.perform(&mut serve);
                handled?;
                self.connection.driver().wake_writer();
            }
            assert!(self.buffer.len() < MAX_FRAME, "more than one frame is buffered");
        }
        if std::mem::take(&mut self.effects.timeout_is_earlier) {
            self.due = self.receiver.poll_timeout();
        }
        assert!(self.due <= self.receiver.poll_timeout(), "the timer would be late");
        Ok(())
    }

    /// Puts bytes where they belong, and tells how many.
    fn put(&mut self, bytes: &[u8]) -> usize {
        let room = if self.direct { self.receiver.room() } else { None };
        let Some(mut room) = room else {
            self.buffer.extend_from_slice(bytes);
            return bytes.len();
        };
        let taken = room.remaining_mut().min(bytes.len());
        room.put_slice(&bytes[..taken]);
        self.receiver.filled(taken, &mut self.buffer);
        taken
    }

    fn perform(&mut self, serve: &mut impl FnMut(ReceivedRequest<Manual>)) {
        let effects = &mut self.effects;
        self.is_established |= std::mem::take(&mut effects.established);
        self.watches |= std::mem::take(&mut effects.watch);
        effects.room_made = false;
        burst(|| effects.requests.drain(..).for_each(serve));
        effects.perform();
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub(crate) fn poll_timeout(&self) -> Instant {
        self.due
    }

    /// The timer fires. An error means that the peer is silent.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), ConnectionError> {
        self.receiver.handle_timeout(now, &mut self.effects)?;
        assert!(!self.effects.is_idle, "the idle timeout is longer than any test");
        if std::mem::take(&mut self.effects.is_quiet) && self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        self.due = self.receiver.poll_timeout();
        Ok(())
    }

    /// Has callers hear that wait for the admission of their requests.
    pub(crate) fn accept_admitted(&mut self) {
        if self.watches {
            self.watches = self.connection.accept_admitted();
        }
    }

    /// True when a driver with tasks would write now.
    pub(crate) fn wants_write(&self) -> bool {
        self.connection.driver().wants_write.load(Ordering::Relaxed)
    }

    /// Writes up to `most` bytes; the rest of a batch waits for the next write.
    pub(crate) fn write(&self, most: usize, wire: &mut BytesMut) {
        let connection = &self.connection;
        if !connection.begin_transmit() && !connection.take_over() {
            connection.driver().wants_write.store(false, Ordering::Relaxed);
            return;
        }
        let mut left = most;
        loop {
            let stalled = connection.take_stalled();
            let Some(mut batch) = stalled.or_else(|| connection.poll_transmit()) else {
                connection.driver().wants_write.store(false, Ordering::Relaxed);
                return;
            };
            assert!(batch.remaining() <= MAX_BATCH, "the outbox held {} bytes", batch.remaining());
            let bytes = left.min(batch.remaining());
            put_front(&batch, bytes, wire);
            batch.advance(bytes);
            left -= bytes;
            let stalled = if batch.is_empty() {
                connection.transmitted(&mut batch);
                None
            } else {
                Some(batch)
            };
            if left == 0 || stalled.is_some() {
                connection.hand_over(stalled);
                connection.driver().wake_writer();
                return;
            }
        }
    }

    /// The peer broke a rule, or is silent: tells the stream whose frame it was, and puts the last
    /// word to the peer in line. The connection is to be ended next.
    pub(crate) fn refuse_peer(&self, error: &ConnectionError) {
        self.receiver.blame();
        self.connection.refuse_peer(error);
    }

    /// The socket does not take bytes any more.
    pub(crate) fn break_off(&self) {
        self.connection.break_off();
        self.connection.driver().wants_write.store(false, Ordering::Relaxed);
    }

    /// Writes what is left behind the last streams of a connection that has ended.
    pub(crate) fn write_rest(&self, wire: &mut BytesMut) {
        assert!(self.connection.begin_close(), "nobody writes here");
        while !self.connection.is_broken() {
            let batch =
                self.connection.take_stalled().unwrap_or_else(|| self.connection.take_rest());
            if batch.is_empty() {
                return;
            }
            put_front(&batch, batch.remaining(), wire);
        }
    }
}

fn put_front(batch: &sinew_mux::Batch, mut bytes: usize, wire: &mut BytesMut) {
    for part in batch.parts() {
        let some = bytes.min(part.len());
        wire.extend_from_slice(&part[..some]);
        bytes -= some;
    }
}
