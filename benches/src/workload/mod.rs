//! What is asked of each peer.

mod exchange;
mod idle;
mod passes;

use std::time::Duration;

use anyhow::Result;

use crate::{Control, Pace, Peer, Sample};

/// Something to measure.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// On the command line and in results: group, then variant.
    pub name: &'static str,
    /// What it does.
    pub shape: Shape,
}

/// What a workload does.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// Requests of `bytes`, each answered with as much, by `callers` at once.
    /// Metrics: `p50_us`, `p99_us`, `per_second`, `mib_per_second`, `cpu_us`; with connections for
    /// responses alone `response_connections`, and with shared ones `pool_reuse_percent`.
    Unary {
        /// Callers on one connection, each with one request under way.
        callers: usize,
        /// Size of the request and of the answer.
        bytes: usize,
    },
    /// Requests of 512 B, each answered with `items` of 64 B as fast as possible.
    /// Metrics: `items_per_second`, `first_p50_us`, `first_p99_us`, `cpu_ns`; with connections for
    /// responses alone `response_connections`, and with shared ones `pool_reuse_percent`.
    Stream {
        /// Callers on one connection, each with one stream under way.
        callers: usize,
        /// Items of each stream.
        items: u32,
    },
    /// Long streams that one engine feeds: one item of 64 B on each of them per pass.
    /// Metrics: `items_per_second`, `cpu_ns`, `writes_per_pass`, `items_per_write`,
    /// `client_writes_per_pass`.
    Passes {
        /// Callers, each with a connection and a share of the streams.
        callers: usize,
        /// Streams in all.
        streams: usize,
        /// From pass to pass; `None` for one after the other.
        every: Option<Duration>,
    },
    /// Streams that are open and say nothing. Metrics: `client_bytes`, `server_bytes`; with
    /// connections for responses alone `response_connections`.
    Idle {
        /// How many, on one connection where the peer has one for all.
        streams: usize,
    },
}

const SMALL: usize = 128;
const MIB: usize = 1 << 20;
const FIVE_MS: Option<Duration> = Some(Duration::from_millis(5));

/// All workloads, in the order of the report.
pub(crate) const ALL: &[Workload] = &[
    Workload { name: "unary-1", shape: Shape::Unary { callers: 1, bytes: SMALL } },
    Workload { name: "unary-16", shape: Shape::Unary { callers: 16, bytes: SMALL } },
    Workload { name: "unary-64", shape: Shape::Unary { callers: 64, bytes: SMALL } },
    Workload { name: "unary-256", shape: Shape::Unary { callers: 256, bytes: SMALL } },
    Workload { name: "stream-1", shape: Shape::Stream { callers: 1, items: 256 } },
    Workload { name: "stream-16", shape: Shape::Stream { callers: 16, items: 256 } },
    Workload { name: "stream-64", shape: Shape::Stream { callers: 64, items: 256 } },
    Workload {
        name: "passes-flat",
        shape: Shape::Passes { callers: 4, streams: 256, every: None },
    },
    Workload {
        name: "passes-paced",
        shape: Shape::Passes { callers: 4, streams: 256, every: FIVE_MS },
    },
    Workload { name: "large-1", shape: Shape::Unary { callers: 1, bytes: MIB } },
    Workload { name: "large-4", shape: Shape::Unary { callers: 4, bytes: MIB } },
    Workload { name: "idle", shape: Shape::Idle { streams: 10_000 } },
    Workload { name: "idle-1000", shape: Shape::Idle { streams: 1_000 } },
];

/// Runs a workload against a server at `address`.
pub(crate) async fn run<P: Peer>(
    peer: &P,
    workload: &Workload,
    pace: Pace,
    address: &str,
    control: &mut dyn Control,
) -> Result<Sample> {
    match workload.shape {
        Shape::Unary { callers, bytes } => {
            let caller = peer.connect(address).await?;
            exchange::unary(caller, callers, bytes, pace, control).await
        }
        Shape::Stream { callers, items } => {
            let caller = peer.connect(address).await?;
            exchange::stream(caller, callers, items, pace, control).await
        }
        Shape::Passes { callers, streams, every } => {
            let mut connected = Vec::with_capacity(callers);
            for _ in 0..callers {
                connected.push(peer.connect(address).await?);
            }
            passes::run(&connected, streams, every, pace, control).await
        }
        Shape::Idle { streams } => idle::run(peer.connect(address).await?, streams, control).await,
    }
}
