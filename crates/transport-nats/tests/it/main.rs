//! The plane against real NATS servers, started from PATH on free ports.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod access;
mod budget;
mod deciding;
mod drain;
mod encrypted;
mod exchange;
mod handler;
mod hostile;
mod metrics;
mod outage;
mod overload;
#[cfg(feature = "jetstream")]
mod queue;
mod server;
mod serving;
mod shared;
