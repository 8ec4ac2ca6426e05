//! The serving side of a split exchange.

mod arrival;
mod bidirectional;
mod config;
mod declared;
mod delivered;
mod shared;
mod shares;
mod wrapped;

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sinew_dynamo_wire::InstancePath;
use sinew_plane::{
    ACCEPTANCE_LOOK, Acceptance, BoxFuture, Code, Decision, EndpointName, Error, IncomingRequest,
    InstanceId, PlaneRequest, RequestHandler, RequestPlaneHandler, RequestStream,
    RequestStreamClient, ResponsePlaneClient, ResponseSink, Shutdown,
};
use tokio::time::timeout;

use self::{
    arrival::Arrival,
    bidirectional::Bidirectional,
    declared::Declared,
    shared::{Place, Shared},
    wrapped::Wrapped,
};
pub use self::{
    bidirectional::{BidirectionalEndpoint, BidirectionalHandler},
    config::SplitServerConfig,
    declared::{DeclaredEndpoint, EndpointDeclaration},
    shared::DIAL_BACK_FAILURES,
};

/// How long a shutdown waits for tasks that were cut: they end at their next wait.
const JOIN_LIMIT: Duration = Duration::from_secs(5);

/// Takes requests off an acknowledging plane, dials their callers back and hands both to a
/// handler. Clones share everything.
///
/// A refusal is told in the acknowledgement, in words that callers of Dynamo understand on every
/// plane. Only a request of a shape that its endpoint does not take is accepted and then told so
/// on the response plane: there is no acknowledgement that does not blame the worker for it.
#[derive(Clone)]
pub struct SplitServer(Arc<Shared>);

impl SplitServer {
    /// A server that answers over `responses` with what `handler` does.
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

    /// Says what a path does not say of an instance: its subject, and whether its items are
    /// annotated. Needed for neither where requests come with a path and items are plain.
    pub fn declare(&self, declaration: EndpointDeclaration) -> DeclaredEndpoint {
        Declared::insert(&self.0.declared, declaration)
    }

    /// Serves an endpoint whose requests are streams; `streams` fetches their items. It is served
    /// beside what the server's own handler serves, and counts before it.
    pub fn serve_bidirectional(
        &self,
        endpoint: EndpointName,
        streams: Arc<dyn RequestStreamClient>,
        handler: Arc<dyn BidirectionalHandler>,
    ) -> BidirectionalEndpoint {
        self.0.bidirectional.insert(endpoint, Bidirectional { handler, streams })
    }

    /// Refuses new requests from now on. What was accepted goes on.
    pub fn drain(&self) {
        self.0.drain();
    }

    /// True once a request of a Dynamo caller was accepted. Those do not send a refused request
    /// elsewhere: a worker that leaves discovery does well to go on serving for a moment.
    pub fn has_dynamo_callers(&self) -> bool {
        self.0.has_dynamo_callers.load(Ordering::Relaxed)
    }

    /// Requests that were accepted and have not reached the handler, and responses whose last
    /// frames wait for room.
    pub fn pending(&self) -> usize {
        self.0.tasks.len()
    }

    /// Drains, gives the server's own tasks until `grace` is over, cuts the rest and joins them.
    /// Responses under way belong to the handler and to the response plane: shut the former down
    /// before this and close the latter behind it.
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

impl Shared {
    /// Whom a request is for.
    fn look_up<'a>(&self, target: &'a str) -> Option<(Cow<'a, str>, InstanceId)> {
        if let Some((endpoint, instance)) = self.declared.of_subject(target) {
            return Some((Cow::Owned(endpoint.as_str().to_owned()), instance));
        }
        InstancePath::parse(target).map(|path| (path.endpoint, path.instance))
    }

    /// Whether the request is taken, as far as is known without its payload.
    fn admit(
        &self,
        endpoint: &str,
        instance: InstanceId,
        many: Option<&Bidirectional>,
        bytes: usize,
    ) -> Result<Place, Error> {
        self.check_draining()?;
        if many.is_none() {
            self.handler.admits(endpoint, instance)?;
        }
        self.place(bytes)
    }

    fn spawn(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(work, &self.runtime);
    }

    /// Dials the caller of a request back.
    async fn dial_back(&self, arrival: &Arrival) -> Option<ResponseSink> {
        let Arrival { connection_info, origin, context, .. } = arrival;
        let dialling = self.responses.connect(connection_info, *origin, context.clone());
        let dialled = tokio::select! {
            biased;
            () = self.cut.cancelled() => return None,
            dialled = dialling => dialled,
        };
        match dialled {
            Ok(sink) => Some(sink),
            // The caller has given up, which is no fault.
            Err(error) if error.code() == Code::Cancelled => {
                tracing::debug!(endpoint = arrival.endpoint, %error, "a request is not run");
                None
            }
            Err(error) => {
                self.failures.increment(1);
                tracing::warn!(
                    endpoint = arrival.endpoint,
                    request_id = %arrival.context.id(),
                    code = error.code().as_str(),
                    "the caller of a request could not be dialled back: {error}"
                );
                None
            }
        }
    }

