//! A request on its way out, and as it arrives.

use bytes::Bytes;

use crate::{
    CallLimits, Context, EndpointName, Error, Headers, InstanceId, PeerFacts, Permit, ProcessId,
    ResponseSink, TransportId,
};

/// How much a consumer lets its producer send before it has taken any: the flow-control window,
/// which is also the most a producer keeps for a replay.
///
/// A new item may start while both balances are positive, and is then charged in full; so the
/// bytes in flight stay under `bytes` plus one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Items in flight, at least 1.
    pub items: u32,
    /// Bytes in flight, at least 1.
    pub bytes: u32,
}

/// A request as the calling side hands it to a transport.
#[derive(Debug, Clone)]
pub struct OutgoingRequest {
    /// What is called.
    pub endpoint: EndpointName,
    /// Which instance is meant. A server that is not it refuses.
    pub instance: InstanceId,
    /// Metadata, the payload's content type and the trace parent among them. These travel; those
    /// of the context are for whoever makes the request out of it.
    pub headers: Headers,
    /// The request's payload.
    pub body: Bytes,
    /// Cancel, deadline, id.
    pub context: Context,
    /// Flow-control window for the response, instead of the transport's own choice.
    pub window: Option<Window>,
    /// 0 for the first try, then 1, 2, ... for the same request sent again.
    pub attempt: u8,
    /// The process that must answer, where it is known: another one may have taken the address.
    pub process: Option<ProcessId>,
    /// Limits of the waits for the response, where the context says nothing.
    pub limits: CallLimits,
}

impl OutgoingRequest {
    /// A first try with the transport's own window.
    pub fn new(endpoint: EndpointName, instance: InstanceId, body: Bytes) -> Self {
        let context = Context::new();
        Self {
            endpoint,
            instance,
            headers: Headers::new(),
            body,
            context,
            window: None,
            attempt: 0,
            process: None,
            limits: CallLimits::default(),
        }
    }

    /// The same request with a given context.
    #[must_use]
    pub fn with_context(mut self, context: Context) -> Self {
        self.context = context;
        self
    }

    /// The same request with given headers.
    #[must_use]
    pub fn with_headers(mut self, headers: Headers) -> Self {
        self.headers = headers;
        self
    }

    /// The same request with limits for what its context leaves open.
    #[must_use]
    pub fn with_limits(mut self, limits: CallLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The same request with a given window.
    #[must_use]
    pub fn with_window(mut self, window: Window) -> Self {
        self.window = Some(window);
        self
    }
}

/// A request as the serving side receives it.
#[derive(Debug)]
pub struct IncomingRequest<'a> {
    /// What is called, as the peer spelled it: not validated, to be looked up.
    pub endpoint: &'a str,
    /// Which instance the caller means.
    pub instance: InstanceId,
    /// The request's payload.
    pub body: Bytes,
    /// Cancel, deadline, headers, id.
    pub context: Context,
    /// How it came.
    pub transport: &'a TransportId,
    /// What the transport knows of the other end.
    pub peer: &'a PeerFacts,
    /// 0 for the first try.
    pub attempt: u8,
}

/// Takes requests off a transport.
///
/// `handle` is called from the transport's reader, so it must return at once: it decides, and
/// hands the work to a task of its own. Every sink ends with one terminal; dropping it counts
/// as [`Code::HandlerGone`](crate::Code::HandlerGone).
///
/// A sink that comes out of `handle` without an end is admitted: the transport tells the caller so
/// within 100 ms, unless an item, an end or [`ResponseSink::accept`] does earlier.
pub trait RequestHandler: Send + Sync {
    /// Takes one request. Refuse it with [`ResponseSink::reject`].
    fn handle(&self, request: IncomingRequest<'_>, sink: ResponseSink);

    /// True for a handler that keeps requests without having decided on them: then only its own
    /// [`ResponseSink::accept`] tells their callers that they are admitted.
    fn decides_later(&self) -> bool {
        false
    }

    /// Reserves a place for a request, for planes that acknowledge one before they have a sink for
    /// it. `None` from a handler that decides only when the request comes to
    /// [`handle`](Self::handle).
    ///
    /// # Errors
    /// The refusal that `handle` would send.
    fn reserve(&self, _endpoint: &str, _instance: InstanceId) -> Result<Option<Permit>, Error> {
        Ok(None)
    }
}

impl<F> RequestHandler for F
where
    F: Fn(IncomingRequest<'_>, ResponseSink) + Send + Sync,
{
    fn handle(&self, request: IncomingRequest<'_>, sink: ResponseSink) {
        self(request, sink);
    }
}
