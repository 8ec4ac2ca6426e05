//! The reader task: what arrives, and when the peer counts as dead.

mod routing;

use std::{
    io,
    sync::{Arc, Weak, atomic::Ordering},
    task::Waker,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use sinew_mux::{ConnectionError, Inbound, Role, Tick};
use sinew_net::{Place, ReadHalf};
use sinew_plane::{
    BudgetUse, CancelReason, Code, Error, Executed, StopKind,
    budget::{Tally, Work},
    burst, clock, random,
};

use crate::{
    connection::Connection,
    connection_set::Arrival,
    receive::Receiver,
    response::Response,
    stream_ids::{Callers, Presence},
};

/// Chunks that are read in a row before the clock and the end of the connection are looked at
/// again: a large message, or about a quarter of a millisecond.
const CHUNKS_AT_ONCE: usize = 16;

/// Control frames that may wait to be written before no more is read: credit and refusals for
/// tens of thousands of streams. What is beyond the first of the two is charged to the memory
/// budget.
const FREE_ANSWERS_BYTES: usize = 16 << 10;
const ANSWERS_BYTES: usize = 1 << 20;

/// Longest wait for the peer to end its direction after this side has.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// The same for a connection whose descriptor is needed: a few round trips.
const HURRIED_DISCARD_TIMEOUT: Duration = Duration::from_millis(100);

/// Bytes that are read and dropped in that time at the most.
const DISCARD_BYTES: usize = 64 << 20;

/// Why a reader ended.
enum End {
    Closed,
    Broken(io::Error),
    Finished,
    Refused(ConnectionError),
}

/// The reader task of a connection. It owns the receiving machine.
pub(crate) struct Reader {
    connection: Arc<Connection>,
    receiver: Receiver,
    inbound: Inbound,
    /// Numbers the pieces of what was read; wraps.
    reads: u32,
    /// Who is to be woken, and what is to be cancelled, once no lock is held: either may run
    /// code of others.
    wakers: Vec<Waker>,
    cancels: Vec<(Arc<Response>, StopKind, CancelReason)>,
    /// The peer spoke after it was asked: the clock is to be looked at earlier than was planned.
    answered: bool,
    /// Room for another stream was made: the tasks that wait for it are woken once for all that was
    /// read.
    made_room: bool,
    idle_since: Instant,
    /// At the listener that accepted it.
    place: Option<Place>,
    /// Pieces that had been read when the clock was last looked at.
    reads_before: u32,
    /// Streams opened by this side when last looked at.
    opened: u32,
    /// What is charged for answers that wait.
    answers: Tally,
    /// The callers of this server, and this one among them.
    callers: Arc<Callers>,
    presence: Option<Presence>,
    _close: CloseOnDrop,
}

/// Ends the connection also when the reader panics, as a handler called from it may.
struct CloseOnDrop(Arc<Connection>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close(&Error::new(Code::ConnectionLost, "the reader of the connection ended"));
        self.0.read_ended.cancel();
    }
}

/// Wakes who was to be woken, also when the reader panics: a stream that has its end is in no
/// table any more.
impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(account) = &self.connection.account {
            self.answers.clear(BudgetUse::Queued, account);
        }
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }
}

impl Reader {
    /// `arrival` is what a listener knows of it, if one accepted it.
    pub(crate) fn new(
        connection: Arc<Connection>,
        callers: Arc<Callers>,
        half: ReadHalf,
        arrival: Option<Arrival>,
    ) -> Self {
        let now = clock::now();
        let (first, place) = match arrival {
            Some(Arrival { first, place }) => (first, place),
            None => (BytesMut::new(), None),
        };
        if let Some(place) = &place {
            let occupant: Weak<Connection> = Arc::downgrade(&connection);
            place.is_taken_by(occupant);
        }
        connection.sending.meter.received(first.len());
        Self {
            receiver: Receiver::new(half, first, connection.account.clone()),
            inbound: Inbound::new(connection.role, &connection.config.mux, now)
                .with_account(connection.account.clone()),
            reads: 0,
            wakers: Vec::new(),
            cancels: Vec::new(),
            answered: false,
            made_room: false,
            idle_since: now,
            place,
            reads_before: 0,
            opened: 0,
            answers: Tally::default(),
            callers,
            presence: None,
            _close: CloseOnDrop(Arc::clone(&connection)),
            connection,
        }
    }

