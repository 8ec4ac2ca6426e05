//! One way in which a process is reached: what serves it, from its start to its end.

use std::{future::ready, sync::Arc, time::Duration};

use sinew_plane::{Address, BoxFuture, EndpointName, Error, InstanceId, RequestHandler, Shutdown};

use crate::CheckedConfig;

/// One way in which a process is reached. A [`Runtime`](crate::Runtime) has a list of them, and
/// takes all through the same steps: *start* before the first endpoint is served, *announce* for
/// each endpoint, *drain* when the runtime shuts down, and *stop* once all requests have ended.
///
/// One of your own joins the list with
/// [`RuntimeBuilder::listener`](crate::RuntimeBuilder::listener).
pub trait Listener: Send + Sync {
    /// Its name in errors, logs and the state of the process, such as `tcp`.
    fn name(&self) -> &str;

    /// Begins to take requests, and hands each of them to `handler`. The runtime calls it before
    /// it announces the first endpoint, again for the next endpoint if it failed, and not again
    /// once it has succeeded. It should end within seconds: a shutdown waits for it.
    ///
    /// # Errors
    /// Why nobody can be served this way. The endpoint is not served then.
    fn start<'a>(
        &'a self,
        config: &'a CheckedConfig,
        handler: Arc<dyn RequestHandler>,
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// The addresses at which other processes reach it, best first: they stand in the record of
    /// each instance. None before the start and after the stop, and none from a listener whose
    /// addresses differ by endpoint.
    fn addresses(&self) -> Vec<Address> {
        Vec::new()
    }

    /// An endpoint is about to be announced, and is served already. `None`, the default, says that
    /// the listener needs nothing for it.
    ///
    /// The future's errors are why the endpoint cannot be reached this way; it is not served then.
    fn announce<'a>(
        &'a self,
        declaration: &'a Declaration,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Announcement>>, Error>> {
        let _ = declaration;
        Box::pin(ready(Ok(None)))
    }

    /// How long the runtime goes on serving an endpoint that it has withdrawn from discovery, for
    /// callers that would not send a refused request to another instance. The longest of all
    /// listeners counts; the default is none.
    fn withdrawal_delay(&self) -> Duration {
        Duration::ZERO
    }

    /// True while requests can arrive. The default is true: a listener that started goes on.
    fn is_up(&self) -> bool {
        true
    }

    /// The runtime shuts down: refuses new requests from now on, as `Draining`. The default does
    /// nothing, since the handler of the runtime refuses them.
    fn drain(&self) {}

    /// Ends it. All requests have ended or been cut; what is left are the ends of their responses.
    /// Connections that still carry some have `grace` to write them. Says what it had to cut. The
    /// runtime calls it also where it never called [`start`](Self::start).
    fn stop(&self, grace: Duration) -> BoxFuture<'_, Shutdown>;
}

/// An endpoint, as a [`Listener`] learns of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Declaration {
    /// What is served.
    pub endpoint: EndpointName,
    /// Which instance of it.
    pub instance: InstanceId,
    /// Its items are annotated as Dynamo's peers have them.
    pub annotated: bool,
}

/// What a [`Listener`] keeps for one endpoint. Dropping it takes the endpoint back.
pub trait Announcement: Send + Sync {
    /// Addresses that reach this endpoint alone, beside those of the listener.
    fn addresses(&self) -> Vec<Address> {
        Vec::new()
    }

    /// The endpoint is drained: no request is in flight and new ones are refused. Takes it back
    /// without losing a request that is still on its way. The default does nothing, since the
    /// drop follows.
    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }
}
