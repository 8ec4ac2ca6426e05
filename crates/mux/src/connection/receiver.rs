//! The receiving side of a connection: bytes and instants in, effects out.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{BytesMut, buf::Limit};

use super::{Connection, Driver, Effects};
use crate::{
    CheckedMuxConfig, ConnectionError, Inbound, Role, Tick,
    session::{Presence, Sessions},
    timer::QuietTimer,
};

/// A connection is found idle at the latest a fourth of its idle timeout late.
const IDLE_PARTS: u32 = 4;

/// The receiving side of a connection, owned by its reader.
///
/// The reader reads bytes into the [`room`](Self::room) for the rest of a large message, or else
/// into a buffer. It then calls [`on_bytes`](Self::on_bytes), and
/// [`handle_input`](Self::handle_input) until that returns false. After each call it performs the
/// [`Effects`].
pub struct Receiver<D: Driver> {
    pub(super) connection: Arc<Connection<D>>,
    pub(super) inbound: Inbound,
    /// Numbers the pieces of what was read; wraps.
    pub(super) reads: u32,
    /// Not all of the last piece was routed: the driver has requests to hand over first.
    pub(super) is_unfinished: bool,
    /// The peers of this server, and this one among them.
    pub(super) sessions: Arc<Sessions<D>>,
    pub(super) presence: Option<Presence<D>>,
    /// Lets go of buffers.
    quiet: QuietTimer,
    /// Closes the connection, where this side made it.
    idle: Option<QuietTimer>,
    /// When the request bodies on their way are looked at.
    bodies: Option<Instant>,
    /// Pings so far, each of which has its number as its token.
    pings: u64,
}

impl<D: Driver> Receiver<D> {
    /// Makes the receiving side of a new connection. A connection that this side dialled counts as
    /// idle after `idle_timeout` without a stream. `sessions` records the ids of the peer's
    /// streams.
    pub fn new(
        connection: Arc<Connection<D>>,
        config: &CheckedMuxConfig,
        sessions: Arc<Sessions<D>>,
        idle_timeout: Duration,
        now: Instant,
    ) -> Self {
        let is_dialler = connection.role == Role::Dialler;
        Self {
            inbound: Inbound::new(connection.role, config, now)
                .with_account(connection.account.clone()),
            reads: 0,
            is_unfinished: false,
            sessions,
            presence: None,
            quiet: QuietTimer::new(config.keepalive_interval / 2, 1),
            idle: is_dialler.then(|| QuietTimer::new(idle_timeout, IDLE_PARTS)),
            bodies: None,
            pings: 0,
            connection,
        }
    }

    /// The connection.
    pub fn connection(&self) -> &Arc<Connection<D>> {
        &self.connection
    }

    /// True once the peer's hello has arrived.
    pub fn is_established(&self) -> bool {
        self.inbound.is_established()
    }

    /// The number of the last stream that the peer opened; 0 before the first.
    pub fn last_stream(&self) -> u32 {
        self.inbound.last_stream()
    }

    /// The memory for the rest of a chunk that is arriving, as [`Inbound::room`].
    pub fn room(&mut self) -> Option<Limit<&mut BytesMut>> {
        self.inbound.room()
    }

    /// Records that `bytes` bytes were read into the [`room`](Self::room), as [`Inbound::filled`].
    pub fn filled(&mut self, bytes: usize, buffer: &mut BytesMut) {
        self.inbound.filled(bytes, buffer);
    }

    /// Records that bytes have arrived. True if the [timeout](Self::poll_timeout) is earlier now
    /// than it was.
    pub fn on_bytes(&mut self, now: Instant) -> bool {
        let earlier = self.inbound.on_bytes(now);
        // Before anything is read that would add to it.
        self.forget_abandoned();
        let starts = self.quiet.start(now, self.reads);
        if let Some(idle) = &mut self.idle {
            idle.start(now, 0);
        }
        earlier || starts
    }

    /// Handles the frames in `buffer`, or a part of them. False if `buffer` has no whole frame any
    /// more.
    ///
    /// # Errors
    /// The peer broke the protocol: [`blame`](Self::blame) the stream and close the connection.
    pub fn handle_input(
        &mut self,
        now: Instant,
        buffer: &mut BytesMut,
        effects: &mut Effects<D>,
    ) -> Result<bool, ConnectionError> {
        if !self.is_unfinished && !self.inbound.ingest(buffer)? {
            return Ok(false);
        }
        self.reads = self.reads.wrapping_add(1);
        self.route(now, effects)?;
        if self.bodies.is_none() && self.inbound.has_bodies() {
            self.bodies = self.inbound.next_overdue(now);
            effects.timeout_is_earlier |= self.bodies.is_some();
        }
        Ok(true)
    }

    /// True if frames that were taken from the buffer wait for the next
    /// [`handle_input`](Self::handle_input).
    pub fn is_unfinished(&self) -> bool {
        self.is_unfinished
    }

    /// When to call [`handle_timeout`](Self::handle_timeout). An earlier call does no harm.
    pub fn poll_timeout(&self) -> Instant {
        let others = [self.quiet.due(), self.idle.as_ref().and_then(QuietTimer::due), self.bodies];
        others.into_iter().flatten().fold(self.inbound.next_look(), Instant::min)
    }

    /// Does the work whose time has come.
    ///
    /// # Errors
    /// [`ConnectionError::Silent`]: the peer is dead.
    pub fn handle_timeout(
        &mut self,
        now: Instant,
        effects: &mut Effects<D>,
    ) -> Result<(), ConnectionError> {
        // Also when nothing more comes.
        self.forget_abandoned();
        let mut writes = false;
        if self.bodies.is_some_and(|due| due <= now) {
            for (stream, error) in self.inbound.overdue(now) {
                self.connection.reject(stream, &error);
                writes = true;
            }
            self.bodies = self.inbound.next_overdue(now);
        }
        if self.inbound.on_tick(now)? == Tick::Ping {
            self.pings += 1;
            self.connection.ping(self.pings);
            writes = true;
        }
        if self.quiet.is_over(now, self.reads) {
            self.inbound.shrink();
            effects.shrink();
            self.connection.shrink();
            effects.is_quiet = true;
        }
        self.look_for_idleness(now, effects);
        if writes {
            D::transmit(&self.connection);
        }
        Ok(())
    }

    /// An idle connection is given up by the side that made it. One that is being made is not idle:
    /// somebody waits for it.
    fn look_for_idleness(&mut self, now: Instant, effects: &mut Effects<D>) {
        let Some(idle) = &mut self.idle else { return };
        let is_used = !self.inbound.is_established() || self.connection.active_streams() > 0;
        let opened = self.connection.out.lock().outbound.opened();
        // What runs counts as something that happens.
        let count = if is_used { idle.count().wrapping_add(1) } else { opened };
        if idle.is_over(now, count) {
            effects.is_idle = true;
        }
    }

    /// Ends the stream that caused the protocol error as failed with that error. The other streams
    /// only lose their connection.
    pub fn blame(&self) {
        let Some(stream) = self.inbound.faulty_stream() else { return };
        if let Some(call) = self.connection.streams.lock().calls.get(&stream) {
            call.blame();
        }
    }

    /// Lets go of what came of items that no call wants any more.
    fn forget_abandoned(&mut self) {
        let forgotten = std::mem::take(&mut self.connection.out.lock().forgotten);
        for stream in forgotten {
            self.inbound.forget(stream);
        }
    }
}

impl<D: Driver> std::fmt::Debug for Receiver<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("connection", &self.connection).finish_non_exhaustive()
    }
}
