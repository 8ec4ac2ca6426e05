//! The mux as one of the protocols of a port.

use std::sync::Arc;

use sinew_mux::PREFACE;
use sinew_net::{Accepted, Detect, Protocol};
use sinew_plane::{BoxFuture, Code, Error, RequestHandler};
use tokio_util::sync::CancellationToken;

use crate::{
    CheckedTcpConfig,
    connections::{Arrival, Connections},
};

/// Serves the connections of a port that speak the mux, see `docs/protocol.md`.
pub(crate) struct MuxProtocol {
    pub(crate) config: Arc<CheckedTcpConfig>,
    pub(crate) handler: Arc<dyn RequestHandler>,
    pub(crate) connections: Arc<Connections>,
    /// No new connections are taken.
    pub(crate) draining: CancellationToken,
}

impl Protocol for MuxProtocol {
    fn detect(&self, first: &[u8]) -> Detect {
        if first[0] == PREFACE[0] { Detect::Yes } else { Detect::No }
    }

    fn serve(self: Arc<Self>, connection: Accepted) -> BoxFuture<'static, ()> {
        Box::pin(async move { self.take(connection).await })
    }
}

impl MuxProtocol {
    /// Starts the tasks of a connection, and waits for its hello.
    async fn take(&self, accepted: Accepted) {
        let Accepted { carrier, first, place, until, unclassified } = accepted;
        // It is counted among the mux connections from here on.
        drop(unclassified);
        let (config, handler) = (Arc::clone(&self.config), Arc::clone(&self.handler));
        let arrival = Arrival { first, place: Some(place) };
        let connection = self.connections.start_accepted(arrival, carrier, config, Some(handler));
        if self.draining.is_cancelled() {
            // The drain has told the connections that it found, and this was not among them.
            connection.close(&Error::draining("the server is shutting down"));
            return;
        }
        if tokio::time::timeout_at(until, connection.established()).await.is_err() {
            let error = Error::new(Code::ConnectTimedOut, "the peer did not say hello in time");
            connection.close(&error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TcpConfig, request_plane::RequestPlane};
    use sinew_plane::{IncomingRequest, PlaneRequest, RequestPlaneHandler, ResponseSink};
    use sinew_telemetry::Side;

    struct Nobody;

    impl RequestPlaneHandler for Nobody {
        fn accept(&self, _request: PlaneRequest<'_>) -> Result<(), Error> {
            Ok(())
        }
    }

    fn protocols() -> (MuxProtocol, RequestPlane) {
        let config = Arc::new(TcpConfig::default().checked().unwrap());
        let (connections, token) = (Connections::new(Side::Serving), CancellationToken::new());
        let frames = RequestPlane::new(
            Arc::new(Nobody),
            Arc::clone(&config),
            token.clone(),
            token.clone(),
            Arc::clone(&connections.meters),
        );
        let handler = Arc::new(|_: IncomingRequest<'_>, _: ResponseSink| ());
        (MuxProtocol { config, handler, connections, draining: token }, frames)
    }

    #[test]
    fn one_or_two_bytes_tell_the_protocols_apart() {
        let (mux, frames) = protocols();
        for (bytes, verdicts) in [
            (&b"\0"[..], (Detect::No, Detect::More)),
            (b"\x16", (Detect::No, Detect::No)),
            (b"\xffSNEW", (Detect::Yes, Detect::No)),
            // Dynamo's call-home, whose header length has 64 bits.
            (b"\0\0\0\0\0\0\0\x40", (Detect::No, Detect::No)),
            (b"\x00\x20", (Detect::No, Detect::Yes)),
            (b"\x04\x00", (Detect::No, Detect::Yes)),
            (b"GET / HTTP/1.1", (Detect::No, Detect::No)),
            (b"\x05\x00", (Detect::No, Detect::No)),
            (b"{\"a\"", (Detect::No, Detect::No)),
        ] {
            assert_eq!((mux.detect(bytes), frames.detect(bytes)), verdicts, "{bytes:?}");
        }
    }

    #[test]
    fn the_verdict_does_not_change_with_more_bytes() {
        let (mux, frames) = protocols();
        for first in 0..=u16::MAX {
            let bytes = first.to_be_bytes();
            let protocols: [&dyn Protocol; 2] = [&mux, &frames];
            for protocol in protocols {
                let verdict = protocol.detect(&bytes);
                assert_ne!(verdict, Detect::More, "{first:04x}");
                let early = protocol.detect(&bytes[..1]);
                assert!(early == Detect::More || early == verdict, "{first:04x}");
            }
            assert!(mux.detect(&bytes) == Detect::No || frames.detect(&bytes) == Detect::No);
            if (1..=1024).contains(&first) {
                assert_eq!(frames.detect(&bytes), Detect::Yes, "{first:04x}");
            }
        }
    }
}
