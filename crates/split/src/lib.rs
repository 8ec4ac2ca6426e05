//! One exchange on two planes: a request is acknowledged on one, and its response dials back on
//! another.
//!
//! [`SplitTransport`] makes a [`DuplexTransport`](sinew_plane::DuplexTransport) of the two, for a
//! router; [`SplitServer`] takes requests off the one and answers on the other, for an ingress.
//! Neither the router nor the ingress sees a difference to the mux.
//!
//! The planes come from elsewhere, as trait objects: the crate knows no socket, no broker and no
//! discovery, and chooses no instance. What is said around a payload is `sinew-dynamo-wire`'s.
//! Between two ends of Sinew the control message has a `sinew` object, and items travel bare. What
//! is different towards another peer is behind [`PeerCodec`].
//!
//! Both sides, over planes that are given to them:
//! ```
//! use std::sync::Arc;
//!
//! use sinew_plane::{RequestHandler, RequestPlaneClient, ResponsePlaneClient, ResponsePlaneServer};
//! use sinew_split::{SplitScheme, SplitServer, SplitServerConfig, SplitTransport};
//!
//! fn caller(
//!     requests: Arc<dyn RequestPlaneClient>,
//!     responses: Arc<dyn ResponsePlaneServer>,
//! ) -> SplitTransport {
//!     SplitTransport::new(SplitScheme::TCP, 1 << 20, requests, responses)
//! }
//!
//! /// Hand it to the servers of the planes that requests come over.
//! fn worker(
//!     responses: Arc<dyn ResponsePlaneClient>,
//!     handler: Arc<dyn RequestHandler>,
//! ) -> SplitServer {
//!     SplitServer::new(SplitServerConfig::default(), responses, handler)
//! }
//! ```

mod peer_codec;
mod scheme;
mod server;
mod transport;

pub use crate::{
    peer_codec::{Content, Frame, ItemFormat, PeerCodec, PeerHeaders, PeerResponse},
    scheme::SplitScheme,
    server::{
        BidirectionalEndpoint, BidirectionalHandler, DIAL_BACK_FAILURES, DeclaredEndpoint,
        EndpointDeclaration, LateFrames, SplitServer, SplitServerConfig,
    },
    transport::SplitTransport,
};
