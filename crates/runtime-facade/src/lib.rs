//! A network layer for services that answer one request with a stream: inference workers,
//! agents, queries, builds, log tails.
//!
//! A caller names an endpoint; Sinew finds its instances, picks one, carries the request over
//! whichever transport both ends speak, and brings the response stream back, with flow control,
//! cancellation, deadlines and safe retries. This crate is the stable API. It reads the settings,
//! assembles the layers and re-exports their public types. Each crate below it can also be used by
//! itself.
//!
//! ```
//! use futures_util::{Stream, StreamExt, stream};
//! use sinew::{DiscoverySource, Endpoint, HandlerResult, Runtime};
//!
//! // What the worker and its callers share.
//! const SPLIT: Endpoint<String, String> = Endpoint::new("text/words/split");
//!
//! // One text in, its words out; `?` takes errors of any kind.
//! async fn split(text: String) -> HandlerResult<impl Stream<Item = HandlerResult<String>>> {
//!     let words: Vec<_> = text.split(' ').map(|word| Ok(word.to_owned())).collect();
//!     Ok(stream::iter(words))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Both ends in one process here; `DiscoverySource::File` or the default joins processes.
//! let runtime = Runtime::builder().discovery(DiscoverySource::Memory).build().await?;
//! let served = runtime.serve(&SPLIT, split).await?;
//!
//! let mut words = runtime.router(&SPLIT).call("streams that end once").await?;
//! while let Some(word) = words.next().await {
//!     println!("{}", word?);
//! }
//!
//! served.drain().await;
//! # Ok(())
//! # }
//! ```
//!
//! # How methods are named
//!
//! A method of a builder is named by the setting alone: `discovery`, `weight`, `retry`, `timeout`.
//! Builders exist for a runtime, a served endpoint, a router and a call; `build` or `.await`
//! completes one. A method whose name begins with `with_`, such as [`PushRouter::with_retry`],
//! returns a finished value with one setting changed.

mod assembly;
mod byte_size;
mod call;
mod config;
mod config_error;
mod config_overlaps;
pub mod control;
mod discovery_source;
mod endpoint;
mod env;
mod error;
mod features;
mod frame_checks;
mod handle;
mod handler_error;
mod health;
mod memories;
mod request_plane;
mod response;
mod router;
mod runtime;
mod runtime_dir;
mod serve;
mod servers;

