//! The control endpoint of a process: commands of the user who runs it, over a Unix socket.
//!
//! A process that serves endpoints listens on a socket in the folder `control` of its
//! [`runtime_dir`](crate::Config::runtime_dir). The folder is private to its user, and both ends ask
//! the kernel for the user of the other end. Commands are ordinary requests, answered by an ingress
//! of its own, so none of them can be called at the addresses that discovery has.

mod client;
mod messages;
mod server;

use std::path::{Path, PathBuf};

pub(crate) use self::server::ControlServer;
pub use self::{
    client::{ControlledProcess, ControlledProcesses},
    messages::{DrainProgress, DrainRequest, EndpointStatus, ProcessStatus},
};
use crate::Endpoint;

/// Asks a process what it is and what it serves.
const STATUS: Endpoint<(), ProcessStatus> = Endpoint::new("sinew/control/status");

/// Drains endpoints of a process.
const DRAIN: Endpoint<DrainRequest, DrainProgress> = Endpoint::new("sinew/control/drain");

/// The folder for the sockets of control endpoints.
fn folder(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("control")
}

#[cfg(test)]
mod tests;
