//! The listener for requests that arrive on an acknowledging plane: the process dials their callers
//! back with the responses.

use std::{future::ready, sync::Arc, time::Duration};

#[cfg(feature = "dynamo")]
use sinew_compat_dynamo::DynamoCodec;
use sinew_ingress::Ingress;
use sinew_plane::{BoxFuture, Error, RequestHandler, ResponsePlaneClient, Shutdown};
use sinew_plane_call_home::TcpStreamClient;
use sinew_split::{
    DeclaredEndpoint, EndpointDeclaration, PeerCodec, SplitServer, SplitServerConfig,
};

use crate::{Announcement, CheckedConfig, Declaration, Listener};

/// How long a withdrawal takes to reach a Dynamo caller, with a margin: its watch of etcd or of a
/// folder reports it within milliseconds.
const PROPAGATION: Duration = Duration::from_millis(500);

/// The serving side for every acknowledging plane of the process. The planes pass their requests to
/// it, so it has no address of its own.
pub(crate) struct SplitListener {
    server: SplitServer,
    dial_back: Arc<TcpStreamClient>,
}

impl SplitListener {
    pub(crate) fn new(config: &CheckedConfig, ingress: Ingress) -> Self {
        let dial_back = Arc::new(TcpStreamClient::new(config.dial_back.clone()));
        let server = SplitServer::new(limits(config), dial_back.clone(), Arc::new(ingress));
        Self { server, dial_back }
    }

    /// The handler of the requests.
    #[cfg_attr(
        not(any(feature = "dynamo", feature = "nats")),
        expect(dead_code, reason = "such a build has no request plane")
    )]
    pub(crate) fn server(&self) -> &SplitServer {
        &self.server
    }

    /// The client that dials the callers.
    pub(crate) fn dial_back(&self) -> Arc<dyn ResponsePlaneClient> {
        self.dial_back.clone()
    }
}

impl Listener for SplitListener {
    fn name(&self) -> &str {
        "split"
    }

    fn start<'a>(
        &'a self,
        _: &'a CheckedConfig,
        _: Arc<dyn RequestHandler>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(ready(Ok(())))
    }

    fn announce<'a>(
        &'a self,
        declaration: &'a Declaration,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Announcement>>, Error>> {
        let (endpoint, instance) = (declaration.endpoint.clone(), declaration.instance);
        let mut declared = EndpointDeclaration::new(endpoint, instance);
        declared.annotated = declaration.annotated;
        let declared = Declared { _declared: self.server.declare(declared) };
        Box::pin(ready(Ok(Some(Box::new(declared) as _))))
    }

    /// Dynamo callers do not send a refused request to another instance.
    fn withdrawal_delay(&self) -> Duration {
        if self.server.has_foreign_callers() { PROPAGATION } else { Duration::ZERO }
    }

    fn drain(&self) {
        self.server.drain();
    }

    fn stop(&self, grace: Duration) -> BoxFuture<'_, Shutdown> {
        Box::pin(
            async move { self.server.shutdown(grace).await + self.dial_back.close(grace).await },
        )
    }
}

struct Declared {
    _declared: DeclaredEndpoint,
}

impl Announcement for Declared {}

/// The largest body and item that fit, with their wrapping, into a frame of the size that the
/// settings allow.
fn limits(config: &CheckedConfig) -> SplitServerConfig {
    const WRAPPING: usize = 4096;
    let max_item_bytes = config.dial_back.max_frame_bytes.saturating_sub(WRAPPING);
    let budget = Some(Arc::clone(config.budget()));
    SplitServerConfig { max_item_bytes, budget, peer: peer(), ..SplitServerConfig::default() }
}

/// The codec for callers that are not Sinew processes.
pub(crate) fn peer() -> Option<Arc<dyn PeerCodec>> {
    #[cfg(feature = "dynamo")]
    return Some(Arc::new(DynamoCodec));
    #[cfg(not(feature = "dynamo"))]
    None
}
