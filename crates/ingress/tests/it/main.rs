//! The serving side against a consumer whose credit, patience and cancels a test decides.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "clippy.toml allows both in test functions only, and helpers are part of the tests"
)]

mod admission;
mod cancel;
mod continued;
mod hand_over;
mod layers;
mod load;
mod local;
mod push_engine_handler;
mod raw_handler;
mod registration;
mod reserve;
mod retained;
mod shutdown;
mod steps;
mod support;
mod trace;
