//! Whole requests over a transport that does as it is told, one script per instance.

mod calls;
mod failover;
mod in_process;
mod limits;
mod metrics;
mod over_memory;
mod world;
