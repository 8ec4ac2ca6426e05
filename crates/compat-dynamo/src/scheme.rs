//! The address schemes of Dynamo workers.

use std::sync::Arc;

use sinew_plane::{LatencyClass, RequestPlaneClient, ResponsePlaneServer, TransportId};
use sinew_split::{SplitScheme, SplitTransport};

use crate::DynamoCodec;

/// The request plane over which a Dynamo worker is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DynamoScheme {
    /// `dynamo-tcp://HOST:PORT/PATH`: over Dynamo's TCP frames.
    Tcp,
    /// `dynamo-nats://SUBJECT`: over NATS.
    Nats,
}

impl DynamoScheme {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Nats];

    /// The text before `://`, which is also the name of the transport.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "dynamo-tcp",
            Self::Nats => "dynamo-nats",
        }
    }

    /// Makes a transport to the workers of this scheme. The arguments are those of
    /// [`SplitTransport::new`].
    pub fn split_transport(
        self,
        max_message_bytes: usize,
        requests: Arc<dyn RequestPlaneClient>,
        responses: Arc<dyn ResponsePlaneServer>,
    ) -> SplitTransport {
        let latency = match self {
            Self::Tcp => LatencyClass::Network,
            Self::Nats => LatencyClass::Brokered,
        };
        let scheme = SplitScheme::new(self.as_str(), latency);
        SplitTransport::new(scheme, max_message_bytes, requests, responses)
            .with_peer(Arc::new(DynamoCodec))
    }

    /// The scheme of a caller whose request came over a plane.
    pub(crate) fn of_plane(plane: &TransportId) -> Self {
        if plane.as_str() == "nats" { Self::Nats } else { Self::Tcp }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_has_the_scheme_of_the_plane_that_its_request_came_over() {
        for (plane, scheme) in
            [("tcp", "dynamo-tcp"), ("unix", "dynamo-tcp"), ("nats", "dynamo-nats")]
        {
            assert_eq!(DynamoScheme::of_plane(&TransportId::new(plane)).as_str(), scheme);
        }
    }
}
