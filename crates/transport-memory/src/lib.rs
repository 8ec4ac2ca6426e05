//! Exchanges inside one process: a request is a function call, its response a queue under one
//! lock.
//!
//! Bodies and items are passed on without a copy or an encoding. The contract is that of the
//! network transports: windows, cancels, deadlines, drain and shutdown. This crate has no wire
//! format, opens no socket and starts no task.
//!
//! ```
//! use futures_util::StreamExt;
//! use sinew_plane::{DuplexTransport, IncomingRequest, InstanceId, OutgoingRequest, ResponseSink};
//! use sinew_transport_memory::{MemoryHub, MemoryTransport};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let hub = MemoryHub::default();
//! let server = hub.serve("worker-1", |request: IncomingRequest<'_>, mut sink: ResponseSink| {
//!     // There is room for one item in every new stream, so this never waits.
//!     if sink.try_send(request.body).is_ok() {
//!         sink.complete();
//!     }
//! })?;
//!
//! let client = MemoryTransport::new(hub);
//! let request = OutgoingRequest::new("text/words/echo".parse()?, InstanceId(1), "hello".into());
//! let mut response = client.open(server.address(), request).await?;
//! assert_eq!(response.next().await.unwrap()?, "hello");
//! assert!(response.next().await.is_none());
//! # Ok(())
//! # }
//! ```

mod charge;
mod config;
mod exchange;
mod hub;
mod server;
mod transport;
mod window;

pub use crate::{
    config::{CheckedMemoryConfig, MemoryConfig},
    hub::{MemoryHub, ServeError},
    server::MemoryServer,
    transport::MemoryTransport,
};
