//! The file backend as its users have it: threads, processes and stock Dynamo records.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod dynamo;
mod killed;
mod lifecycle;
mod outage;
mod policies;
mod support;
