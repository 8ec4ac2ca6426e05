//! What callers see while the services that a fleet leans on, or its own processes, go away:
//! real etcd and NATS processes, and real workers, that are killed, stopped and brought back
//! under load.
#![cfg(feature = "services")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod death;
mod engine;
mod etcd;
mod fleet;
mod leave;
mod load;
mod nats;
mod servers;
mod wait;
