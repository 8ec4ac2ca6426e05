//! Exchanges over TCP and Unix domain sockets: many streams on each connection.
//!
//! A server listens on a TCP port and, when given a folder, on a Unix domain socket beside it,
//! so that callers on the same host take the shorter way. A client keeps one connection per
//! address, shared by all requests. Each connection has one reader and one writer task and none
//! per stream; what the bytes mean is decided by the machines of `sinew-mux`. This crate knows
//! no discovery and no routing.
//!
//! The request plane of Dynamo 1.6 shares the port: the first bytes of a connection tell what the
//! peer speaks. [`TcpServer::with_request_plane`] serves it, [`TcpRequestClient`] calls it; what a
//! request means and where its response goes is decided above.
//!
//! Beside this, a response can come on its own: a [`TcpStreamServer`] at the caller expects it,
//! and the worker's [`TcpStreamClient`] dials back with it, in the bytes of NVIDIA Dynamo 1.6 or,
//! between Sinew's own ends, over a few mux connections that many responses share.
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

mod call;
mod call_home;
mod client;
mod config;
mod connection;
mod connections;
mod keeper;
mod mux_protocol;
mod open;
mod read;
mod receive;
mod request_plane;
mod response;
mod serve;
mod server;
mod stream_ids;
mod target;
mod write;

pub use crate::{
    call_home::{
        CheckedTcpStreamClientConfig, CheckedTcpStreamServerConfig, Network, PoolUse,
        TcpStreamClient, TcpStreamClientConfig, TcpStreamServer, TcpStreamServerConfig,
    },
    client::TcpTransport,
    config::{CheckedTcpConfig, TcpConfig},
    request_plane::{CheckedTcpRequestConfig, TcpRequestClient, TcpRequestConfig},
    server::TcpServer,
};
pub use sinew_net::{Advertised, ListenHost, TCP, UNIX};
