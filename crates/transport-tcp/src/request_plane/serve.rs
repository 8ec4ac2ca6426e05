//! The serving side: requests off a connection, acknowledgements onto it.

use std::{io, net::Ipv4Addr, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use bytes::BytesMut;
use sinew_codec::{TcpRequestCodec, TcpRequestMessage, TcpResponseCodec, TcpResponseMessage};
use sinew_dynamo_wire::{
    acknowledgement::{self, MAX_ACK_BYTES},
    request_headers,
};
use sinew_plane::{
    BudgetUse, Code, Decision, Error, Origin, PlaneRequest, RequestPlaneHandler,
    budget::{Account, Hold, Work},
};
use sinew_telemetry::ConnectionMetrics;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::payload::payload_of;
use crate::{CheckedTcpConfig, admission::Place, first_bytes::is_passing, socket::Socket};

/// Room for one read. A larger frame asks for more as it arrives.
const READ_BYTES: usize = 32 << 10;

/// So much of an unfinished request is not charged to the memory budget.
const UNCHARGED_BYTES: usize = 4 << 10;

/// A buffer of up to this size is charged with what is in it, a larger one whole: of the former the
/// system gives what was written to.
const SMALL_BUFFER_BYTES: usize = 64 << 10;

/// The time that an unfinished frame has to come along in while the memory budget is spent.
const PRESSED: Duration = Duration::from_secs(5);

/// Acknowledgements gathered before they are written even though more requests have been read.
const ANSWERS_BYTES: usize = 16 << 10;

/// Bytes of an unfinished frame that must arrive within `frame_timeout`, unless its rest is
/// shorter: with the default, 2 KiB a second.
const PROGRESS_BYTES: usize = 64 << 10;

/// An idle connection lets go of its read buffer after this time.
const BUFFER_KEPT: Duration = Duration::from_secs(1);

/// Longest time for the last answers and the end of the connection, and most bytes that are read
/// and dropped in it: closing at once would let the kernel take back answers on their way.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 64 << 20;

/// A connection that ends has nothing more on its way after so long without a byte: some round
/// trips in a data centre, and too short to be noticed in a shutdown.
const QUIET: Duration = Duration::from_millis(20);

/// Takes requests off the connections of one listener.
pub(crate) struct RequestPlane {
    handler: Arc<dyn RequestPlaneHandler>,
    config: Arc<CheckedTcpConfig>,
    /// New requests are refused.
    draining: CancellationToken,
    /// Connections end.
    ending: CancellationToken,
}

impl RequestPlane {
    pub(crate) fn new(
        handler: Arc<dyn RequestPlaneHandler>,
        config: Arc<CheckedTcpConfig>,
        draining: CancellationToken,
        ending: CancellationToken,
    ) -> Self {
        Self { handler, config, draining, ending }
    }

    /// Serves one connection to its end. `first` is what was read of it so far.
    pub(crate) async fn serve(
        &self,
        socket: Socket,
        first: BytesMut,
        place: Place,
        meter: &ConnectionMetrics,
    ) {
        meter.received(first.len());
        let mut connection = Serving {
            plane: self,
            place,
            meter,
            origin: origin(&socket),
            codec: TcpRequestCodec::new(self.config.max_request_bytes),
            socket,
            buffer: first,
            answers: BytesMut::new(),
            account: self.config.budget.as_ref().map(|budget| budget.open()),
            hold: None,
            skip: 0,
            progress: Progress::from(Instant::now(), 0),
            idle_since: Instant::now(),
        };
        let end = connection.run().await;
        if let End::Lost(cause) = &end {
            tracing::debug!(%cause, "a connection with requests broke");
            return;
        }
        let last_words = connection.finish(end);
        // A peer that does not take the last words in this time does not get them.
        let _ = tokio::time::timeout(LINGER, last_words).await;
    }

    /// The handler's word on one request; `None` when it panicked.
    fn decide(
        &self,
        message: TcpRequestMessage,
        socket: &Socket,
        origin: Origin,
        account: Option<&Arc<Account>>,
    ) -> Option<Decision> {
        if self.draining.is_cancelled() {
            return Some(Decision::Now(Err(draining())));
        }
        let payload = match payload_of(&message, account) {
            Ok(payload) => payload,
            Err(error) => return Some(Decision::Now(Err(error))),
        };
        let request = PlaneRequest {
            target: message.path(),
            headers: request_headers::decode(message.headers()),
            payload,
            transport: &socket.transport(),
            origin,
        };
        let decided = AssertUnwindSafe(|| self.handler.decide(request));
        let decided = std::panic::catch_unwind(decided).ok();
        if decided.is_none() {
            tracing::error!("the handler of a request plane panicked");
        }
        decided
    }
}

fn draining() -> Error {
    Error::draining("the worker is shutting down")
}

/// Asked once for a connection, since it costs a system call.
fn origin(socket: &Socket) -> Origin {
    match socket {
        // A peer that is gone already is nobody's address.
        Socket::Tcp(stream) => Origin::Peer(
            stream.peer_addr().map_or(Ipv4Addr::UNSPECIFIED.into(), |address| address.ip()),
        ),
        Socket::Unix(_) => Origin::SameHost,
    }
}

/// Why a connection ended.
enum End {
    /// The peer closed it, or it was idle for long.
    Over,
    /// This side ends: what has arrived is still answered.
    Shutdown,
    /// The peer broke the rules; its answer says so.
    Refused(Error),
    /// Nothing can be said any more.
    Lost(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

/// How an unfinished frame comes along.
struct Progress {
    since: Instant,
    /// Bytes of the frame that were there at `since`.
    at: usize,
    /// The same for the last look, which is more often.
    looked: (Instant, usize),
}

impl Progress {
    /// From now on, with so many bytes there.
    fn from(now: Instant, at: usize) -> Self {
        Self { since: now, at, looked: (now, at) }
    }
}

/// One connection. One task reads, asks the handler and writes, so the answers are in order and
/// a peer that does not read them is not read either.
struct Serving<'a> {
    plane: &'a RequestPlane,
    place: Place,
    meter: &'a ConnectionMetrics,
    socket: Socket,
    origin: Origin,
    codec: TcpRequestCodec,
    buffer: BytesMut,
    answers: BytesMut,
    account: Option<Arc<Account>>,
    /// What the buffer is charged with, once it has grown.
    hold: Option<Hold>,
    /// Bytes of a refused request that are still to come, and are dropped.
    skip: usize,
    progress: Progress,
    idle_since: Instant,
}

impl Serving<'_> {
    async fn run(&mut self) -> End {
        loop {
            if let Err(end) = self.answer_all().await {
                return end;
            }
            match self.more().await {
                Ok(()) => {}
                Err(end) => return end,
            }
            // A peer that always has more must not keep its worker thread from others.
            tokio::task::consume_budget().await;
        }
    }

    /// Answers every request that has arrived in full.
    async fn answer_all(&mut self) -> Result<(), End> {
        let mut taken = false;
        self.skip_refused();
        loop {
            let decoded = self.codec.decode_frame(&mut self.buffer);
            let message = match decoded {
                Ok(Some(message)) => {
                    // What the buffer was charged with is its message's from here on.
                    self.hold = None;
                    message
                }
                Ok(None) => {
                    self.charge_buffer()?;
                    break;
                }
                Err(error) => {
                    return Err(End::Refused(Error::new(Code::Violation, error.to_string())));
                }
            };
            taken = true;
            match self.plane.decide(message, &self.socket, self.origin, self.account.as_ref()) {
                Some(Decision::Now(outcome)) => self.put_answer(&outcome),
                Some(Decision::Later(outcome)) => {
                    // Answers are in the order of their requests, so the others wait as well.
                    self.write_answers().await?;
                    let ending = self.plane.ending.run_until_cancelled(outcome).await;
                    self.put_answer(&ending.unwrap_or_else(|| Err(draining())));
                }
                // It may have begun to run the request, and no answer says so: the caller finds
                // out from the loss of the connection.
                None => {
                    self.write_answers().await?;
                    return Err(End::Lost(io::Error::other("the handler panicked")));
                }
            }
            if self.answers.len() >= ANSWERS_BYTES {
                self.write_answers().await?;
            }
        }
        self.idle_since = Instant::now();
        self.place.touch();
        if taken {
            self.progress = Progress::from(self.idle_since, self.buffer.len());
        }
        self.write_answers().await?;
        Ok(())
    }

    /// Charges a buffer that has grown for a request. Without room the request is refused: what has
    /// come of it is let go of, and the rest is dropped as it comes.
    fn charge_buffer(&mut self) -> Result<(), End> {
        let Some(account) = &self.account else { return Ok(()) };
        let (len, capacity) = (self.buffer.len(), self.buffer.capacity());
        let bytes = if capacity > SMALL_BUFFER_BYTES { capacity } else { len };
        if bytes <= UNCHARGED_BYTES {
            self.hold = None;
            return Ok(());
        }
        let charged = match &mut self.hold {
            Some(hold) => hold.grow_to(bytes, Work::New),
            None => {
                self.hold = account.hold(BudgetUse::Frames, bytes, Work::New);
                self.hold.is_some()
            }
        };
        if charged {
            return Ok(());
        }
        let refusal = account.budget().refusal();
        let Some(frame) = self.codec.frame_len(&self.buffer) else {
            return Err(End::Refused(refusal));
        };
        self.skip = frame - self.buffer.len();
        self.let_go();
        self.put_answer(&Err(refusal));
        Ok(())
    }

    /// Drops what has come of a request that was refused.
    fn skip_refused(&mut self) {
        let dropped = self.skip.min(self.buffer.len());
        if dropped > 0 {
            let _ = self.buffer.split_to(dropped);
            self.skip -= dropped;
        }
    }

    /// Lets go of the buffer.
    fn let_go(&mut self) {
        self.buffer = BytesMut::new();
        self.hold = None;
    }

    fn put_answer(&mut self, outcome: &Result<(), Error>) {
        let codec = TcpResponseCodec::new(MAX_ACK_BYTES);
        let message = TcpResponseMessage { data: acknowledgement::encode(outcome) };
        // An error's message has at most 4,096 bytes, so that it always fits.
        let _ = codec.encode_frame(&message, &mut self.answers);
    }

    async fn write_answers(&mut self) -> io::Result<()> {
        let plane = self.plane;
        while !self.answers.is_empty() {
            match self.socket.try_write(&self.answers) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.meter.sent(written);
                    let _ = self.answers.split_to(written);
                }
                Err(error) if is_passing(&error) => {
                    let patience = async {
                        let shutdown = async {
                            plane.ending.cancelled().await;
                            tokio::time::sleep(LINGER).await;
                        };
                        tokio::select! {
                            biased;
                            () = tokio::time::sleep(plane.config.write_timeout) => {}
                            () = shutdown => {}
                        }
                    };
                    tokio::select! {
                        biased;
                        ready = self.socket.writable() => ready?,
                        () = patience => {
                            let message = "the peer does not read its acknowledgements";
                            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits for more bytes and reads them.
    async fn more(&mut self) -> Result<(), End> {
        loop {
            let (since, limit) = if !self.buffer.is_empty() || self.skip > 0 {
                (self.progress.looked.0, self.plane.config.frame_timeout.min(PRESSED))
            } else if self.buffer.capacity() > 0 {
                (self.idle_since, BUFFER_KEPT)
            } else {
                // Twice: the side that dialled knows whether a request is on its way, so it is to
                // hang up first.
                (self.idle_since, self.plane.config.idle_timeout * 2)
            };
            tokio::select! {
                biased;
                () = self.place.leave().cancelled() => return Err(End::Shutdown),
                ready = self.socket.readable() => ready?,
                () = tokio::time::sleep_until(since + limit) => {
                    self.waited()?;
                    continue;
                }
            }
            match self.read() {
                Ok(0) => return Err(End::Over),
                Ok(bytes) => {
                    self.meter.received(bytes);
                    return Ok(());
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(End::Lost(error)),
            }
        }
    }

    /// What a wait that has come to its limit means.
    fn waited(&mut self) -> Result<(), End> {
        if !self.buffer.is_empty() || self.skip > 0 {
            return self.check_progress();
        }
        if self.buffer.capacity() > 0 {
            self.let_go();
            self.answers = BytesMut::new();
            return Ok(());
        }
        Err(End::Over)
    }

    /// Refuses an unfinished request that does not come along.
    fn check_progress(&mut self) -> Result<(), End> {
        let (now, len, limit) =
            (Instant::now(), self.buffer.len(), self.plane.config.frame_timeout);
        let over = now.duration_since(self.progress.since) >= limit;
        // It was refused already, and its rest does not come.
        if self.skip > 0 && over {
            return Err(End::Over);
        }
        let refusal = self.account.as_ref().and_then(|account| account.budget().admit().err());
        if let Some(refusal) = refusal
            && len.saturating_sub(self.progress.looked.1) < PROGRESS_BYTES
            && self.skip == 0
        {
            return Err(End::Refused(refusal));
        }
        self.progress.looked = (now, len);
        if over {
            if len - self.progress.at < PROGRESS_BYTES {
                let message = format!("a request was begun and not finished within {limit:?}");
                return Err(End::Refused(Error::new(Code::Violation, message)));
            }
            self.progress = Progress::from(now, len);
        }
        Ok(())
    }

    fn read(&mut self) -> io::Result<usize> {
        if self.buffer.is_empty() {
            self.buffer.reserve(READ_BYTES);
            self.progress = Progress::from(Instant::now(), 0);
        } else if self.buffer.capacity() == self.buffer.len() {
            // The codec asks for the room that an unfinished frame wants, except for the last few
            // bytes of it.
            self.buffer.reserve(READ_BYTES);
        }
        self.socket.try_read(&mut self.buffer)
    }

    /// Says the last words, and waits for the peer to close.
    async fn finish(&mut self, end: End) {
        match end {
            End::Shutdown => self.answer_the_rest().await,
            End::Refused(error) => {
                tracing::debug!(reason = %error.message(), "a connection with requests is refused");
                self.put_answer(&Err(error));
            }
            End::Over | End::Lost(_) => {}
        }
        if self.write_answers().await.is_err() {
            return;
        }
        self.socket.shutdown();
        let mut dropped = 0;
        while dropped < LINGER_BYTES && self.socket.readable().await.is_ok() {
            self.buffer.clear();
            match self.read() {
                Ok(0) => return,
                Ok(bytes) => dropped += bytes,
                Err(error) if is_passing(&error) => {}
                Err(_) => return,
            }
        }
    }

    /// Refuses what is on its way, so that its senders know that nothing ran.
    async fn answer_the_rest(&mut self) {
        let mut taken = 0;
        // As much as fills a socket's buffer many times; who still sends then is cut.
        while taken < LINGER_BYTES {
            match tokio::time::timeout(QUIET, self.socket.readable()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
            match self.read() {
                Ok(0) => return,
                Ok(bytes) => taken += bytes,
                Err(error) if is_passing(&error) => continue,
                Err(_) => return,
            }
            if self.answer_all().await.is_err() {
                return;
            }
        }
    }
}
