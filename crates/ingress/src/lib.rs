//! The serving side: accept, decode, admit, dispatch, stream out, drain.
//!
//! An [`Ingress`] is the [`RequestHandler`](sinew_plane::RequestHandler) to which every transport
//! of a process passes its requests. It finds the endpoint, admits or refuses, runs the handler in
//! a task that it owns, and ends every response exactly once. It does not depend on the router or
//! on any transport.
//!
//! ```
//! use futures_util::{StreamExt, stream};
//! use sinew_ingress::{EndpointConfig, Ingress, PushHandler};
//! use sinew_plane::{AsyncEngine, Error, InstanceId, SingleIn, engine_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let count_to = engine_fn(|request: SingleIn<u32>| async move {
//!     Ok::<_, Error>(stream::iter((1..=*request.data()).map(Ok)))
//! });
//! let ingress = Ingress::default(); // hand clones of it to the transports
//! let served = ingress.serve(
//!     "demo/numbers/count".parse()?,
//!     InstanceId::random(),
//!     EndpointConfig::default(),
//!     PushHandler::new(count_to),
//! );
//!
//! // Inside the process the engine can be called without encoding anything. Limits, deadlines
//! // and metrics are those of a call over a transport.
//! let engine = served.local_engine::<u32, u32>().expect("these are its types");
//! let numbers = engine.generate(SingleIn::new(3)).await?;
//! assert_eq!(numbers.map(Result::unwrap).collect::<Vec<_>>().await, [1, 2, 3]);
//!
//! served.drain().await; // refuses new requests, waits for those in flight
//! # Ok(())
//! # }
//! ```
//!
//! # Three kinds of handler
//!
//! | handler | gets | produces | isolation |
//! |---|---|---|---|
//! | [`PushHandler`] | a decoded value | a stream that is pulled | a task per request |
//! | [`PushEngineHandler`] | bytes and a sink, or a value and a [`ValueSink`] with [`TypedPush`] | pushes into the sink from a loop of its own | none needed: the call returns at once |
//! | [`RawHandler`] | bytes and a sink | an async function that sends | a task per request |
//!
//! # Refusals
//!
//! Each refusal is sent before a handler ran (`executed = No`), so a router may send the request to
//! another instance.
//!
//! | when | code |
//! |---|---|
//! | name or instance is not served here | `UnknownEndpoint` |
//! | endpoint or process drains | `Draining` |
//! | endpoint or process is at its limit | `Overloaded`, with a hint when to come back |
//! | the deadline passed on the way | `DeadlineExceeded` |
//! | the payload cannot be decoded, or `continue-at` has another form | `InvalidPayload` or `TooLarge` |
//! | the request is a continued one, and the endpoint has no checkpoints | `InvalidPayload` |
//!
//! An error of an [`AsyncEngine`](sinew_plane::AsyncEngine) always counts as executed, also if the
//! engine passes on a refusal by another service: the engine has done work of its own before that
//! call.
//!
//! # Features
//!
//! `json` and `msgpack` (default) and `bincode` are the payload formats of [`PushHandler`]; `raw`,
//! bytes as they are, is always there.

mod config;
mod contexts;
mod continued;
mod deadline;
mod drained;
mod end;
mod hand_over;
mod handler;
mod ingress;
mod instance;
mod local;
mod metered;
mod park_limit;
mod payload;
mod push_engine_handler;
mod push_handler;
mod raw_handler;
mod refusal;
mod registration;
mod request_guard;
mod responses;
mod retention;
mod served;
mod table;
mod task_pool;
mod transport_meters;
mod typed_push;

pub use crate::{
    config::{EndpointConfig, IngressConfig},
    drained::Drained,
    handler::{AdmittedHandler, AdmittedRequest, Handler, HandlerLayer, handler_layer_fn},
    ingress::Ingress,
    push_engine_handler::PushEngineHandler,
    push_handler::PushHandler,
    raw_handler::{IncomingOwned, RawHandler},
    registration::SystemHealth,
    retention::Retain,
    served::ServedEndpoint,
    typed_push::{TrySendValueError, TypedPush, ValueRefused, ValueSink},
};
