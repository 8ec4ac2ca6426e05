//! The serving side of a split exchange.

mod admission;
mod bidirectional;
mod config;
mod declared;
mod delivered;
mod late_frames;
mod received_request;
mod serving;
mod shared;
mod shares;

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sinew_plane::{
    Code, Decision, EndpointName, Error, PlaneRequest, RequestHandler, RequestPlaneHandler,
    RequestStreamClient, ResponsePlaneClient, Shutdown,
};
use tokio::time::timeout;

use self::{
    admission::Candidate, bidirectional::Bidirectional, declared::Declared, shared::Shared,
};
pub use self::{
    bidirectional::{BidirectionalEndpoint, BidirectionalHandler},
    config::SplitServerConfig,
    declared::{DeclaredEndpoint, EndpointDeclaration},
    late_frames::LateFrames,
    shared::DIAL_BACK_FAILURES,
};

/// How long a shutdown waits for tasks that were cut: they end at their next wait.
const JOIN_LIMIT: Duration = Duration::from_secs(5);

/// Receives requests on an acknowledging plane, dials their callers back and passes both to a
/// handler. Clones share everything.
///
/// A refusal is sent in the acknowledgement, in a form that Dynamo callers understand on every
/// plane. Only a request of the wrong kind (stream or single) for its endpoint is accepted and then
/// failed on the response plane, because every negative acknowledgement would make the caller blame
/// the worker. A caller that is not a Sinew process is refused unless [`SplitServerConfig::peer`]
/// has a codec for it.
#[derive(Clone)]
pub struct SplitServer(Arc<Shared>);

impl SplitServer {
    /// Makes a server that passes requests to `handler` and sends its responses over `responses`.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(
        config: SplitServerConfig,
        responses: Arc<dyn ResponsePlaneClient>,
        handler: Arc<dyn RequestHandler>,
    ) -> Self {
        Self(Arc::new(Shared::new(config, responses, handler)))
    }

    /// Declares the NATS subject of an instance, and whether its items are annotated. Not needed if
    /// requests have a path and items are plain.
    pub fn declare(&self, declaration: EndpointDeclaration) -> DeclaredEndpoint {
        Declared::insert(&self.0.declared, declaration)
    }

    /// Serves an endpoint whose requests are streams; `streams` fetches their items. It takes
    /// precedence over an endpoint of the server's handler.
    pub fn serve_bidirectional(
        &self,
        endpoint: EndpointName,
        streams: Arc<dyn RequestStreamClient>,
        handler: Arc<dyn BidirectionalHandler>,
    ) -> BidirectionalEndpoint {
        self.0.bidirectional.insert(endpoint, Bidirectional { handler, streams })
    }

    /// Refuses new requests from now on. Accepted requests continue.
    pub fn drain(&self) {
        self.0.drain();
    }

    /// True once a request of a caller that is not a Sinew process was accepted. Such callers may
    /// not send a refused request to another instance, so a worker that leaves discovery should
    /// continue to serve for a moment.
    pub fn has_foreign_callers(&self) -> bool {
        self.0.has_foreign_callers.load(Ordering::Relaxed)
    }

    /// The number of accepted requests that have not reached the handler, and of responses whose
    /// last frames wait for credit.
    pub fn pending(&self) -> usize {
        self.0.tasks.len()
    }

    /// Drains, waits for the server's own tasks for at most `grace`, cuts the rest and joins them.
    /// Responses in progress belong to the handler and to the response plane: shut the handler down
    /// before this call, and close the response plane after it.
    pub async fn shutdown(&self, grace: Duration) -> Shutdown {
        self.0.drain();
        self.0.tasks.close();
        // Over or not: what is left is counted next.
        let _ = timeout(grace, self.0.tasks.wait()).await;
        let cut_streams = self.0.tasks.len();
        self.0.cut.cancel();
        self.0.acceptances.close();
        let all = async {
            self.0.tasks.wait().await;
            self.0.acceptances.wait().await;
        };
        let joined = timeout(JOIN_LIMIT, all).await;
        let left = self.0.tasks.len() + self.0.acceptances.len();
        let cut_tasks = if joined.is_ok() { 0 } else { left };
        Shutdown { cut_streams, cut_tasks }
    }
}

impl RequestPlaneHandler for SplitServer {
    /// As [`decide`](RequestPlaneHandler::decide), for who cannot wait: a caller whose name has to
    /// be looked up is refused.
    fn accept(&self, request: PlaneRequest<'_>) -> Result<(), Error> {
        match self.decide(request) {
            Decision::Now(outcome) => outcome,
            Decision::Later(_) => {
                let message = "the address of the caller has to be looked up first";
                Err(Error::new(Code::Overloaded, message))
            }
        }
    }

    fn decide(&self, request: PlaneRequest<'_>) -> Decision {
        let candidate = match Candidate::read(&self.0, request) {
            Ok(candidate) => candidate,
            Err(refusal) => return Decision::Now(Err(refusal)),
        };
        match candidate.check(&self.0) {
            Decision::Now(Ok(())) => candidate.start(&self.0),
            Decision::Now(refused) => return Decision::Now(refused),
            Decision::Later(checked) => {
                let starting = candidate.start_after(checked, Arc::clone(&self.0));
                return Decision::Later(Box::pin(starting));
            }
        }
        Decision::Now(Ok(()))
    }
}

impl fmt::Debug for SplitServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SplitServer").field("pending", &self.pending()).finish_non_exhaustive()
    }
}
