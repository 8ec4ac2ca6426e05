//! The serving side: reads requests from a connection, and writes acknowledgements to it.

mod answers;
mod charge;
mod closing;
mod waiting;

use std::{io, panic::AssertUnwindSafe, sync::Arc};

use bytes::BytesMut;
use sinew_codec::{TcpRequestCodec, TcpRequestMessage};
use sinew_dynamo_wire::request_headers;
use sinew_net::{Accepted, Detect, Place, Protocol, ReadHalf, WriteHalf};
use sinew_plane::{
    BoxFuture, Code, Decision, Error, PeerFacts, PlaneRequest, RequestPlaneHandler, TransportId,
    budget::{Account, Hold},
};
use sinew_telemetry::{ConnectionMeters, ConnectionMetrics, Side};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::{answers::ANSWERS_BYTES, closing::LINGER, waiting::Progress};
use crate::{CheckedTcpRequestServerConfig, payload::payload_of};

/// Receives requests on the connections of a port, as one of its [protocols](Protocol).
///
/// While the server drains, until the grace period of its shutdown ends, requests are refused with
/// `Server unavailable:`. The handler finishes requests that were acknowledged before.
pub struct TcpRequestServer {
    handler: Arc<dyn RequestPlaneHandler>,
    config: CheckedTcpRequestServerConfig,
    meters: ConnectionMeters,
}

impl Protocol for TcpRequestServer {
    /// A frame begins with the length of its path in 16 bits, 1 to 1,024. What says more is still a
    /// frame: the decoder tells the peer.
    fn detect(&self, first: &[u8]) -> Detect {
        match *first {
            [0] => Detect::More,
            [0, 0, ..] => Detect::No,
            [0..=4, ..] => Detect::Yes,
            _ => Detect::No,
        }
    }

    fn serve(self: Arc<Self>, connection: Accepted) -> BoxFuture<'static, ()> {
        Box::pin(async move { self.serve_connection(connection).await })
    }
}

impl TcpRequestServer {
    /// Makes a protocol that passes requests to `handler`, which decides on their acknowledgements.
    pub fn new(
        config: CheckedTcpRequestServerConfig,
        handler: Arc<dyn RequestPlaneHandler>,
    ) -> Self {
        Self { handler, config, meters: ConnectionMeters::new(Side::Serving) }
    }

    /// Serves one connection to its end.
    async fn serve_connection(&self, accepted: Accepted) {
        let Accepted { carrier, first, place, draining, ending, .. } = accepted;
        // Counted at the port for as long as it lives.
        let _unclassified = accepted.unclassified;
        let transport = carrier.transport();
        // Asked once for a connection, since it costs a system call.
        let peer = carrier.peer();
        let (read, write) = carrier.split();
        let meter = self.meters.of(&transport);
        let _active = meter.opened();
        meter.received(first.len());
        let mut connection = Serving {
            plane: self,
            draining,
            ending,
            place,
            meter: &meter,
            transport,
            peer,
            codec: TcpRequestCodec::new(self.config.max_request_bytes),
            read,
            write,
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
}

fn draining() -> Error {
    Error::draining("the worker is shutting down")
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

/// One connection. One task reads, asks the handler and writes, so the answers are in order and
/// a peer that does not read them is not read either.
struct Serving<'a> {
    plane: &'a TcpRequestServer,
    /// New requests are refused.
    draining: CancellationToken,
    /// The connection ends.
    ending: CancellationToken,
    place: Place,
    meter: &'a ConnectionMetrics,
    transport: TransportId,
    read: ReadHalf,
    write: Arc<dyn WriteHalf>,
    peer: PeerFacts,
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
            match self.decide(message) {
                Some(Decision::Now(outcome)) => self.put_answer(&outcome),
                Some(Decision::Later(outcome)) => {
                    // Answers are in the order of their requests, so the others wait as well.
                    self.write_answers().await?;
                    let ending = self.ending.run_until_cancelled(outcome).await;
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
    /// The handler's word on one request; `None` when it panicked.
    fn decide(&self, message: TcpRequestMessage) -> Option<Decision> {
        if self.draining.is_cancelled() {
            return Some(Decision::Now(Err(draining())));
        }
        let payload = match payload_of(&message, self.account.as_ref()) {
            Ok(payload) => payload,
            Err(error) => return Some(Decision::Now(Err(error))),
        };
        let request = PlaneRequest {
            target: message.path(),
            headers: request_headers::decode(message.headers()),
            payload,
            transport: &self.transport,
            peer: &self.peer,
        };
        let decided = AssertUnwindSafe(|| self.plane.handler.decide(request));
        let decided = std::panic::catch_unwind(decided).ok();
        if decided.is_none() {
            tracing::error!("the handler of a request plane panicked");
        }
        decided
    }
}

impl std::fmt::Debug for TcpRequestServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TcpRequestServer").field("config", &self.config).finish_non_exhaustive()
    }
}
