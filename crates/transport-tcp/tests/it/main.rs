//! The transport over real sockets: conformance, and peers that misbehave.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admission;
mod attach;
mod budget;
mod closing;
mod conformance;
mod draining;
mod fixture;
mod gate;
mod hostile;
mod hostile_resume;
mod hostile_worker;
mod mux_peer;
mod recovery;
mod resume;
mod take_over;
mod unwrapping;
