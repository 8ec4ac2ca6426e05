//! The reader task: handles received bytes, and detects a dead peer.

use std::{
    io,
    sync::{Arc, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use sinew_mux::{ConnectionError, Effects, Opened, ReceivedRequest, Sessions};
use sinew_net::{Place, ReadHalf};
use sinew_plane::{
    BudgetUse, Code, Error, Executed, IncomingRequest, PeerFacts, ResponseSink, ResumeReason,
    SinkTarget,
    budget::{Tally, Work},
    burst, clock,
};

use crate::{
    connection::{Connection, ConnectionOccupant, Tasks},
    connection_set::Arrival,
    input::Input,
    write::Writer,
};

/// Chunks that are read in a row before the clock and the end of the connection are looked at
/// again: a large message, or about a quarter of a millisecond.
const CHUNKS_AT_ONCE: usize = 16;

/// Groups of requests whose answers leave together at the most: so many wait for the slowest of
/// their handlers, and that much may gather before it is written.
const REQUEST_GROUPS: usize = 64;

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

impl End {
    /// What kind of loss it is when the carrier failed, and neither end is to blame: another may do
    /// better.
    fn loss(&self) -> Option<ResumeReason> {
        match self {
            Self::Refused(ConnectionError::Silent) => Some(ResumeReason::Silence),
            Self::Refused(ConnectionError::Corrupt) | Self::Finished | Self::Broken(_) => {
                Some(ResumeReason::Lost)
            }
            Self::Refused(_) | Self::Closed => None,
        }
    }
}

/// The reader task of a connection. It owns the receiving machine.
pub(crate) struct Reader {
    connection: Connection,
    input: Input,
    receiver: sinew_mux::Receiver<Tasks>,
    effects: Effects<Tasks>,
    /// When the last bytes were read.
    read_at: Instant,
    /// What the carrier knows of a peer that may send requests, until it says hello.
    peer: Option<PeerFacts>,
    /// At the listener that accepted it.
    place: Option<Place>,
    /// What is charged for answers that wait.
    answers: Tally,
    _occupant: Arc<ConnectionOccupant>,
    _close: CloseOnDrop,
}

/// Ends the connection also when the reader panics, as code that it wakes may.
struct CloseOnDrop(Connection);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close(&Error::new(Code::ConnectionLost, "the reader of the connection ended"));
        self.0.tasks().read_ended.cancel();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(account) = self.connection.0.account() {
            self.answers.clear(BudgetUse::Queued, account);
        }
    }
}

impl Reader {
    /// `peer` is what its carrier knows of the other end, if that may send requests; `arrival` what a
    /// listener knows of it, if one accepted it.
    pub(crate) fn new(
        connection: Connection,
        sessions: Arc<Sessions<Tasks>>,
        half: ReadHalf,
        peer: Option<PeerFacts>,
        arrival: Option<Arrival>,
    ) -> Self {
        let (first, place) = match arrival {
            Some(Arrival { first, place }) => (first, place),
            None => (BytesMut::new(), None),
        };
        let occupant = Arc::new(ConnectionOccupant(connection.clone()));
        if let Some(place) = &place {
            let occupant: Weak<ConnectionOccupant> = Arc::downgrade(&occupant);
            place.is_taken_by(occupant);
        }
        let Tasks { sending, config, .. } = connection.tasks();
        sending.meter.received(first.len());
        Self {
            input: Input::new(half, first, connection.0.account().cloned()),
            receiver: sinew_mux::Receiver::new(
                Arc::clone(&connection.0),
                &config.mux,
                sessions,
                config.idle_timeout,
                clock::now(),
            ),
            effects: Effects::default(),
            read_at: clock::now(),
            peer,
            place,
            answers: Tally::default(),
            _occupant: occupant,
            _close: CloseOnDrop(connection.clone()),
            connection,
        }
    }

