//! Calls whose requests go out in Dynamo's TCP frames.

use std::{sync::Arc, time::Duration};

use sinew_compat_dynamo::DynamoScheme;
use sinew_plane::{BoxFuture, DuplexTransport, RequestPlaneClient, Shutdown, TransportId};
use sinew_plane_request_tcp::TcpRequestClient;
use sinew_split::{SplitScheme, SplitTransport};

use crate::{
    CheckedConfig,
    assembly::planes::{AcknowledgingPlane, Pair},
};

/// The calling side of Dynamo's request plane over TCP.
pub(crate) struct TcpFrames(Arc<TcpRequestClient>);

impl TcpFrames {
    pub(crate) fn new(config: &CheckedConfig) -> Self {
        Self(Arc::new(TcpRequestClient::new(config.frames.clone())))
    }
}

impl AcknowledgingPlane for TcpFrames {
    fn id(&self) -> TransportId {
        TransportId::from_static("tcp-frames")
    }

    fn client(&self) -> Arc<dyn RequestPlaneClient> {
        self.0.clone()
    }

    fn transports(&self, pair: Pair) -> Vec<Arc<dyn DuplexTransport>> {
        let Pair { max_message_bytes: limit, requests, responses } = pair;
        let sinew =
            SplitTransport::new(SplitScheme::TCP, limit, requests.clone(), responses.clone());
        let dynamo = DynamoScheme::Tcp.split_transport(limit, requests, responses);
        vec![Arc::new(sinew), Arc::new(dynamo)]
    }

    fn close(&self, _: Duration) -> BoxFuture<'_, Shutdown> {
        Box::pin(async move {
            self.0.close().await;
            Shutdown::default()
        })
    }
}
