//! The acknowledging request plane over NATS.
//!
//! A request goes to the subject of one instance, and its acknowledgement comes back over NATS; the
//! response stream comes on another plane. Subjects, headers and answers are those of NVIDIA Dynamo
//! 1.6, so the other end can be one of its workers or callers. This crate has no discovery, no
//! routing and no response plane, and does not read the payload.
//!
//! ```no_run
//! use std::sync::Arc;
//! use bytes::Bytes;
//! use sinew_plane::{
//!     Error, Headers, InstanceId, PlaneRequest, RequestPlaneClient, RequestPlaneHandler,
//! };
//! use sinew_transport_nats::{NatsConfig, NatsConnection, NatsRequestClient, NatsServer};
//!
//! struct AcceptAll;
//! impl RequestPlaneHandler for AcceptAll {
//!     fn accept(&self, request: PlaneRequest<'_>) -> Result<(), Error> {
//!         println!("{} bytes for {}", request.payload.len(), request.target);
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let connection = NatsConnection::connect(NatsConfig::default().checked()?).await?;
//! let server = NatsServer::new(connection.clone(), Arc::new(AcceptAll));
//! let endpoint = server.serve(&"ns1/backend/generate".parse()?, InstanceId(0x1f)).await?;
//! assert_eq!(endpoint.subject(), "ns1_backend.generate-1f");
//!
//! let client = NatsRequestClient::new(connection);
//! client.send_request(endpoint.subject().to_owned(), Bytes::from("hi"), Headers::new()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! A caller without discovery can leave the choice of an instance to NATS, if workers use
//! [`NatsServer::serve_shared`]. The feature `jetstream` adds a work queue on disk, `NatsQueue`,
//! which is not part of the plane and shares only its connection.

mod charge;
mod client;
mod config;
mod connection;
mod connection_state;
mod driver;
mod endpoint;
mod error;
mod headers;
pub mod metrics;
mod options;
mod pending;
#[cfg(feature = "jetstream")]
mod queue;
mod registration;
mod server;
mod server_address;
mod subject;

#[cfg(feature = "jetstream")]
pub use crate::queue::{
    CheckedQueueConfig, Enqueued, NatsQueue, QueueConfig, QueueItem, QueueStatus,
};
pub use crate::{
    client::NatsRequestClient,
    config::{CheckedNatsConfig, NatsAuth, NatsConfig, NatsTls},
    connection::{NatsConnection, NatsStats},
    endpoint::NATS,
    error::{NatsConfigError, PayloadTooLarge},
    server::{NatsEndpoint, NatsServer},
    subject::shared_subject,
};