pub use crate::{
    assembly::{Announcement, Declaration, DiscoveryFactory, Listener, TransportFactory},
    byte_size::ByteSize,
    call::Call,
    config::{CheckedConfig, Config},
    config_error::ConfigError,
    discovery_source::DiscoverySource,
    endpoint::Endpoint,
    error::{ServeError, StartError},
    frame_checks::FrameChecks,
    handle::{Answer, Function, Handle, Pushed, kind as handler_kind},
    handler_error::{BoxError, Failure, HandlerError, HandlerResult},
    health::Health,
    request_plane::RequestPlane,
    response::Response,
    router::Router,
    runtime::{Runtime, RuntimeBuilder, WeakRuntime},
    serve::{ServeBuilder, Served, Typed},
};
pub use sinew_codec::PayloadFormat;
pub use sinew_discovery::{
    Change, FileConfig, FolderRules, Instance, InstanceKey, Owners, PlanePolicy, PolicyView,
    RollBack, Snapshot, View,
};
pub use sinew_ingress::{
    AdmittedHandler, AdmittedRequest, Drained, Handler, HandlerLayer, IncomingOwned, Retain,
    TrySendValueError, ValueRefused, ValueSink, handler_layer_fn,
};
/// # Examples
/// A request with a timeout of two seconds, which the caller cancels earlier:
/// ```
/// use std::time::Duration;
///
/// use sinew::{CancelReason, Context, SingleIn};
///
/// let context = Context::builder().timeout(Duration::from_secs(2)).build();
/// let request = SingleIn::with_context("one two three".to_owned(), context.clone());
/// assert!(request.context().remaining().is_some_and(|left| left <= Duration::from_secs(2)));
///
/// // Reaches the handler at once, wherever it runs: it sees the same on its own context.
/// context.kill();
/// assert!(request.context().is_killed());
/// assert_eq!(context.reason(), Some(CancelReason::Caller));
/// ```
#[doc(inline)]
pub use sinew_plane::Context;
/// # Examples
/// Headers and a timeout for one request, and how its handler reads them:
/// ```
/// use std::time::Duration;
///
/// use sinew::{Context, DiscoverySource, Endpoint, Error, Runtime};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let runtime = Runtime::builder().discovery(DiscoverySource::Memory).build().await?;
/// const GREET: Endpoint<String, String> = Endpoint::new("text/words/greet");
/// let greet = |text: String, context: Context| async move {
///     let tenant = context.headers().get("tenant").unwrap_or("nobody").to_owned();
///     Ok::<_, Error>(format!("{text} from {tenant}"))
/// };
/// let served = runtime.serve(&GREET, greet).await?;
///
/// let router = runtime.router(&GREET);
/// let call = router.call("hello").header("tenant", "red").timeout(Duration::from_secs(2));
/// assert_eq!(call.unary().await?, "hello from red");
/// # served.drain().await;
/// # Ok(())
/// # }
/// ```
#[doc(inline)]
pub use sinew_plane::Headers;
/// # Examples
/// A batch loop takes the sinks and pushes items into them. If its queue is full it refuses the
/// request, and the router sends it to another instance:
/// ```
/// use bytes::Bytes;
/// use futures_util::StreamExt;
/// use sinew::{Code, DiscoverySource, Error, PushRouter, RouterMode, Runtime, push_engine_fn};
/// use tokio::sync::mpsc;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let runtime = Runtime::builder().discovery(DiscoverySource::Memory).build().await?;
/// let (submit, mut waiting) = mpsc::channel(64);
/// let accept = push_engine_fn(move |request, sink| {
///     submit.try_send((request.into_parts().0, sink)).map_err(|full| {
///         let error = Error::new(Code::Overloaded, "the batch is full");
///         Box::new((error, full.into_inner().1))
///     })
/// });
/// let engine = tokio::spawn(async move {
///     while let Some((prompt, mut sink)) = waiting.recv().await {
///         for word in [prompt, Bytes::from(" and more")] {
///             if sink.send(word).await.is_err() {
///                 break; // the caller has gone
///             }
///         }
///         sink.complete();
///     }
/// });
/// let served = runtime.serve_named("text/words/more".parse()?).push_engine(accept).await?;
///
/// let client = runtime.client("text/words/more".parse()?);
/// let router = PushRouter::<Bytes, Bytes>::from_client(client, RouterMode::RoundRobin).await?;
/// let words: Vec<_> = router.generate(Bytes::from("this")).await?.collect().await;
/// assert_eq!(words.into_iter().collect::<Result<Vec<_>, _>>()?.concat(), b"this and more");
/// # served.drain().await;
/// # drop((served, runtime));
/// # engine.abort();
/// # Ok(())
/// # }
/// ```
#[doc(inline)]
pub use sinew_plane::push_engine_fn;
pub use sinew_plane::{
    Address, AppCode, AsyncEngine, BindPolicy, BodyEvent, BodyEvents, Budget, BudgetUse,
    CallLimits, CancelReason, Checkpoint, Code, ConnectionEvent, ConnectionEvents, ContextBuilder,
    Continuation, Continued, EndpointName, EngineLayer, Error, Executed, Fault, HeadersError,
    InstanceId, LayeredEngine, ManyOut, Migrated, MigrationCause, NameError, OnConnectionEvent,
    Origin, Outcome, PeerFacts, PeerIdentity, ProcessId, PushEngine, Refused, ResponseSink,
    ResponseStream, ResumeReason, ResumeToken, ResumeTokenError, Shutdown, SingleIn, StopKind,
    StreamId, Terminal, TransportId, TrySendError, Window, burst, engine_fn, layer_fn,
};
#[cfg(feature = "tower")]
pub use sinew_plane::{EngineService, ServiceEngine};
pub use sinew_plane_call_home::{Network, TcpStreamClientConfig, TcpStreamServerConfig};
/// # Examples
/// ```
/// use futures_util::{StreamExt, stream};
/// use sinew::{
///     DiscoverySource, Error, InstanceId, PushRouter, RouterMode, Runtime, SingleIn, engine_fn,
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let runtime = Runtime::builder().discovery(DiscoverySource::Memory).build().await?;
/// # let count = engine_fn(|request: SingleIn<u32>| async move {
/// #     Ok::<_, Error>(stream::iter((0..*request.data()).map(Ok)))
/// # });
/// # let builder = runtime.serve_named("demo/numbers/count".parse()?).instance(InstanceId(7));
/// # let served = builder.engine(count).await?;
/// let client = runtime.client("demo/numbers/count".parse()?);
/// client.wait_for_instances(std::time::Duration::from_secs(5)).await?;
/// let router = PushRouter::<u32, u32>::from_client(client, RouterMode::RoundRobin).await?;
///
/// let mut numbers = router.generate(3).await?;
/// while let Some(number) = numbers.next().await {
///     println!("{}", number?); // an Err says: failed, cancelled or truncated, never just short
/// }
///
/// // One instance by its id, and why an instance was chosen.
/// let one: Vec<_> = router.direct(1, InstanceId(7)).await?.collect().await;
/// assert_eq!(one.len(), 1);
/// let (numbers, explanation) = router.generate_explained(1).await?;
/// println!("{:?}: {:?}", explanation.instance, explanation.why);
/// drop(numbers); // cancels it
/// # served.drain().await;
/// # Ok(())
/// # }
/// ```
#[doc(inline)]
pub use sinew_router::PushRouter;
/// # Examples
/// ```no_run
/// use std::time::Duration;
///
/// use sinew::{RetryBudgetConfig, PushRouter, RetryConfig, RouterMode, Runtime};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let runtime = Runtime::from_env().await?;
/// let client = runtime.client("text/words/split".parse()?);
/// let retry = RetryConfig {
///     max_attempts: 5,
///     budget: RetryBudgetConfig { percent: 10, per_second: 2 },
///     max_wait: Duration::from_secs(1),
///     ..RetryConfig::default()
/// };
/// let router = PushRouter::<String, String>::from_client(client.clone(), RouterMode::Random);
/// let router = router.await?.with_retry(retry);
///
/// // Or not at all: what is refused is the caller's to send again.
/// let once = PushRouter::<String, String>::from_client(client, RouterMode::Random);
/// let once = once.await?.with_retry(RetryConfig::none());
/// # let _ = (router, once);
/// # Ok(())
/// # }
/// ```
#[doc(inline)]
pub use sinew_router::RetryConfig;
pub use sinew_router::{
    AttemptOutcome, AttemptReport, Backoff, Candidate, Candidates, CheckedPolicyConfig, Client,
    Explanation, Interceptor, Jitter, LeastLoaded, Load, LoadBalancer, OutgoingAttempt,
    OutlierPolicy, PolicyConfig, PowerOfTwoChoices, RetryBudgetConfig, RetryPolicy, RouterMode,
    SelectionCriteria, TransportMove, TransportMoves, Verdict, Why,
};
pub use sinew_transport_tcp::{DriverConfig, ListenConfig, TcpConfig};

