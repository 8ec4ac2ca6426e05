//! Sinew among unmodified Dynamo 1.6 peers, in processes of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod beside;
mod bidirectional;
mod by_hand;
mod cancel;
mod death;
#[allow(unreachable_pub, dead_code, reason = "the tests of compat-dynamo use more of it")]
#[path = "../../../../crates/compat-dynamo/tests/it/dynamo.rs"]
mod dynamo;
mod entry;
mod exchange;
mod fleet;
mod hostile_caller;
mod hostile_worker;
mod ours;
mod overload;
mod place;
mod process;
mod restart;
mod stock;

use process::soon;
