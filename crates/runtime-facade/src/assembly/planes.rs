//! Calls that take two planes: the request is acknowledged on one, and its response dials back on
//! another.

use std::{sync::Arc, time::Duration};

use sinew_plane::{
    BoxFuture, DuplexTransport, PlaneType, RequestPlaneClient, ResponsePlaneClient,
    ResponsePlaneServer, Shutdown, TransportCapabilities, TransportId,
};
use sinew_registry::{Exchange, TransportRegistration, TransportRegistry};

use crate::{CheckedConfig, StartError, TransportFactory, assembly::call_home::CallHome};

/// The response plane that workers dial.
const CALL_HOME: TransportId = TransportId::from_static("call-home");

/// A request plane that acknowledges each request.
pub(crate) trait AcknowledgingPlane: Send + Sync {
    /// Its name among the planes. The transports that it makes have names of their own.
    fn id(&self) -> TransportId;

    /// The client that sends the requests.
    #[cfg_attr(
        not(any(feature = "dynamo", feature = "nats")),
        expect(dead_code, reason = "such a build has no request plane")
    )]
    fn client(&self) -> Arc<dyn RequestPlaneClient>;

    /// The transports whose requests go over this plane: to Sinew workers and, in a build with the
    /// feature `dynamo`, to Dynamo workers.
    fn transports(&self, pair: Pair) -> Vec<Arc<dyn DuplexTransport>>;

    /// Closes the plane.
    fn close(&self, grace: Duration) -> BoxFuture<'_, Shutdown>;
}

/// A request plane and the response plane that it is used with.
#[cfg_attr(
    not(any(feature = "dynamo", feature = "nats")),
    expect(dead_code, reason = "such a build has no request plane")
)]
pub(crate) struct Pair {
    /// Largest request body and largest item, in bytes.
    pub(crate) max_message_bytes: usize,
    pub(crate) requests: Arc<dyn RequestPlaneClient>,
    pub(crate) responses: Arc<dyn ResponsePlaneServer>,
}

/// The planes, and the transports that each pair of them makes.
pub(crate) struct Planes {
    requests: Vec<Arc<dyn AcknowledgingPlane>>,
    call_home: Arc<CallHome>,
    dial_back: Arc<dyn ResponsePlaneClient>,
    registry: Arc<TransportRegistry>,
    max_message_bytes: usize,
}

impl Planes {
    pub(crate) fn new(
        config: &CheckedConfig,
        call_home: Arc<CallHome>,
        dial_back: Arc<dyn ResponsePlaneClient>,
        registry: Arc<TransportRegistry>,
    ) -> Self {
        let max_message_bytes = config.tcp().driver.mux.max_message_bytes;
        Self { requests: Vec::new(), call_home, dial_back, registry, max_message_bytes }
    }

    /// Adds a request plane.
    #[cfg(any(feature = "dynamo", feature = "nats"))]
    pub(crate) async fn add(
        &mut self,
        plane: Arc<dyn AcknowledgingPlane>,
    ) -> Result<(), StartError> {
        let registration =
            TransportRegistration::new(plane.id(), PlaneType::Request, self.capabilities());
        self.registry.register_request_transport(registration, plane.client(), None).await?;
        self.requests.push(plane);
        Ok(())
    }

    /// Registers the response plane, as the last step.
    pub(crate) async fn registered(self) -> Result<Self, StartError> {
        let registration =
            TransportRegistration::new(CALL_HOME, PlaneType::Response, self.capabilities());
        let (client, server) = (Arc::clone(&self.dial_back), self.call_home.clone());
        self.registry.register_response_transport(registration, client, Some(server)).await?;
        Ok(self)
    }

    fn capabilities(&self) -> TransportCapabilities {
        TransportCapabilities::streaming(self.max_message_bytes)
    }

    fn pair(&self, requests: &TransportId, responses: &TransportId) -> Option<Pair> {
        let max_message_bytes = self.max_message_bytes;
        let requests = self.registry.request_client(requests)?;
        let responses = self.registry.response_server(responses)?;
        Some(Pair { max_message_bytes, requests, responses })
    }
}

impl TransportFactory for Planes {
    fn transports(&self, _: &CheckedConfig) -> Result<Vec<Arc<dyn DuplexTransport>>, StartError> {
        let mut all = Vec::new();
        for one in self.registry.combinations() {
            let plane = self.requests.iter().find(|plane| plane.id() == one.request);
            if one.exchange == Exchange::Split
                && let Some((plane, pair)) = plane.zip(self.pair(&one.request, &one.response))
            {
                all.append(&mut plane.transports(pair));
            }
        }
        Ok(all)
    }

    fn close(&self, grace: Duration) -> BoxFuture<'_, Shutdown> {
        Box::pin(async move {
            let mut cut = self.call_home.close(grace).await;
            for plane in &self.requests {
                cut = cut + plane.close(grace).await;
            }
            cut
        })
    }
}
