//! The protocol from outside: only bytes and the public machines.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod frames;
mod golden;
mod manual;
mod model;
mod outbound;
mod reading;
mod violation;
mod wire;
