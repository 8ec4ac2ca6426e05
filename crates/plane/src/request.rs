//! A request as the calling side sends it, and as the serving side receives it.

use bytes::Bytes;

use crate::{
    CallLimits, Context, EndpointName, Error, Headers, InstanceId, PeerFacts, Permit, ProcessId,
    ResponseSink, ResumeToken, TransportId,
};

/// The flow-control window of a stream: how much the producer may send before the consumer has
/// taken any. It is also the most that the producer keeps for a replay.
///
/// A new item may start while credit is left in both items and bytes, and is then charged in full,
/// so the bytes in flight stay under `bytes` plus one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Items in flight, at least 1.
    pub items: u32,
    /// Bytes in flight, at least 1.
    pub bytes: u32,
}

/// A request as the calling side passes it to a transport.
#[derive(Debug, Clone)]
pub struct OutgoingRequest {
    /// The endpoint that is called.
    pub endpoint: EndpointName,
    /// The instance that is called. Any other instance refuses the request.
    pub instance: InstanceId,
    /// The headers that are sent, with the payload's content type and the trace parent. The headers
    /// of the context are not sent; the code that makes this request copies them here.
    pub headers: Headers,
    /// The request's payload.
    pub body: Bytes,
    /// Cancel, deadline, id.
    pub context: Context,
    /// Flow-control window of the response, instead of the transport's default.
    pub window: Option<Window>,
    /// 0 for the first attempt, then 1, 2, ... for the same request sent again.
    pub attempt: u8,
    /// The process that has to answer, if it is known, because another process may have taken the
    /// address.
    pub process: Option<ProcessId>,
    /// Time limits for the response, where the context sets none.
    pub limits: CallLimits,
}

impl OutgoingRequest {
    /// Makes a first attempt with the transport's default window.
    pub fn new(endpoint: EndpointName, instance: InstanceId, body: Bytes) -> Self {
        Self::in_context(Context::new(), endpoint, instance, body)
    }

    /// The same under a context that there is already.
    pub fn in_context(
        context: Context,
        endpoint: EndpointName,
        instance: InstanceId,
        body: Bytes,
    ) -> Self {
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

    /// Sets the context.
    #[must_use]
    pub fn with_context(mut self, context: Context) -> Self {
        self.context = context;
        self
    }

    /// Sets the headers.
    #[must_use]
    pub fn with_headers(mut self, headers: Headers) -> Self {
        self.headers = headers;
        self
    }

    /// Sets the time limits that apply where the context sets none.
    #[must_use]
    pub fn with_limits(mut self, limits: CallLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the flow-control window.
    #[must_use]
    pub fn with_window(mut self, window: Window) -> Self {
        self.window = Some(window);
        self
    }
}

/// The wish to continue to read a stream that another process has opened.
#[derive(Debug, Clone)]
pub struct ResumeRequest {
    /// The stream, and from which item on.
    pub token: ResumeToken,
    /// Cancel and deadline of the reader.
    pub context: Context,
    /// Flow-control window, instead of the transport's default.
    pub window: Option<Window>,
    /// Time limits where the context sets none.
    pub limits: CallLimits,
}

/// A request as the serving side receives it.
#[derive(Debug)]
pub struct IncomingRequest<'a> {
    /// The endpoint that is called, as the peer spelled it. It is not validated.
    pub endpoint: &'a str,
    /// The instance that the caller names.
    pub instance: InstanceId,
    /// The request's payload.
    pub body: Bytes,
    /// Cancel, deadline, headers, id.
    pub context: Context,
    /// The transport that it arrived on.
    pub transport: &'a TransportId,
    /// What the transport knows of the other end.
    pub peer: &'a PeerFacts,
    /// The number of the attempt, 0 for the first.
    pub attempt: u8,
    /// What a reader that comes later has to show, with the id of the stream. 0 if no other reader
    /// can come.
    pub secret: u64,
}

/// Handles the requests that a transport receives.
///
/// The transport's reader task calls `handle`, so it must return at once: it decides, and starts a
/// task for the work. Every sink ends with one terminal; dropping the sink fails the stream with
/// [`Code::HandlerGone`](crate::Code::HandlerGone).
///
/// A request whose sink has no end when `handle` returns counts as admitted: the transport sends
/// the acceptance to the caller within 100 ms, unless an item, an end or [`ResponseSink::accept`]
/// does so earlier.
pub trait RequestHandler: Send + Sync {
    /// Handles one request. Refuse it with [`ResponseSink::reject`].
    fn handle(&self, request: IncomingRequest<'_>, sink: ResponseSink);

    /// True for a handler that keeps requests on which it has not decided yet. Only its own
    /// [`ResponseSink::accept`] then sends the acceptance to their callers.
    fn decides_later(&self) -> bool {
        false
    }

    /// Reserves a place for a request, for planes that acknowledge a request before they have a
    /// sink for it. `None` from a handler that decides only in [`handle`](Self::handle).
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
