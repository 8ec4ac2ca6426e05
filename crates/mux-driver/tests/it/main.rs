//! The driver over carriers that are no sockets.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod conformance;
mod dialing;
mod memory;
mod peers;
