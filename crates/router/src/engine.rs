//! Makes a router an engine, so that a service can pass requests on to another service.

use serde_core::{Serialize, de::DeserializeOwned};
use sinew_plane::{AsyncEngine, BoxFuture, Error, ManyOut, SingleIn};

use crate::{PushRouter, TransportMoves};

/// The request is passed on in a child of its context: see [`SingleIn::into_child`].
impl<Req, Resp> AsyncEngine<Req, Resp> for PushRouter<Req, Resp>
where
    Req: Serialize + Send + Sync + 'static,
    Resp: DeserializeOwned + Send + 'static,
{
    fn generate(&self, request: SingleIn<Req>) -> BoxFuture<'_, Result<ManyOut<Resp>, Error>> {
        let request = request.into_child();
        Box::pin(async move { Ok(self.run(None, request, TransportMoves::default()).await?.0) })
    }
}
