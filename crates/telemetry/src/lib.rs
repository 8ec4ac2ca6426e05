//! Metric names, trace propagation, and the metrics endpoint.
//!
//! [`names`] has the name, unit and labels of every metric. The code that counts holds
//! [`TransportMetrics`], [`ConnectionMetrics`] and [`EndpointMetrics`], whose handles are made
//! once. The trace of a request is carried as a [`TraceParent`]. This crate depends on no router
//! and on no transport.
//!
//! ```
//! use sinew_plane::Headers;
//! use sinew_telemetry::TraceParent;
//!
//! let mut headers = Headers::new();
//! headers.insert("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")?;
//!
//! let hop = TraceParent::for_hop(&headers, false).expect("a trace that is there is carried on");
//! assert_eq!(hop.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
//! assert_ne!(hop.span_id(), "00f067aa0ba902b7", "each hop has a span of its own");
//! # Ok::<(), sinew_plane::HeadersError>(())
//! ```
//!
//! # Install first, make handles second
//!
//! A handle is bound to the recorder that is installed when the handle is made. Handles made
//! before that never count anything. So a program calls `Metrics::install` (or installs its
//! own recorder and calls [`enable_timing`]) before it builds transports and endpoints.
//!
//! Without a recorder every handle is empty: counting is a test of a null pointer, and the clock
//! is not read.
//!
//! # Features
//!
//! | feature | adds | default |
//! |---|---|---|
//! | `prometheus` | `Metrics`: a recorder and its HTTP endpoint | no |
//! | `subscriber` | `init_logging`: logs on standard error; `console`: messages there | no |

pub mod names;
pub mod trace;

mod budget;
#[cfg(feature = "subscriber")]
mod capped;
mod connection;
#[cfg(feature = "subscriber")]
pub mod console;
mod continuation;
mod endpoint;
mod first_few;
#[cfg(feature = "subscriber")]
mod limited;
#[cfg(feature = "subscriber")]
mod logging;
mod policy;
mod pool;
mod printable;
#[cfg(feature = "prometheus")]
mod prometheus;
#[cfg(feature = "subscriber")]
mod repeats;
mod streams;
mod timing;
mod transport;

pub use crate::{
    budget::BudgetMetrics,
    connection::{ActiveConnection, ConnectionMeters, ConnectionMetrics},
    continuation::{handovers, stream_continued},
    endpoint::{EndpointMetrics, RequestMetrics},
    first_few::first_few,
    names::describe,
    policy::PolicyMetrics,
    pool::TcpPoolMetrics,
    printable::{printable, printable_lines},
    streams::{DetachedStreams, StreamMetrics},
    timing::{Stopwatch, enable_timing, is_timing_enabled},
    trace::{TraceParent, TraceParentError},
    transport::{ActiveStream, Side, TransportMetrics},
};

#[cfg(feature = "subscriber")]
pub use crate::logging::{LoggingError, init_logging, report_repeats};
#[cfg(feature = "prometheus")]
pub use crate::prometheus::{HealthReport, Metrics, MetricsError};
