//! The trait for one way in which a process receives requests, from its start to its stop.

use std::{future::ready, sync::Arc, time::Duration};

use sinew_plane::{Address, BoxFuture, EndpointName, Error, InstanceId, RequestHandler, Shutdown};

use crate::CheckedConfig;

/// One way in which a process receives requests, such as a TCP port. A [`Runtime`](crate::Runtime)
/// has a list of listeners, and takes each through the same steps: *start* before the first
/// endpoint is served, *announce* for each endpoint, *drain* when the runtime shuts down, and
/// *stop* once all requests have ended.
///
/// [`RuntimeBuilder::listener`](crate::RuntimeBuilder::listener) adds your own to the list.
pub trait Listener: Send + Sync {
    /// Its name in errors, logs and the state of the process, such as `tcp`.
    fn name(&self) -> &str;

    /// Begins to receive requests, and passes each to `handler`. The runtime calls it before it
    /// announces the first endpoint, again for the next endpoint if it failed, and not again once
    /// it has succeeded. It should end within seconds: a shutdown waits for it.
    ///
    /// # Errors
    /// Why the listener cannot receive requests. The runtime then does not serve the endpoint.
    fn start<'a>(
        &'a self,
        config: &'a CheckedConfig,
        handler: Arc<dyn RequestHandler>,
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// The addresses at which other processes reach the listener, best first. The runtime publishes
    /// them in the record of each instance. Empty before the start, after the stop, and for a
    /// listener whose addresses differ by endpoint.
    fn addresses(&self) -> Vec<Address> {
        Vec::new()
    }

    /// Prepares the listener for one endpoint. The runtime calls it when the endpoint is served and
    /// before it is announced. `None`, the default: the listener needs no preparation.
    ///
    /// The future fails with the reason why the endpoint cannot be reached over this listener. The
    /// runtime then does not serve the endpoint.
    fn announce<'a>(
        &'a self,
        declaration: &'a Declaration,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Announcement>>, Error>> {
        let _ = declaration;
        Box::pin(ready(Ok(None)))
    }

    /// How long the runtime continues to serve an endpoint after it has withdrawn it from
    /// discovery, for callers that do not send a refused request to another instance. The runtime
    /// uses the longest delay of all listeners. The default is zero.
    fn withdrawal_delay(&self) -> Duration {
        Duration::ZERO
    }

    /// True while requests can arrive. The default is true.
    fn is_up(&self) -> bool {
        true
    }

    /// Makes the listener refuse new requests as `Draining`; the runtime calls it when it shuts
    /// down. The default does nothing, because the handler of the runtime refuses them.
    fn drain(&self) {}

    /// Stops the listener and returns what it had to cut. All requests have ended or been cut by
    /// then; connections that still have terminals of responses to write get `grace` for that. The
    /// runtime also calls this method on a listener that it has not [started](Self::start).
    fn stop(&self, grace: Duration) -> BoxFuture<'_, Shutdown>;
}

/// The endpoint that the runtime passes to [`Listener::announce`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Declaration {
    /// The name of the endpoint.
    pub endpoint: EndpointName,
    /// The instance of the endpoint.
    pub instance: InstanceId,
    /// The items of its responses are [annotated](crate::ServeBuilder::annotated), as Dynamo's
    /// engines send them.
    pub annotated: bool,
}

/// What a [`Listener`] holds for one endpoint. Dropping it ends the announcement.
pub trait Announcement: Send + Sync {
    /// Addresses that reach this endpoint only, in addition to those of the listener.
    fn addresses(&self) -> Vec<Address> {
        Vec::new()
    }

    /// Ends the announcement without losing a request that is still on its way. The runtime calls
    /// it when the endpoint is drained: no request is in flight and new ones are refused. If
    /// that is cut short, a later shutdown calls it again. The default does nothing, because the runtime
    /// drops the announcement next.
    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }
}
