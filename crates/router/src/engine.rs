//! Makes a router an engine, so that a service can pass requests on to another service.

use serde_core::{Serialize, de::DeserializeOwned};
use sinew_plane::{AsyncEngine, BoxFuture, Error, ManyOut, SingleIn};

use crate::PushRouter;

/// The request is passed on in a [child](sinew_plane::Context::child) of its context: headers,
/// deadline and limits are the same, and a cancel is passed on. Dropping the response before its
/// end cancels only the inner call.
impl<Req, Resp> AsyncEngine<Req, Resp> for PushRouter<Req, Resp>
where
    Req: Serialize + Send + Sync + 'static,
    Resp: DeserializeOwned + Send + 'static,
{
    fn generate(&self, request: SingleIn<Req>) -> BoxFuture<'_, Result<ManyOut<Resp>, Error>> {
        let (data, context) = request.into_parts();
        let request = SingleIn::with_context(data, context.child());
        Box::pin(async move { Ok(self.run(None, request).await?.0) })
    }
}
