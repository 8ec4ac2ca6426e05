//! One served instance of an endpoint: it admits requests and passes them to its handler.

use std::{sync::Arc, time::Duration};

use sinew_plane::{
    Closed, Context, Continuation, EndpointName, Error, InFlight, InFlightKey, IncomingRequest,
    InstanceId, Place, RequestHandler, ResponseSink, clock,
};
use sinew_telemetry::{EndpointMetrics, trace};
use tokio_util::task::TaskTracker;

use crate::{
    contexts::InFlightContexts,
    continued,
    deadline::{DeadlineKey, Deadlines},
    hand_over::{HandOver, HandOvers},
    handler::{AdmittedRequest, Handler},
    park_limit::ParkLimit,
    refusal,
    request_guard::RequestGuard,
    retention::{Retain, Retention},
    transport_meters::TransportMeters,
};

/// What all instances of a process share.
pub(crate) struct Process {
    pub(crate) in_flight: InFlight,
    pub(crate) deadlines: Deadlines,
    pub(crate) tasks: TaskTracker,
    pub(crate) transports: TransportMeters,
    pub(crate) retention: Arc<Retention>,
}

pub(crate) struct Instance {
    pub(crate) name: EndpointName,
    pub(crate) id: InstanceId,
    /// A second name, which `register_endpoint` sets.
    pub(crate) subject: Option<Arc<str>>,
    pub(crate) in_flight: InFlight,
    /// Longest time that an item may wait for its reader.
    pub(crate) park_limit: Option<Duration>,
    /// How long a response is kept for its caller after the loss of its connection.
    pub(crate) resume_grace: Option<Duration>,
    /// What routers may do with its requests when it dies.
    pub(crate) continuation: Continuation,
    /// Longest time that a drain waits for checkpoints.
    pub(crate) checkpoint_wait: Duration,
    /// Its responses that can be handed over.
    pub(crate) hand_overs: Arc<HandOvers>,
    /// What is kept of each response for readers that come later.
    pub(crate) retain: Option<Retain>,
    pub(crate) contexts: InFlightContexts,
    pub(crate) process: Arc<Process>,
    pub(crate) handler: Handler,
    pub(crate) metrics: EndpointMetrics,
}

