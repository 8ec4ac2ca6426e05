//! The command as its users run it: real processes, real signals, a private place each.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod asking;
mod call;
mod config;
mod deadline;
mod demo;
mod drain;
mod ends;
mod frames;
mod guarded;
mod idle;
mod ls;
mod memory;
mod metrics;
mod migrate;
mod pause;
mod persistent;
mod raw_mux;
mod resume;
mod serve;
mod strangers;
mod streams;
mod terminal;
mod unreachable;
mod world;
