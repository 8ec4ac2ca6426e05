//! What Dynamo reads from the environment, set before its processes start.
//!
//! A running program cannot change its own environment without `unsafe`, so the client of a
//! measurement starts itself again with what is missing. Its server inherits it.

use std::process::Command;

use anyhow::{Context, Result};
use sinew_benches::Broker;

/// Set when the rest is.
const COMPLETE: &str = "SINEW_BENCH_COMPLETE";

/// Which planes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plane {
    Tcp,
    Nats,
    Quic,
    /// Without its batching.
    QuicAtOnce,
}

impl Plane {
    pub(crate) const ALL: [Self; 4] = [Self::Tcp, Self::Nats, Self::Quic, Self::QuicAtOnce];

    pub(crate) fn peer(self) -> &'static str {
        match self {
            Self::Tcp => "dynamo",
            Self::Nats => "dynamo-nats",
            Self::Quic => "dynamo-quic",
            Self::QuicAtOnce => "dynamo-quic0",
        }
    }

    fn variables(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Tcp => &[("DYN_REQUEST_PLANE", "tcp"), ("DYN_RESPONSE_PLANE", "tcp")],
            Self::Nats => &[("DYN_REQUEST_PLANE", "nats"), ("DYN_RESPONSE_PLANE", "tcp")],
            Self::Quic => &[("DYN_REQUEST_PLANE", "tcp"), ("DYN_RESPONSE_PLANE", "quic")],
            Self::QuicAtOnce => &[
                ("DYN_REQUEST_PLANE", "tcp"),
                ("DYN_RESPONSE_PLANE", "quic"),
                ("DYN_QUIC_RESPONSE_BATCH_INTERVAL_US", "0"),
            ],
        }
    }
}

pub(crate) enum Complete {
    /// Go on.
    Yes,
    /// It was done in a process with the whole environment, which ended with this status.
    Ran(i32),
}

/// Sees to the environment of a measurement.
pub(crate) fn complete() -> Result<Complete> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let is_cell = arguments.first().is_some_and(|part| part == "cell");
    if !is_cell || std::env::var_os(COMPLETE).is_some() {
        return Ok(Complete::Yes);
    }
    let peer = arguments.get(1).context("a cell has a peer")?;
    let plane = Plane::ALL.into_iter().find(|plane| peer == plane.peer()).unwrap_or(Plane::Tcp);
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(&arguments)
        .envs(plane.variables().iter().copied())
        .env(COMPLETE, "1")
        .env("DYN_DISCOVERY_BACKEND", "file")
        .env("DYN_FILE_KV", folder.path())
        .env("DYN_TCP_RPC_HOST", "127.0.0.1")
        .env("DYN_TCP_RESPONSE_STREAM_HOST", "127.0.0.1");
    // The broker ends behind the process that needs it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let broker = match plane {
        Plane::Nats => Some(runtime.block_on(Broker::start())?),
        _ => None,
    };
    if let Some(broker) = &broker {
        command.env("NATS_SERVER", broker.address());
        command.env(BROKER, broker.process().unwrap_or_default().to_string());
    }
    let status = command.status().context("starting this program again")?;
    Ok(Complete::Ran(status.code().unwrap_or(1)))
}

/// The process id of the broker.
const BROKER: &str = "SINEW_BENCH_BROKER";

/// CPU time of the broker so far, which counts as the server's.
pub(crate) fn broker_cpu_ns() -> u64 {
    let process = std::env::var(BROKER).ok().and_then(|process| process.parse().ok());
    process.map_or(0, Broker::cpu_ns_of)
}