/// Types for NVIDIA Dynamo peers only: their items and errors, and the settings of their request
/// frames.
#[cfg(feature = "dynamo")]
pub mod dynamo {
    pub use sinew_compat_dynamo::{Annotated, DynamoError, ITEMS_ANNOTATED, ITEMS_HEADER};
    pub use sinew_plane_request_tcp::{TcpRequestConfig, TcpRequestServerConfig};
}

/// The settings of the environment: every variable that [`Config::from_env`] reads, and what it
/// is for.
pub mod settings {
    pub use crate::env::{Effect, Overrides, Part, Setting, all, log_filter};
}

/// The crates of the layers below, complete.
pub mod layers {
    pub use sinew_codec as codec;
    #[cfg(feature = "dynamo")]
    pub use sinew_compat_dynamo as compat_dynamo;
    pub use sinew_discovery as discovery;
    pub use sinew_dynamo_wire as dynamo_wire;
    pub use sinew_ingress as ingress;
    pub use sinew_plane as plane;
    pub use sinew_plane_call_home as plane_call_home;
    #[cfg(feature = "dynamo")]
    pub use sinew_plane_request_tcp as plane_request_tcp;
    pub use sinew_registry as registry;
    pub use sinew_router as router;
    pub use sinew_split as split;
    pub use sinew_telemetry as telemetry;
    pub use sinew_transport_memory as transport_memory;
    #[cfg(feature = "nats")]
    pub use sinew_transport_nats as transport_nats;
    pub use sinew_transport_tcp as transport_tcp;
}

/// The programs of the pages in the repository, which compile and run.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../README.md")]
    struct Readme;
    #[doc = include_str!("../../../docs/beside-tonic.md")]
    struct BesideTonic;
}
