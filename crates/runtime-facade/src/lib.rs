//! A network layer for services that answer one request with a stream: inference workers,
//! agents, queries, builds, log tails.
//!
//! A caller names an endpoint; Sinew finds its instances, picks one, carries the request over
//! whichever transport both ends speak, and brings the response stream back, with flow control,
//! cancellation, deadlines and safe retries. This crate is the stable surface: settings in,
//! re-exports out. Everything underneath can be used by itself, crate by crate.
//!
//! ```
//! use futures_util::{StreamExt, stream};
//! use sinew::{DiscoverySource, Error, PushRouter, RouterMode, Runtime, SingleIn, engine_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Both ends in one process here; `DiscoverySource::File` or the default joins processes.
//! let runtime = Runtime::builder().discovery(DiscoverySource::Memory).build().await?;
//!
//! // A worker: one text in, its words out.
//! let split = engine_fn(|request: SingleIn<String>| async move {
//!     let words: Vec<_> = request.data().split(' ').map(|word| Ok(word.to_owned())).collect();
//!     Ok::<_, Error>(stream::iter(words))
//! });
//! let served = runtime.serve("text/words/split".parse()?).engine(split).await?;
//!
//! // A caller.
//! let client = runtime.client("text/words/split".parse()?);
//! let router = PushRouter::<String, String>::from_client(client, RouterMode::RoundRobin).await?;
//! let mut words = router.generate("streams that survive".to_owned()).await?;
//! while let Some(word) = words.next().await {
//!     println!("{}", word?);
//! }
//!
//! served.drain().await;
//! # Ok(())
//! # }
//! ```

mod byte_size;
mod config;
mod discovery;
mod discovery_source;
mod env;
#[cfg(feature = "nats")]
mod nats;
mod place;
mod planes;
mod request_plane;
mod runtime;
mod serve;

pub use crate::{
    byte_size::ByteSize,
    config::{CheckedConfig, Config, ConfigError},
    discovery_source::DiscoverySource,
    request_plane::RequestPlane,
    runtime::{Runtime, RuntimeBuilder, StartError},
    serve::{ServeBuilder, Served},
};
pub use sinew_codec::PayloadFormat;
pub use sinew_compat_dynamo::{Annotated, DynamoError, ITEMS_ANNOTATED, ITEMS_HEADER};
pub use sinew_discovery::{Change, Instance, InstanceKey, Snapshot, View};
pub use sinew_ingress::IncomingOwned;
pub use sinew_plane::{
    Address, AsyncEngine, BindPolicy, Budget, BudgetUse, CancelReason, Code, Context, EndpointName,
    Error, Executed, Fault, Headers, InstanceId, ManyOut, NameError, Outcome, PushEngine, Refused,
    ResponseSink, ResponseStream, Shutdown, SingleIn, StopKind, StreamId, Terminal, TransportId,
    TrySendError, Window, burst, engine_fn, push_engine_fn,
};
pub use sinew_router::{Client, Explanation, PushRouter, RetryConfig, RouterMode};
pub use sinew_transport_tcp::{
    TcpConfig, TcpRequestConfig, TcpStreamClientConfig, TcpStreamServerConfig,
};

/// The crates underneath, whole.
pub mod layers {
    pub use sinew_codec as codec;
    pub use sinew_compat_dynamo as compat_dynamo;
    pub use sinew_discovery as discovery;
    pub use sinew_ingress as ingress;
    pub use sinew_plane as plane;
    pub use sinew_registry as registry;
    pub use sinew_router as router;
    pub use sinew_telemetry as telemetry;
    pub use sinew_transport_memory as transport_memory;
    #[cfg(feature = "nats")]
    pub use sinew_transport_nats as transport_nats;
    pub use sinew_transport_tcp as transport_tcp;
}
