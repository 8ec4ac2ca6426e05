//! The etcd backend against real etcd servers: processes that are killed, stopped and emptied.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod expiry;
mod growth;
mod lifecycle;
mod outage;
mod policies;
mod records;
mod server;
mod support;
mod wire;
mod worker;
