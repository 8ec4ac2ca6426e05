//! One connection to a worker, shared by many requests.

use std::{
    io,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use sinew_codec::{EncodedParts, TcpResponseCodec};
use sinew_dynamo_wire::acknowledgement::{self, MAX_ACK_BYTES};
use sinew_net::{Carrier, ReadHalf, WriteHalf, read_without_buffer};
use sinew_plane::{Code, Error, Executed, second_look};
use sinew_telemetry::{ActiveConnection, ConnectionMetrics, Side};
use tokio::{
    io::AsyncReadExt,
    sync::{Notify, oneshot},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    outbox::{AckSender, Outbox, Written},
    target::Target,
};

/// With up to this many requests under way a caller writes its own, which saves a hop between
/// tasks; with more, the writer task gathers what all of them have.
const EAGER_REQUESTS: usize = 2;

/// Room for one read: acknowledgements of a thousand requests.
const READ_BYTES: usize = 4 << 10;

/// The answer to one request, once it is there.
pub(crate) type Pending = oneshot::Receiver<Result<(), Error>>;

/// One connection. Its reader task matches acknowledgements with requests, its writer task writes
/// what the callers have not written themselves.
pub(crate) struct Connection {
    carrier: Arc<dyn WriteHalf>,
    state: Mutex<State>,
    writer: Notify,
    closed: CancellationToken,
    host: Weak<Target>,
    request_timeout: Duration,
    writes: Arc<AtomicU64>,
    /// Counts the connection and its bytes.
    active: ActiveConnection,
    /// Requests that have a place here, until they are acknowledged. Changed under the lock of
    /// the host's pool only.
    pub(crate) places: AtomicUsize,
}

#[derive(Default)]
struct State {
    outbox: Outbox,
    dead: bool,
}

impl Connection {
    /// Starts the two tasks of a connection. They end with it, or when `closed` is cancelled.
    pub(crate) fn start(
        carrier: Box<dyn Carrier>,
        host: &Arc<Target>,
        request_timeout: Duration,
        writes: Arc<AtomicU64>,
        tasks: &TaskTracker,
        closed: CancellationToken,
    ) -> Arc<Self> {
        let meter = ConnectionMetrics::new(&carrier.transport(), Side::Calling);
        let (read, write) = carrier.split();
        let connection = Arc::new(Self {
            active: meter.opened(),
            carrier: write,
            state: Mutex::default(),
            writer: Notify::new(),
            closed,
            host: Arc::downgrade(host),
            request_timeout,
            writes,
            places: AtomicUsize::new(0),
        });
        tasks.spawn(Arc::clone(&connection).read(read));
        tasks.spawn(Arc::clone(&connection).write());
        connection
    }

    /// Sends a request in a place that was taken before. Hands it back when the connection has
    /// ended, and nothing was sent.
    pub(crate) fn submit(&self, frame: EncodedParts) -> Result<Pending, EncodedParts> {
        let (answer, pending) = oneshot::channel();
        let mut state = self.state.lock();
        if state.dead {
            return Err(frame);
        }
        let eager = !state.outbox.has_unwritten() && state.outbox.len() < EAGER_REQUESTS;
        state.outbox.push(frame, Instant::now(), answer);
        if !eager {
            drop(state);
            self.writer.notify_one();
            return Ok(pending);
        }
        let written = self.write_from(&mut state.outbox);
        drop(state);
        match written {
            Written::All => {}
            Written::Some => self.writer.notify_one(),
            Written::Failed(cause) => self.broke(cause),
        }
        Ok(pending)
    }

    fn write_from(&self, outbox: &mut Outbox) -> Written {
        outbox.write(|slices| {
            let written = self.carrier.try_write_vectored(slices)?;
            self.writes.fetch_add(1, Ordering::Relaxed);
            self.active.metrics().sent(written);
            Ok(written)
        })
    }

    /// The writer task.
    async fn write(self: Arc<Self>) {
        loop {
            tokio::select! {
                biased;
                () = self.closed.cancelled() => return,
                () = self.writer.notified() => {}
            }
            // One turn through the run queue: whoever is about to send adds to this write.
            tokio::task::yield_now().await;
            loop {
                let (dropped, written) = {
                    let mut state = self.state.lock();
                    let dropped = state.outbox.drop_abandoned();
                    (dropped, self.write_from(&mut state.outbox))
                };
                self.release(dropped);
                match written {
                    Written::All => break,
                    Written::Failed(cause) => return self.broke(cause),
                    Written::Some => {}
                }
                // Bounded by the reader, which closes when the oldest request is due.
                tokio::select! {
                    biased;
                    () = self.closed.cancelled() => return,
                    ready = self.carrier.writable() => if let Err(cause) = ready {
                        return self.broke(cause);
                    },
                }
            }
        }
    }

    /// The reader task.
    async fn read(self: Arc<Self>, half: ReadHalf) {
        let error = self.read_answers(half).await;
        self.close(&error);
    }

    async fn read_answers(&self, mut half: ReadHalf) -> Error {
        let mut codec = TcpResponseCodec::new(MAX_ACK_BYTES);
        let mut buffer = BytesMut::new();
        let due = tokio::time::sleep(self.request_timeout);
        let mut due = std::pin::pin!(due);
        loop {
            let read = tokio::select! {
                biased;
                () = self.closed.cancelled() => return lost("the client was closed"),
                read = next(&mut half, &mut buffer) => read,
                () = &mut due => {
                    // A request that comes after this look is due later than the next one.
                    let oldest = self.state.lock().outbox.oldest();
                    let at = oldest.unwrap_or_else(Instant::now) + self.request_timeout;
                    // The peer is judged by a process that was there to read what it says.
                    if let Some(at) = second_look(due.deadline(), Instant::now()) {
                        due.as_mut().reset(at);
                        continue;
                    }
                    if at <= Instant::now() {
                        let limit = self.request_timeout;
                        return lost(format!("no acknowledgement within {limit:?}"));
                    }
                    due.as_mut().reset(at);
                    // An idle connection keeps no read buffer.
                    if buffer.is_empty() {
                        buffer = BytesMut::new();
                    }
                    continue;
                }
            };
            match read {
                Ok(0) => return lost("the worker closed the connection"),
                Ok(bytes) => self.active.metrics().received(bytes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(cause) => return lost(format!("the connection broke: {cause}")),
            }
            if let Err(error) = self.answer(&mut codec, &mut buffer) {
                return error;
            }
        }
    }

    /// Tells the callers whose acknowledgements have arrived.
    fn answer(&self, codec: &mut TcpResponseCodec, buffer: &mut BytesMut) -> Result<(), Error> {
        let mut answers = Vec::new();
        let result = {
            let mut state = self.state.lock();
            take_answers(codec, buffer, &mut state.outbox, &mut answers)
        };
        // Before the callers are told: one that sends again at once finds its old place free.
        self.release(answers.len());
        for (answer, data) in answers {
            // A caller that has gone does not want to know.
            let _ = answer.send(acknowledgement::decode(&data));
        }
        result
    }

    fn release(&self, places: usize) {
        if places > 0
            && let Some(host) = self.host.upgrade()
        {
            host.release(self, places);
        }
    }

    fn broke(&self, cause: std::io::Error) {
        let message = format!("the connection broke while writing: {cause}");
        self.close(&lost(message).with_source(cause));
    }

    /// Ends the connection and tells every caller on it. The first reason counts.
    pub(crate) fn close(&self, error: &Error) {
        let outbox = {
            let mut state = self.state.lock();
            if std::mem::replace(&mut state.dead, true) {
                return;
            }
            std::mem::take(&mut state.outbox)
        };
        tracing::debug!(reason = %error, requests = outbox.len(), "request connection closed");
        self.closed.cancel();
        // No longer found from here on: who wants a connection gets another.
        if let Some(host) = self.host.upgrade() {
            host.remove(self);
        }
        for (answer, written) in outbox.into_callers() {
            let error = if written {
                error.clone().with_executed(Executed::Maybe)
            } else {
                let message = format!("not sent in full: {}", error.message());
                lost(message).with_executed(Executed::No)
            };
            let _ = answer.send(Err(error));
        }
    }
}

/// Waits for bytes and reads once; without a buffer until there is something. Cancel-safe.
async fn next(half: &mut ReadHalf, buffer: &mut BytesMut) -> io::Result<usize> {
    if buffer.capacity() == 0 {
        return read_without_buffer(half, buffer).await;
    }
    if buffer.capacity() == buffer.len() {
        buffer.reserve(READ_BYTES);
    }
    half.read_buf(buffer).await
}

fn take_answers(
    codec: &mut TcpResponseCodec,
    buffer: &mut BytesMut,
    outbox: &mut Outbox,
    answers: &mut Vec<(AckSender, Bytes)>,
) -> Result<(), Error> {
    let violation = |message: String| Error::new(Code::Violation, message);
    loop {
        match codec.decode_frame(buffer) {
            Ok(Some(message)) => match outbox.acknowledged() {
                Some(answer) => answers.push((answer, message.data)),
                None => {
                    let message = "the worker acknowledged a request that was not sent";
                    return Err(violation(message.to_owned()));
                }
            },
            Ok(None) => return Ok(()),
            Err(error) => return Err(violation(error.to_string())),
        }
    }
}

fn lost(message: impl Into<String>) -> Error {
    Error::new(Code::ConnectionLost, message)
}
