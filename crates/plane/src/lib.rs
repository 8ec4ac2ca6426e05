//! The contract between transports and the code that uses them.
//!
//! A request is answered by a stream of items that ends with exactly one terminal. This crate has
//! the types for that: [names](EndpointName), [addresses](Address), [`Headers`], the request's
//! [`Context`] (cancel, deadline, trace), what a transport [can do](TransportCapabilities),
//! [errors](Error) that say what kind of fault it was and whether a resend is safe, and the traits
//! that transports implement. It has no concrete transport and no wire format, and starts no task:
//! of tokio it uses only `sync` and timers.
//!
//! ```
//! use sinew_plane::{Context, EndpointName, Error, Executed};
//!
//! let name: EndpointName = "text/words/split".parse()?;
//! assert_eq!(name.component(), "words");
//!
//! let context = Context::new();
//! context.kill();
//! context.stop(); // a later stop never softens a kill
//! assert!(context.is_killed());
//!
//! let refused = Error::draining("the worker is shutting down");
//! assert_eq!(refused.executed(), Executed::No);
//! assert!(refused.is_safe_to_resend());
//! # Ok::<(), sinew_plane::NameError>(())
//! ```

mod acknowledged;
mod address;
mod app_code;
mod backoff;
mod batch;
mod body;
pub mod budget;
mod burst;
mod cancel;
mod capabilities;
mod checkpoint;
pub mod clock;
mod code;
mod config_error;
mod connection_event;
mod context;
mod continuation;
mod duplex;
mod engine;
mod error;
mod failure_memory;
mod headers;
mod id;
mod in_flight;
mod item_run;
mod layer;
mod limits;
mod metadata;
mod name;
mod peer;
mod permit;
mod planes;
pub mod random;
mod request;
mod request_stream;
mod response;
mod resume_token;
mod same_type;
mod sink;
mod stagger;
mod terminal;
mod timeout;
#[cfg(feature = "tower")]
mod tower;
mod typed;
mod unanswered;
mod wait;
mod ways;
mod within;

pub use crate::{
    acknowledged::Acknowledged,
    address::{Address, AddressError, BindPolicy},
    app_code::AppCode,
    backoff::{Backoff, Jitter, Retries},
    batch::{FirstItem, ItemBatch, SplitItem},
    body::{
        Body, BodyEnd, BodyEvent, BodyEvents, BodySource, BoxSource, ManyOut, Next, OnBodyEnd,
        panicked,
    },
    budget::{Budget, BudgetUse},
    burst::{Flush, burst, defer_flush},
    cancel::{CancelReason, OnCancel, StopKind},
    capabilities::{
        Directions, LatencyClass, PlaneType, TransportCapabilities, TransportId,
        TransportRequirements,
    },
    checkpoint::Checkpoint,
    code::{Code, Executed, Fault},
    config_error::ConfigError,
    connection_event::{ConnectionEvent, ConnectionEvents, OnConnectionEvent, ResumeReason},
    context::{Context, ContextBuilder},
    continuation::{Checkpoints, Continuation, Continued, Migrated, MigrationCause, Migrations},
    duplex::{DuplexServer, DuplexTransport, Shutdown},
    engine::{AsyncEngine, PushEngine, Refused, engine_fn, push_engine_fn},
    error::Error,
    failure_memory::{Failure, FailureMemory},
    headers::{Headers, HeadersError, header},
    id::{Incarnation, InstanceId, ProcessId, StreamId},
    in_flight::{Closed, InFlight, InFlightEntry, InFlightKey, InFlightSet},
    item_run::{ItemRun, split_run},
    layer::{EngineLayer, LayeredEngine, layer_fn},
    limits::{CallLimits, DEFAULT_ACCEPT_LIMIT, accept_timed_out},
    metadata::ResponseMetadata,
    name::{EndpointName, NameError},
    peer::{Origin, PeerFacts, PeerIdentity},
    permit::{Permit, Place},
    planes::{
        Decision, PlaneRequest, RequestPlaneClient, RequestPlaneHandler, RequestPlaneServer,
        ResponsePlaneClient, ResponsePlaneServer, ResponseRegistration,
    },
    request::{IncomingRequest, OutgoingRequest, RequestHandler, ResumeRequest, Window},
    request_stream::{
        RequestRegistration, RequestStream, RequestStreamClient, RequestStreamServer,
    },
    response::{ResponseSource, ResponseStream, RunningStream, SourceEvent, StreamPlace},
    resume_token::{ResumeToken, ResumeTokenError},
    same_type::same_type,
    sink::{Acceptance, ResponseSink, SinkTarget, TrySendError, try_send_each},
    stagger::{CONNECT_ATTEMPT_DELAY, staggered},
    terminal::{Outcome, Terminal},
    timeout::{Elapsed, second_look, timeout},
    typed::SingleIn,
    unanswered::{ACCEPTANCE_LOOK, Unanswered},
    wait::ItemWait,
    ways::{Way, Ways},
    within::{unless_cancelled, within},
};

#[cfg(feature = "tower")]
pub use crate::tower::{EngineService, ServiceEngine};

/// A boxed future, as object-safe async traits return it.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A boxed stream.
pub type BoxStream<'a, T> = std::pin::Pin<Box<dyn futures_core::Stream<Item = T> + Send + 'a>>;
