//! The tokio driver of the mux: it runs the state machines of `sinew-mux` over any
//! [`Carrier`](sinew_net::Carrier).
//!
//! Each connection has one reader and one writer task and none per stream. A [`ConnectionSet`] owns
//! the connections of one client or server and their tasks; a [`Dialer`] keeps one connection to an
//! address. The two ends of a transport use these: [`MuxTransport`] calls over the carriers that a
//! [`Connector`](sinew_net::Connector) makes, and [`MuxProtocol`] serves a port. This crate depends
//! on no kind of carrier, no discovery and no routing.
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
mod coming_back;
mod config;
mod connection;
mod connection_set;
mod dial;
mod input;
mod lost_streams;
mod moving;
mod mux_protocol;
mod open;
mod reach;
mod read;
mod resume;
mod transport;
mod write;

pub use crate::{
    config::{CheckedDriverConfig, DriverConfig},
    connection::{Call, Connection, Tasks},
    connection_set::ConnectionSet,
    dial::Dialer,
    lost_streams::LostStreams,
    mux_protocol::MuxProtocol,
    transport::MuxTransport,
};
pub use sinew_mux::{MuxConfig, Token};
