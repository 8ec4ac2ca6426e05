//! Both sides over real sockets: conformance with each other, and the exact bytes of Dynamo 1.6
//! against a peer that is written out here.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bidirectional;
mod conformance;
mod dial_back;
mod dynamo;
mod fixture;
mod refusals;
mod to_caller;
mod to_worker;

use fixture::soon;