    /// Reads until the connection ends, then tells every stream why. In a box, because a future has
    /// room for each place that a value is moved to.
    pub(crate) async fn run(mut self: Box<Self>) {
        let end = self.read().await;
        let error = match end {
            End::Closed => {
                // What is still on its way was not begun, and its sender may send it elsewhere.
                let last_stream = self.inbound.last_stream();
                let goodbye = Error::draining("the other side has shut down");
                self.connection.out.lock().outbound.go_away(last_stream, &goodbye);
                // The side that closed it has ended its streams already.
                Error::new(Code::ConnectionLost, "the connection was closed by this side")
            }
            End::Finished => Error::new(Code::ConnectionLost, "the peer closed the connection"),
            End::Broken(cause) => {
                let message = format!("the connection broke: {cause}");
                Error::new(Code::ConnectionLost, message).with_source(cause)
            }
            End::Refused(ref cause) => {
                self.blame();
                self.connection.out.lock().outbound.close(cause);
                let executed =
                    if self.inbound.is_established() { Executed::Maybe } else { Executed::No };
                Error::from(cause.clone()).with_executed(executed)
            }
        };
        self.connection.close(&error);
        self.connection.read_ended.cancel();
        self.discard_input().await;
    }

    /// Tells the stream whose frame broke the rules; the others only lose their connection.
    fn blame(&self) {
        let Some(stream) = self.inbound.faulty_stream() else { return };
        if let Some(call) = self.connection.streams.lock().calls.get(&stream) {
            call.blame();
        }
    }

