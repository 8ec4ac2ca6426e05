//! Exchanges on two planes: a request is acknowledged on one plane, and the worker dials the caller
//! back on another with the response.
//!
//! [`SplitTransport`] makes a [`DuplexTransport`](sinew_plane::DuplexTransport) of the two planes,
//! for a router. [`SplitServer`] receives requests on one plane and answers on the other, for an
//! ingress. Router and ingress use them like any other transport.
//!
//! The planes are passed in as trait objects: this crate has no socket, no broker and no discovery,
//! and chooses no instance. `sinew-dynamo-wire` has the format of the messages around a payload.
//! Between two Sinew processes the control message has a `sinew` object, and items are not wrapped.
//! A [`PeerCodec`] handles what is different for other peers.
//!
//! Both sides, over planes that are passed in:
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
