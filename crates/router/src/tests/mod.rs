//! Whole requests over a transport that does as it is told, one script per instance.

mod attempts;
mod calls;
mod connecting;
mod continuation;
mod engine;
mod failover;
mod in_process;
mod limits;
mod metrics;
mod no_instance;
mod occupancy;
mod over_memory;
mod parts;
mod policy;
mod quarantine;
mod recheck;
mod resume;
mod waits;
mod world;