impl Instance {
    /// The names under which requests can call the instance.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Arc<str>> {
        std::iter::once(self.name.as_str().into()).chain(self.subject.clone())
    }

    /// Admits the request and passes it to the handler, or refuses it. Returns at once.
    pub(crate) fn take(self: &Arc<Self>, request: IncomingRequest<'_>, sink: ResponseSink) {
        self.serve(request, sink, Entry::New);
    }

    fn serve(self: &Arc<Self>, request: IncomingRequest<'_>, sink: ResponseSink, entry: Entry) {
        let IncomingRequest { mut body, mut context, transport, peer, attempt, secret, .. } =
            request;
        let mut sink = sink;
        // A first attempt at another endpoint is no continued request.
        let is_plain = attempt == 0 && self.continuation == Continuation::None;
        let admitted = if is_plain {
            self.admit(&context, body.len(), entry)
        } else {
            let bytes = body.len();
            continued::prepare(self.continuation, &mut body, &mut context, &mut sink)
                .map_err(|error| self.refuse(entry, error))
                .and_then(|()| self.admit(&context, bytes, entry))
        };
        match admitted {
            Ok(mut permit) => {
                self.process.transports.count(transport, |meter| permit.over(meter));
                let context = context.received();
                if let Some(grace) = self.resume_grace {
                    sink.keep_for(grace);
                }
                let sink = ParkLimit::wrap(sink, &context, self.park_limit);
                // A stream without a secret has no other readers.
                let (context, sink) = match self.retain.filter(|_| secret != 0) {
                    None => (context, sink),
                    Some(retain) => {
                        let Process { retention, tasks, .. } = &*self.process;
                        let share = |handler: &_| permit.share(handler);
                        retention.retain(retain, (context, secret), sink, share, tasks)
                    }
                };
                let sink = HandOver::wrap(sink, &context, self.continuation, &self.hand_overs);
                let admitted = AdmittedRequest { body, context, transport, peer, attempt, permit };
                self.handler.serves.handle(admitted, sink);
            }
            Err(error) => {
                self.process.transports.count(transport, |meter| meter.refused(error.fault()));
                sink.reject(error);
            }
        }
    }

    /// Admits and counts a request, or counts and returns its refusal.
    pub(crate) fn admit(
        self: &Arc<Self>,
        context: &Context,
        request_bytes: usize,
        entry: Entry,
    ) -> Result<RequestGuard, Error> {
        if let Err(error) = self.enter(context, entry) {
            return Err(self.refused(error));
        }
        // Counted before it can be cut: what is in flight is in the gauge.
        let metrics = Some(self.metrics.admitted(request_bytes));
        let key = self.contexts.insert(context);
        let deadline = self.watch_deadline(context);
        Ok(RequestGuard { instance: Arc::clone(self), key, deadline, metrics, shared: None })
    }

    pub(crate) fn watch_deadline(&self, context: &Context) -> Option<DeadlineKey> {
        let Process { deadlines, tasks, .. } = &*self.process;
        context.deadline().map(|deadline| deadlines.watch(deadline, context, tasks))
    }

    /// Counts a refusal.
    #[cold]
    fn refused(&self, error: Error) -> Error {
        self.metrics.refused(error.fault());
        tracing::debug!(
            endpoint = self.name.as_str(),
            code = error.code().as_str(),
            "refused a request"
        );
        error
    }

    /// Refuses a request that was not admitted yet: its place, if it has one, is free again.
    #[cold]
    fn refuse(&self, entry: Entry, error: Error) -> Error {
        if entry == Entry::Reserved {
            self.release();
        }
        self.refused(error)
    }

    fn enter(&self, context: &Context, entry: Entry) -> Result<(), Error> {
        if context.deadline().is_some_and(|deadline| deadline <= clock::now()) {
            if entry == Entry::Reserved {
                self.release();
            }
            return Err(refusal::too_late());
        }
        if entry == Entry::Reserved { Ok(()) } else { self.enter_both() }
    }

    /// Reserves a place for a request that is about to arrive.
    pub(crate) fn reserve(self: &Arc<Self>) -> Result<sinew_plane::Permit, Error> {
        self.enter_both().inspect_err(|error| self.metrics.refused(error.fault()))?;
        Ok(sinew_plane::Permit::new(Arc::clone(self) as _))
    }

    fn enter_both(&self) -> Result<(), Error> {
        self.in_flight.enter().map_err(|closed| self.endpoint_refusal(closed))?;
        self.process.in_flight.enter().map_err(|closed| {
            self.in_flight.leave();
            self.process_refusal(closed)
        })
    }

    fn endpoint_refusal(&self, closed: Closed) -> Error {
        match closed {
            Closed::Draining => refusal::draining(&self.name),
            Closed::Full { max } => refusal::endpoint_full(&self.name, max),
        }
    }

    fn process_refusal(&self, closed: Closed) -> Error {
        match closed {
            Closed::Draining => refusal::draining(&self.name),
            Closed::Full { max } => refusal::process_full(max),
        }
    }

    /// Undoes an admission.
    pub(crate) fn leave(&self, key: Option<InFlightKey>, deadline: Option<DeadlineKey>) {
        self.forget(key, deadline);
        self.release();
    }

    /// Neither a cut nor a deadline reaches the context any longer.
    pub(crate) fn forget(&self, key: Option<InFlightKey>, deadline: Option<DeadlineKey>) {
        if let Some(deadline) = deadline {
            self.process.deadlines.forget(deadline);
        }
        if let Some(key) = key {
            self.contexts.remove(key);
        }
    }

    pub(crate) fn span(&self, context: &Context) -> tracing::Span {
        trace::request_span(&self.name, self.id, context.id(), context.headers())
    }
}

/// Whether a request has a reserved place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The request takes a place if one is free.
    New,
    /// A place was reserved for the request.
    Reserved,
}

impl Place for Instance {
    fn call(self: Arc<Self>, request: IncomingRequest<'_>, sink: ResponseSink) {
        self.serve(request, sink, Entry::Reserved);
    }

    fn release(&self) {
        self.in_flight.leave();
        self.process.in_flight.leave();
    }
}

/// The instance as a request handler, for callers in this process that have looked it up already.
pub(crate) struct InstanceHandler(pub(crate) Arc<Instance>);

impl RequestHandler for InstanceHandler {
    fn handle(&self, request: IncomingRequest<'_>, sink: ResponseSink) {
        self.0.take(request, sink);
    }
}
