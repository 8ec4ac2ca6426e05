//! The call-home plane over real sockets: both sides, and peers that misbehave.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod budget;
mod delivery;
mod fixture;
mod forged;
mod frame_checks;
mod hostile;
mod input;
mod lost;
mod metadata;
mod pooled;
mod refused;
mod resume;
mod wire;