    async fn serve(self: Arc<Self>, arrival: Arrival, place: Place, many: Option<Bidirectional>) {
        if !arrival.scheme.is_bare() {
            self.has_dynamo_callers.store(true, Ordering::Relaxed);
        }
        let input = match many {
            Some(many) => {
                // In a box, so that requests of the common kind do not carry room for it.
                let items = Box::pin(self.fetch(&many, &arrival)).await;
                Some(items.map(|items| (many.handler, items)))
            }
            None => None,
        };
        let Some(sink) = self.dial_back(&arrival).await else { return };
        drop(place);
        let sink = match arrival.items {
            Some(items) => Wrapped::sink(sink, items, &arrival.context, &self),
            None => sink,
        };
        // Behind it the request is admitted, or the sink has ended. A handler that is slow to say
        // anything must not look like a worker that is gone.
        let acceptance = sink.acceptance();
        let transport = arrival.scheme.transport();
        let request = IncomingRequest {
            endpoint: &arrival.endpoint,
            instance: arrival.instance,
            body: arrival.body,
            context: arrival.context,
            transport: &transport,
            attempt: arrival.attempt,
        };
        match input {
            Some(Ok((handler, items))) => handler.handle(request, items, sink),
            Some(Err(error)) => sink.reject(error),
            None => self.handler.handle(request, sink),
        }
        self.admitted(acceptance);
    }

    /// A request is with its handler: its caller hears of it soon.
    fn admitted(self: &Arc<Self>, acceptance: Acceptance) {
        if self.unanswered.lock().push(acceptance, Acceptance::is_live) {
            let shared = Arc::clone(self);
            let telling = async move { shared.tell_admitted().await };
            self.acceptances.spawn_on(telling, &self.runtime);
        }
    }

    /// One task while there are requests that have not been answered.
    async fn tell_admitted(&self) {
        let mut more = true;
        while more {
            tokio::select! {
                biased;
                () = self.cut.cancelled() => return,
                () = tokio::time::sleep(ACCEPTANCE_LOOK) => {}
            }
            let mut due = Vec::new();
            more = self.unanswered.lock().look(|acceptance| due.push(acceptance));
            // Without the lock: this writes to the callers.
            due.iter().for_each(Acceptance::send);
        }
    }

    /// Dials for the items of a request.
    async fn fetch(&self, many: &Bidirectional, arrival: &Arrival) -> Result<RequestStream, Error> {
        // The shape was looked at: there is one.
        let info = arrival.request_stream.as_deref().unwrap_or_default();
        tokio::select! {
            biased;
            () = self.cut.cancelled() => Err(Error::draining("the worker is shutting down")),
            items = many.streams.connect_request_stream(
                info,
                arrival.origin,
                arrival.context.clone(),
            ) => items,
        }
    }

    /// Tells a caller on the response plane why nothing runs for it.
    async fn refuse(self: Arc<Self>, arrival: Arrival, fault: Error, place: Place) {
        if let Some(sink) = self.dial_back(&arrival).await {
            sink.reject(fault);
        }
        drop(place);
    }
}

/// The refusal in the words that Dynamo has for it.
fn unknown(target: &str) -> Error {
    Error::new(Code::UnknownEndpoint, format!("unknown endpoint {target}"))
}

/// A request that is taken as soon as its caller may be dialled.
struct Candidate {
    arrival: Arrival,
    place: Place,
    many: Option<Bidirectional>,
}

impl Candidate {
    fn read(shared: &Shared, request: PlaneRequest<'_>) -> Result<Self, Error> {
        let target = request.target;
        let (endpoint, instance) = shared.look_up(target).ok_or_else(|| unknown(target))?;
        let many = shared.bidirectional.find(&endpoint);
        let bytes = request.payload.len();
        let admitted = shared.admit(&endpoint, instance, many.as_ref(), bytes);
        let place = admitted.map_err(|error| match error.code() {
            Code::UnknownEndpoint => unknown(target),
            _ => error,
        })?;
        let is_annotated = shared.declared.is_annotated(&endpoint);
        let endpoint = endpoint.into_owned();
        let arrival = Arrival::read(request, endpoint, instance, is_annotated, many.is_some())?;
        let place = shared.shared_place(place, &arrival)?;
        Ok(Self { arrival, place, many })
    }

    /// Whether its caller may be dialled: for the response, and for the items of the request where
    /// it is a stream.
    fn check(&self, shared: &Shared) -> Decision {
        let Arrival { connection_info, origin, request_stream, .. } = &self.arrival;
        let response = shared.responses.check(connection_info, *origin);
        let (Some(many), Some(items)) = (&self.many, request_stream) else { return response };
        let items = many.streams.check_request_stream(items, *origin);
        match (response, items) {
            (Decision::Now(Ok(())), items) => items,
            (Decision::Now(refused), _) => Decision::Now(refused),
            (response, Decision::Now(Ok(()))) => response,
            (_, Decision::Now(refused)) => Decision::Now(refused),
            (Decision::Later(response), Decision::Later(items)) => {
                let both = async { response.await.and(items.await) };
                Decision::Later(Box::pin(both))
            }
        }
    }

    /// From here on it is accepted.
    fn start(self, shared: &Arc<Shared>) {
        let Self { mut arrival, place, many } = self;
        if !shared.delivered.lock().is_new(&arrival.connection_info) {
            // Acknowledged as the first was, whose response it asks for. A refusal would say that
            // nothing runs, and there is no other word in an acknowledgement.
            tracing::debug!(request_id = %arrival.context.id(), "a request came twice");
            return;
        }
        match arrival.fault.take() {
            Some(fault) => shared.spawn(Arc::clone(shared).refuse(arrival, fault, place)),
            None => shared.spawn(Arc::clone(shared).serve(arrival, place, many)),
        }
    }

    /// Waits for what has to be found out first.
    async fn start_after(
        self,
        checked: BoxFuture<'static, Result<(), Error>>,
        shared: Arc<Shared>,
    ) -> Result<(), Error> {
        checked.await?;
        // The end may have begun meanwhile.
        shared.check_draining()?;
        self.start(&shared);
        Ok(())
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
