//! What an endpoint does with a request.

use std::sync::Arc;

use sinew_plane::ResponseSink;
use sinew_registry::LocalEndpoint;

use crate::instance::{Admitted, Instance};

/// A handler of any kind: made from a [`PushHandler`](crate::PushHandler), a
/// [`PushFace`](crate::PushFace) or a [`RawHandler`](crate::RawHandler) with `into()`.
#[derive(Clone)]
pub struct Handler(pub(crate) Arc<dyn AdmittedHandler>);

/// Gets admitted requests. Must return at once: it runs in a transport's reader.
pub(crate) trait AdmittedHandler: Send + Sync {
    fn dispatch(&self, request: Admitted<'_>, sink: ResponseSink);

    /// Adds the typed engine, if there is one, to what callers in this process find.
    fn localize(&self, _instance: &Arc<Instance>, local: LocalEndpoint) -> LocalEndpoint {
        local
    }
}

impl std::fmt::Debug for Handler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handler")
    }
}