    /// Reads until the connection ends, then tells every stream why. In a box, because a future has
    /// room for each place that a value is moved to.
    pub(crate) async fn run(mut self: Box<Self>) {
        let end = self.read().await;
        let (loss, is_fault) = (end.loss(), !matches!(end, End::Closed));
        let error = match end {
            End::Closed => {
                // What is still on its way was not begun, and its sender may send it elsewhere.
                let last_stream = self.receiver.last_stream();
                let goodbye = Error::draining("the other side has shut down");
                self.connection.0.go_away(last_stream, &goodbye);
                // The side that closed it has ended its streams already.
                Error::new(Code::ConnectionLost, "the connection was closed by this side")
            }
            End::Finished => Error::new(Code::ConnectionLost, "the peer closed the connection"),
            End::Broken(cause) => {
                let message = format!("the connection broke: {cause}");
                Error::new(Code::ConnectionLost, message).with_source(cause)
            }
            End::Refused(ref cause) => {
                self.receiver.blame();
                self.connection.0.refuse_peer(cause);
                let executed =
                    if self.receiver.is_established() { Executed::Maybe } else { Executed::No };
                Error::from(cause.clone()).with_executed(executed)
            }
        };
        match loss {
            Some(why) => self.connection.lost(&error, why),
            None if is_fault => self.connection.fail(&error),
            None => self.connection.close(&error),
        }
        self.connection.tasks().read_ended.cancel();
        self.discard_input().await;
    }

