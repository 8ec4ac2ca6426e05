//! The plane against real NATS servers, started from PATH on free ports.

mod access;
mod drain;
mod exchange;
mod handler;
mod hostile;
mod outage;
mod overload;
mod server;
mod serving;
