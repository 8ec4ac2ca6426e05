//! Exchanges over TCP and Unix domain sockets: many streams on each connection.
//!
//! A server listens on a TCP port and, if its settings name a folder, also on a Unix domain socket,
//! which is faster for callers on the same host. A client keeps one connection per address, which
//! all requests share. `sinew-mux-driver` runs the protocol on them. This crate has no discovery
//! and no routing.
//!
//! [`TcpServer::with_protocol`] adds other protocols to the port, which are detected by the first
//! bytes of a connection: Dynamo's request frames of `sinew-plane-request-tcp`, or a program's own
//! protocol.
//!
//! ```
//! use std::sync::Arc;
//! use bytes::Bytes;
//! use futures_util::StreamExt;
//! use sinew_plane::{
//!     DuplexServer, DuplexTransport, IncomingRequest, InstanceId, OutgoingRequest, ResponseSink,
//! };
//! use sinew_transport_tcp::{TcpConfig, TcpServer, TcpTransport};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let echo = |request: IncomingRequest<'_>, mut sink: ResponseSink| {
//!     let body = request.body.clone();
//!     tokio::spawn(async move {
//!         if sink.send(body).await.is_ok() {
//!             sink.complete();
//!         }
//!     });
//! };
//! let config = TcpConfig::default().checked()?;
//! let server = TcpServer::bind(config.clone(), "127.0.0.1:0".parse()?, Arc::new(echo))?;
//!
//! let transport = TcpTransport::new(config);
//! let request = OutgoingRequest::new("a/b/echo".parse()?, InstanceId(0), Bytes::from("hi"));
//! let mut response = transport.open(&server.addresses()[0], request).await?;
//! assert_eq!(response.next().await.unwrap()?, "hi");
//! assert!(response.next().await.is_none()); // complete
//! # Ok(())
//! # }
//! ```

mod client;
mod config;
mod server;

pub use crate::{
    client::TcpTransport,
    config::{CheckedTcpConfig, TcpConfig},
    server::TcpServer,
};
pub use sinew_mux_driver::DriverConfig;
pub use sinew_net::{Advertised, ListenConfig, TCP, UNIX};
