//! The one tokio driver of the mux: what the machines of `sinew-mux` decide, it does over a
//! [`Carrier`](sinew_net::Carrier), whichever that is.
//!
//! Each connection has one reader and one writer task and none per stream. A [`ConnectionSet`] owns
//! the connections of one client or server and their tasks; a [`Dialer`] keeps one connection to an
//! address. Upon these stand the two ends that a transport is made of: [`MuxTransport`], which calls
//! over whatever a [`Connector`](sinew_net::Connector) makes, and [`MuxProtocol`], which serves a
//! port. This crate knows no kind of carrier, no discovery and no routing.
//!
//! ```
//! use std::sync::Arc;
//! use sinew_mux_driver::{DriverConfig, MuxProtocol, MuxTransport};
//! use sinew_net::TCP;
//! use sinew_plane::{IncomingRequest, ResponseSink, TransportCapabilities};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = DriverConfig::default().checked()?;
//! let handler = Arc::new(|_: IncomingRequest<'_>, sink: ResponseSink| sink.complete());
//! // One of the protocols of a `sinew_net::Port`.
//! let serving = MuxProtocol::new(config.clone(), handler);
//! // A transport of the registry.
//! let connector = Arc::new(config.socket_connector());
//! let offers = TransportCapabilities::streaming(config.mux.max_message_bytes);
//! let calling = MuxTransport::new(TCP, offers, connector, config);
//! assert_eq!(calling.connections(), serving.connections().count());
//! # Ok(())
//! # }
//! ```

mod budget_keeper;
mod config;
mod connection;
mod connection_set;
mod dial;
mod input;
mod mux_protocol;
mod open;
mod read;
mod reattach;
mod transport;
mod write;

pub use crate::{
    config::{CheckedDriverConfig, DriverConfig},
    connection::{Call, Connection, Tasks},
    connection_set::ConnectionSet,
    dial::Dialer,
    mux_protocol::MuxProtocol,
    transport::MuxTransport,
};
pub use sinew_mux::{MuxConfig, Token};
