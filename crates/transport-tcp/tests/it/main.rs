//! The transport over real sockets: conformance, and peers that misbehave.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admission;
mod budget;
mod call_home;
mod call_home_budget;
mod call_home_forged;
mod call_home_hostile;
mod call_home_input;
mod call_home_lost;
mod call_home_pooled;
mod call_home_refused;
mod call_home_wire;
mod closing;
mod conformance;
mod fixture;
mod frame_checks;
mod hostile;
mod hostile_worker;
mod mux_peer;
mod recovery;
mod request_calling;
mod request_fixture;
mod request_pool;
mod request_serving;