    async fn read(&mut self) -> End {
        let timeout = tokio::time::sleep_until(self.receiver.poll_timeout().into());
        let mut timeout = std::pin::pin!(timeout);
        if !self.input.buffer.is_empty()
            && let Err(error) = self.handle_input()
        {
            return End::Refused(error);
        }
        loop {
            if std::mem::take(&mut self.effects.timeout_is_earlier) {
                timeout.as_mut().reset(self.receiver.poll_timeout().into());
            }
            self.answers_written().await;
            let read = tokio::select! {
                biased;
                () = self.connection.tasks().closed.cancelled() => return End::Closed,
                read = self.input.next(&mut self.receiver) => read,
                () = &mut timeout => {
                    if let Err(error) = self.handle_timeout() {
                        return End::Refused(error);
                    }
                    timeout.as_mut().reset(self.receiver.poll_timeout().into());
                    continue;
                }
            };
            match read {
                Ok(0) => return End::Finished,
                Ok(bytes) => self.connection.tasks().sending.meter.received(bytes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return End::Broken(error),
            }
            if let Err(error) = self.handle_input() {
                return End::Refused(error);
            }
            if let Err(end) = self.read_chunks().await {
                return end;
            }
        }
    }

    /// Reads what is there of a large message, without the preparations for a wait.
    async fn read_chunks(&mut self) -> Result<(), End> {
        for _ in 0..CHUNKS_AT_ONCE {
            // A socket that always has more must not keep the thread from other tasks.
            tokio::task::coop::consume_budget().await;
            match self.input.try_chunk(&mut self.receiver) {
                None => return Ok(()),
                Some(Ok(0)) => return Err(End::Finished),
                Some(Ok(bytes)) => {
                    self.connection.tasks().sending.meter.received(bytes);
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
        let connection = self.connection.clone();
        let Tasks { written, closed, .. } = connection.tasks();
        loop {
            let written = written.notified();
            if self.may_read_on() {
                return;
            }
            tokio::select! {
                biased;
                () = closed.cancelled() => return,
                () = written => {}
            }
        }
    }

    /// Whether the answers that wait leave room for more, in what is free of it or in the memory
    /// budget.
    fn may_read_on(&mut self) -> bool {
        // What cannot be written any more is dropped with the connection, within a second.
        let Some(waiting) = self.connection.0.answer_bytes() else { return true };
        let Some(account) = self.connection.0.account() else { return waiting < ANSWERS_BYTES };
        if waiting < FREE_ANSWERS_BYTES {
            self.answers.settle(0, BudgetUse::Queued, account);
            return true;
        }
        // As much again may be on its way into the socket.
        let charge = 2 * waiting;
        waiting < ANSWERS_BYTES
            && self.answers.cover(charge, BudgetUse::Queued, account, Work::Running)
    }

    fn handle_timeout(&mut self) -> Result<(), ConnectionError> {
        self.receiver.handle_timeout(clock::now(), &mut self.effects)?;
        if std::mem::take(&mut self.effects.is_quiet) {
            self.input.shrink();
        }
        if std::mem::take(&mut self.effects.is_idle) {
            self.connection.close_if_idle();
        }
        // The listener knows by it which connection has been idle for longest.
        if let Some(place) = &self.place
            && self.connection.active_streams() > 0
        {
            place.touch();
        }
        Ok(())
    }

    fn handle_input(&mut self) -> Result<(), ConnectionError> {
        let now = clock::now();
        self.read_at = now;
        self.effects.timeout_is_earlier |= self.receiver.on_bytes(now);
        let mut has_input = false;
        while self.handle_piece(now)? {
            has_input = true;
        }
        if has_input {
            // Replies (credit, pongs, refusals) that no other task has sent by now.
            Writer(&self.connection.0).write_soon();
        }
        Ok(())
    }

    /// Handles a piece of what was read. False when nothing whole is there any more.
    fn handle_piece(&mut self, now: Instant) -> Result<bool, ConnectionError> {
        let mut handled = self.route_piece(now);
        if handled == Ok(false) {
            return handled;
        }
        if self.effects.requests.is_empty() {
            self.perform();
            return handled;
        }
        // Handlers that answer at once do so inside this call: their answers leave together.
        burst(|| {
            for _ in 1..REQUEST_GROUPS {
                self.perform();
                if handled != Ok(true) || !self.receiver.is_unfinished() {
                    return handled;
                }
                handled = self.route_piece(now);
            }
            self.perform();
            handled
        })
    }

    fn route_piece(&mut self, now: Instant) -> Result<bool, ConnectionError> {
        self.receiver.handle_input(now, &mut self.input.buffer, &mut self.effects)
    }

    /// Does what input asks for, without a lock.
    fn perform(&mut self) {
        let Effects { established, requests, watch, .. } = &mut self.effects;
        let tasks = self.connection.0.driver();
        if std::mem::take(established) {
            self.connection.establish(self.peer.take());
        }
        if !requests.is_empty() {
            if std::mem::take(watch) {
                tasks.watch.store(true, Ordering::Release);
                tasks.writer.notify_one();
            }
            requests.drain(..).for_each(|request| serve(tasks, request));
        }
        if std::mem::take(&mut self.effects.room_made) {
            self.connection.tasks().room.notify_waiters();
        }
        if std::mem::take(&mut self.effects.went_away) && self.connection.active_streams() > 0 {
            // The streams of this side go on elsewhere, if the peer still takes connections.
            if let Some(back) = tasks.coming_back() {
                back.leave(&self.connection.0);
            }
        }
        if !self.effects.heard.is_empty() {
            let heard = self.effects.heard.drain(..);
            heard.for_each(|since| tasks.streams.gap(clock::since(since)));
        }
        let cancels = self.effects.cancels();
        self.effects.perform();
        if cancels > 0 {
            tasks.streams.cancelled(cancels, clock::since(self.read_at));
        }
    }

    /// Reads and drops what still comes, so that closing does not destroy what this side has
    /// sent: a socket closed with unread input resets the connection.
    async fn discard_input(mut self: Box<Self>) {
        let hurried = self.connection.tasks().hurried.load(Ordering::Relaxed);
        let limit = if hurried { HURRIED_DISCARD_TIMEOUT } else { DISCARD_TIMEOUT };
        let _ = tokio::time::timeout(limit, self.input.discard(DISCARD_BYTES)).await;
    }
}

/// Hands a request to its handler.
fn serve(tasks: &Tasks, request: ReceivedRequest<Tasks>) {
    let Some(handler) = &tasks.handler else { return };
    let context = request.context().clone();
    let ReceivedRequest { response, opened } = request;
    let Opened { open, body, .. } = *opened;
    let sink = ResponseSink::new(response as Arc<dyn SinkTarget>, context.clone());
    let request = IncomingRequest {
        endpoint: open.endpoint(),
        instance: open.instance,
        body,
        context,
        transport: &tasks.transport,
        // It said hello before it asked for anything.
        peer: tasks.peer.get().unwrap_or(&PeerFacts::UNKNOWN),
        attempt: open.attempt,
        secret: open.secret,
    };
    // A bug in a handler costs its own request: the sink is dropped on the way out.
    let handled = std::panic::AssertUnwindSafe(|| handler.handle(request, sink));
    if std::panic::catch_unwind(handled).is_err() {
        tracing::error!("a request handler panicked");
    }
}
