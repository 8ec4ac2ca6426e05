//! Sinew among unmodified Dynamo 1.6 peers, in processes of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod cancel;
mod death;
mod exchange;
mod fleet;
mod ours;
mod place;
mod process;
mod stock;
