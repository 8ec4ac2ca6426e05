//! Picks the instance that gets a request, and another one if the first cannot serve it.
//!
//! A [`Client`] follows the instances of one endpoint. A [`PushRouter`] picks one for each request,
//! sends the request there, and sends it to another instance if that is safe. Its parts are traits
//! that a program can implement: a [`LoadBalancer`] chooses an instance, perhaps by a [`Load`]; an
//! [`OutlierPolicy`] ejects instances; a [`RetryPolicy`] decides what is sent again, within a
//! [`RetryBudget`]; an [`Interceptor`] changes the headers of each attempt. They take time as an
//! argument. The crate knows no wire format, and no transport by name.
//!
//! ```
//! use std::sync::Arc;
//!
//! use futures_util::StreamExt;
//! use sinew_discovery::{Discovery, Instance, MemoryDiscovery};
//! use sinew_plane::{EndpointName, Error, IncomingRequest, InstanceId, ResponseSink, SingleIn};
//! use sinew_plane::engine_fn;
//! use sinew_registry::{LocalProcess, LocalEndpoint, LocalEndpoints, TransportRegistry};
//! use sinew_router::{Client, PushRouter, RouterMode};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let name: EndpointName = "text/words/split".parse()?;
//!
//! // An engine of this process, so that the example needs no transport.
//! let engine = engine_fn(|request: SingleIn<String>| async move {
//!     let words: Vec<_> = request.data().split(' ').map(|word| Ok(word.to_owned())).collect();
//!     Ok::<_, Error>(futures_util::stream::iter(words))
//! });
//! let handler = Arc::new(|_: IncomingRequest<'_>, sink: ResponseSink| sink.complete());
//! let locals = LocalEndpoints::new();
//! let local = LocalEndpoint::new(handler).with_engine::<String, String>(Arc::new(engine));
//! let _served = locals.insert(&name, InstanceId(1), local);
//! let discovery = MemoryDiscovery::new();
//! let instance = Instance::new(name.clone(), InstanceId(1), Vec::new());
//! let _registration = discovery.register(instance).await?;
//!
//! let (view, registry) = (discovery.watch().await?, Arc::new(TransportRegistry::new()));
//! let client = Client::new(name, view, registry, locals, LocalProcess::default());
//! let router = PushRouter::<String, String>::from_client(client, RouterMode::RoundRobin).await?;
//! let mut words = router.generate("one two".to_owned()).await?;
//! assert_eq!(words.next().await.transpose()?.as_deref(), Some("one"));
//! # Ok(())
//! # }
//! ```
//!
//! # When a request is sent again
//!
//! At most one handler runs for a request. The router sends it to another instance if the first
//! could not be reached or refused it (draining, overloaded, not served there), because no handler
//! ran. If the connection broke before an answer, it does so only if the instance declares itself
//! idempotent. It never sends a request again after the deadline, or beyond
//! the budget: see [`RetryConfig`].
//!
//! After the first item it does so only if the instance declares a
//! [`Continuation`](sinew_plane::Continuation), and its worker was lost or has handed the response
//! over. The response then goes on at another instance: the items that the caller has are dropped
//! and compared, and the caller reads one unbroken stream. [`Body::migrations`] lists the moves.
//!
//! [`Body::migrations`]: sinew_plane::Body::migrations

mod active_attempt;
mod addressed;
mod attempt;
mod call;
mod choice;
mod client;
mod connecting;
mod continuation;
mod deadline;
mod ejection;
mod engine;
mod explain;
mod in_flight;
mod in_process;
mod interceptor;
mod load_balancer;
mod mode;
mod no_instance;
mod outlier;
mod payload;
mod picker;
mod policy;
mod push_router;
mod request;
mod response;
mod resume;
mod retry_budget;
mod retry_config;
mod retry_policy;
mod router_state;
mod strategy;
#[cfg(test)]
mod tests;

pub use crate::{
    addressed::{AddressedPushRouter, RequestTransport, Started},
    choice::{Choice, InstanceLoad, Loads, Measure, Why},
    client::Client,
    ejection::Ejections,
    explain::{Explanation, LOCAL},
    in_flight::InFlightGuard,
    interceptor::{ContentType, Interceptor, OutgoingAttempt, TraceContext},
    load_balancer::{Candidate, Candidates, LoadBalancer, SelectionCriteria},
    mode::RouterMode,
    outlier::{AttemptOutcome, EjectFailed, OutlierPolicy},
    picker::Picker,
    policy::{CheckedPolicyConfig, PolicyConfig, TransportMove, TransportMoves},
    push_router::PushRouter,
    retry_budget::{RetryBudget, RetryBudgetConfig},
    retry_config::RetryConfig,
    retry_policy::{AttemptReport, RetryPolicy, Verdict},
    router_state::RouterMemory,
    strategy::{Direct, LeastLoaded, Load, PowerOfTwoChoices, RandomChoice, RoundRobin},
};
pub use sinew_plane::{Backoff, Jitter, random::Rng as Random};
