//! Endpoints whose requests are streams.

use std::{collections::HashMap, fmt, sync::Arc};

use parking_lot::RwLock;
use sinew_plane::{
    EndpointName, IncomingRequest, RequestStream, RequestStreamClient, ResponseSink,
};

/// Handles requests that are streams of items.
///
/// A task of the server calls `handle`, which must return at once, as in a
/// [`RequestHandler`](sinew_plane::RequestHandler).
pub trait BidirectionalHandler: Send + Sync {
    /// Handles one request. Its body is empty; `items` are fetched as fast as they are polled.
    fn handle(&self, request: IncomingRequest<'_>, items: RequestStream, sink: ResponseSink);
}

impl<F> BidirectionalHandler for F
where
    F: Fn(IncomingRequest<'_>, RequestStream, ResponseSink) + Send + Sync,
{
    fn handle(&self, request: IncomingRequest<'_>, items: RequestStream, sink: ResponseSink) {
        self(request, items, sink);
    }
}

/// An endpoint that takes streams.
#[derive(Clone)]
pub(super) struct Bidirectional {
    pub(super) handler: Arc<dyn BidirectionalHandler>,
    /// Fetches the items of requests.
    pub(super) streams: Arc<dyn RequestStreamClient>,
}

/// The endpoints that take streams.
#[derive(Default)]
pub(super) struct Registered(RwLock<HashMap<EndpointName, Bidirectional>>);

impl Registered {
    pub(super) fn insert(
        self: &Arc<Self>,
        endpoint: EndpointName,
        entry: Bidirectional,
    ) -> BidirectionalEndpoint {
        let handler = Arc::clone(&entry.handler);
        self.0.write().insert(endpoint.clone(), entry);
        BidirectionalEndpoint { registered: Arc::clone(self), endpoint, handler }
    }

    pub(super) fn find(&self, endpoint: &str) -> Option<Bidirectional> {
        self.0.read().get(endpoint).cloned()
    }
}

/// Keeps an endpoint served until it is dropped. Requests in flight continue.
#[must_use = "the endpoint is withdrawn when this is dropped"]
pub struct BidirectionalEndpoint {
    registered: Arc<Registered>,
    endpoint: EndpointName,
    handler: Arc<dyn BidirectionalHandler>,
}

impl Drop for BidirectionalEndpoint {
    fn drop(&mut self) {
        let mut registered = self.registered.0.write();
        // A later one under the same name stands.
        if registered.get(&self.endpoint).is_some_and(|it| Arc::ptr_eq(&it.handler, &self.handler))
        {
            registered.remove(&self.endpoint);
        }
    }
}

impl fmt::Debug for BidirectionalEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BidirectionalEndpoint").field(&self.endpoint).finish()
    }
}