    async fn read(&mut self) -> End {
        let mut look = std::pin::pin!(tokio::time::sleep_until(self.next_look().into()));
        if !self.receiver.buffer.is_empty()
            && let Err(error) = self.handle_input()
        {
            return End::Refused(error);
        }
        loop {
            self.answers_written().await;
            let read = tokio::select! {
                biased;
                () = self.connection.closed.cancelled() => return End::Closed,
                read = self.receiver.next(&mut self.inbound) => read,
                () = &mut look => {
                    if let Err(error) = self.tick() {
                        return End::Refused(error);
                    }
                    look.as_mut().reset(self.next_look().into());
                    continue;
                }
            };
            match read {
                Ok(0) => return End::Finished,
                Ok(bytes) => self.connection.sending.meter.received(bytes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return End::Broken(error),
            }
            if let Err(error) = self.handle_input() {
                return End::Refused(error);
            }
            if let Err(end) = self.read_chunks().await {
                return end;
            }
            if std::mem::take(&mut self.answered) {
                look.as_mut().reset(self.next_look().into());
            }
        }
    }

    /// When to look at the clock: as the machine asks, and twice in an interval for what else is
    /// done then.
    fn next_look(&self) -> Instant {
        let soon = clock::now() + self.connection.config.mux.keepalive_interval / 2;
        self.inbound.next_look().min(soon)
    }

    /// Lets go of what came of items that no call wants any more.
    fn forget_abandoned(&mut self) {
        let forgotten = std::mem::take(&mut self.connection.out.lock().forgotten);
        for stream in forgotten {
            self.inbound.forget(stream);
        }
    }

    /// Reads what is there of a large message, without the preparations for a wait.
    async fn read_chunks(&mut self) -> Result<(), End> {
        for _ in 0..CHUNKS_AT_ONCE {
            // A socket that always has more must not keep the thread from other tasks.
            tokio::task::coop::consume_budget().await;
            match self.receiver.try_chunk(&mut self.inbound) {
                None => return Ok(()),
                Some(Ok(0)) => return Err(End::Finished),
                Some(Ok(bytes)) => {
                    self.connection.sending.meter.received(bytes);
                    self.handle_input().map_err(End::Refused)?;
                }
                Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Some(Err(error)) => return Err(End::Broken(error)),
            }
        }
        Ok(())
    }

    /// A peer that asks and does not read the answers is not asked on: its answers would gather
    /// without a bound. The writer gives up on it in time.
    async fn answers_written(&mut self) {
        if self.may_read_on() {
            return;
        }
        let connection = Arc::clone(&self.connection);
        loop {
            let written = connection.written.notified();
            if self.may_read_on() {
                return;
            }
            tokio::select! {
                biased;
                () = connection.closed.cancelled() => return,
                () = written => {}
            }
        }
    }

    /// Whether the answers that wait leave room for more, in what is free of it or in the memory
    /// budget.
    fn may_read_on(&mut self) -> bool {
        let waiting = {
            let out = self.connection.out.lock();
            // What cannot be written any more is dropped with the connection, within a second.
            if out.broken.is_some() {
                return true;
            }
            out.outbound.answer_bytes()
        };
        let Some(account) = &self.connection.account else { return waiting < ANSWERS_BYTES };
        if waiting < FREE_ANSWERS_BYTES {
            self.answers.settle(0, BudgetUse::Queued, account);
            return true;
        }
        // As much again may be on its way into the socket.
        let charge = 2 * waiting;
        waiting < ANSWERS_BYTES
            && self.answers.cover(charge, BudgetUse::Queued, account, Work::Running)
    }

    fn tick(&mut self) -> Result<(), ConnectionError> {
        let now = clock::now();
        // Also when nothing more comes.
        self.forget_abandoned();
        for (stream, error) in self.inbound.overdue(now) {
            self.connection.reject(stream, &error);
            self.connection.write_soon();
        }
        if self.inbound.on_tick(now)? == Tick::Ping {
            self.connection.out.lock().outbound.ping(random::u64());
            self.connection.write_out();
        }
        // What was reserved for more than comes is given back, whatever runs.
        if std::mem::replace(&mut self.reads_before, self.reads) == self.reads {
            self.shrink();
        }
        let opened = self.connection.out.lock().outbound.opened();
        let used = std::mem::replace(&mut self.opened, opened) != opened;
        // One that is being made is not idle: somebody waits for it.
        let is_made = self.inbound.is_established();
        if used || !is_made || self.connection.active.load(Ordering::Relaxed) > 0 {
            self.idle_since = now;
            if let Some(place) = &self.place {
                place.touch();
            }
            return Ok(());
        }
        // An idle connection is given up by the side that made it.
        let idle = now.duration_since(self.idle_since);
        if self.connection.role == Role::Dialler && idle >= self.connection.config.idle_timeout {
            self.connection.close_if_idle();
        }
        Ok(())
    }

    /// Lets go of buffers and tables that nothing is in.
    fn shrink(&mut self) {
        self.receiver.shrink();
        if self.wakers.is_empty() && self.cancels.is_empty() {
            (self.wakers, self.cancels) = (Vec::new(), Vec::new());
        }
        self.connection.shrink();
    }

    fn handle_input(&mut self) -> Result<(), ConnectionError> {
        let now = clock::now();
        self.answered |= self.inbound.on_bytes(now);
        // Before anything is read that would add to it.
        self.forget_abandoned();
        if !self.inbound.ingest(&mut self.receiver.buffer)? {
            return Ok(());
        }
        loop {
            self.reads = self.reads.wrapping_add(1);
            // Handlers that answer at once do so inside this call: their answers leave together.
            let result = burst(|| self.dispatch(now));
            if std::mem::take(&mut self.made_room) {
                self.connection.room.notify_waiters();
            }
            for waker in self.wakers.drain(..) {
                waker.wake();
            }
            for (response, kind, reason) in self.cancels.drain(..) {
                response.cancel(kind, reason);
            }
            result?;
            if !self.inbound.ingest(&mut self.receiver.buffer)? {
                break;
            }
        }
        // Replies (credit, pongs, refusals) that no other task has sent by now.
        self.connection.write_soon();
        Ok(())
    }

    /// Reads and drops what still comes, so that closing does not destroy what this side has
    /// sent: a socket closed with unread input resets the connection.
    async fn discard_input(mut self: Box<Self>) {
        let hurried = self.connection.hurried.load(Ordering::Relaxed);
        let limit = if hurried { HURRIED_DISCARD_TIMEOUT } else { DISCARD_TIMEOUT };
        let _ = tokio::time::timeout(limit, self.receiver.discard(DISCARD_BYTES)).await;
    }
}
