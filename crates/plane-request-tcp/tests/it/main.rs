//! The request plane over real sockets: both sides, and peers that misbehave.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod budget;
mod calling;
mod detection;
mod fixture;
mod pool;
mod serving;
