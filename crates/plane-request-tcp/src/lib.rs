//! Dynamo's TCP request plane: a request goes out in one frame, an acknowledgement comes back, and
//! the worker dials the caller back with the response on another plane.
//!
//! A [`TcpRequestServer`] is a protocol of a port, beside the mux or alone. A [`TcpRequestClient`]
//! sends requests to workers over a few shared connections. The layers above decide what a request
//! means and where its response goes. The bytes are those of NVIDIA Dynamo 1.6, see `sinew-codec`
//! and `sinew-dynamo-wire`.
//!
//! On a connection the acknowledgements arrive in the order of the requests and carry no number. So
//! a client may send many requests without waiting, and closes a connection if one of them is not
//! acknowledged in time.
//!
//! ```
//! use std::sync::Arc;
//! use sinew_net::{Detect, Protocol};
//! use sinew_plane::{Error, PlaneRequest, RequestPlaneHandler};
//! use sinew_plane_request_tcp::{TcpRequestServer, TcpRequestServerConfig};
//!
//! /// Takes every request.
//! struct Taker;
//!
//! impl RequestPlaneHandler for Taker {
//!     fn accept(&self, request: PlaneRequest<'_>) -> Result<(), Error> {
//!         println!("{} bytes for {}", request.payload.len(), request.target);
//!         Ok(())
//!     }
//! }
//!
//! let config = TcpRequestServerConfig::default().checked()?;
//! let server = TcpRequestServer::new(config, Arc::new(Taker));
//! // A frame begins with the length of its path, in 16 bits.
//! assert_eq!(server.detect(b"\x00\x20"), Detect::Yes);
//! assert_eq!(server.detect(b"GET /"), Detect::No);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod client;
mod config;
mod connection;
mod outbox;
mod payload;
mod server;
mod target;

pub use crate::{
    client::TcpRequestClient,
    config::{
        CheckedTcpRequestConfig, CheckedTcpRequestServerConfig, TcpRequestConfig,
        TcpRequestServerConfig,
    },
    server::TcpRequestServer,
};
