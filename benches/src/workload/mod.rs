//! What is asked of each peer.

mod connect;
mod exchange;
mod idle;
mod paced;
mod pass_times;
mod passes;
mod slow;

use std::time::Duration;

use anyhow::{Context, Result};

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
    /// Long streams that engines feed: one item of 64 B on each of them per pass.
    /// Metrics: `items_per_second`, `cpu_ns`, `last_p50_us`, `last_p99_us`, `writes_per_pass`,
    /// `items_per_write`, `client_writes_per_pass`.
    Passes {
        /// Engines, each in a process of its own, with a share of the streams.
        engines: usize,
        /// Callers, each with a connection to each engine and a share of the streams.
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
    /// Streams with an item of 64 B at an even pace each, on one connection where the peer has one
    /// for all. Metrics: `deviation_p50_us`, `deviation_p99_us`, `cpu_us`, `items_percent`.
    Paced {
        /// How many.
        streams: usize,
        /// From item to item.
        every: Duration,
    },
    /// A new client, its connection, and a request of 128 B over it, one after the other.
    /// Metrics: `p50_us`, `p99_us`, `cpu_us`.
    Connect,
    /// Short streams, as [`Shape::Stream`] has them, without and then with one more stream on
    /// their connection whose reader takes an item per 10 ms of what would come as fast as
    /// possible. Metrics: `kept_percent`, `items_per_second`.
    Slow {
        /// Callers that read as fast as they can.
        callers: usize,
    },
}

impl Shape {
    /// Streams that are open at once.
    pub fn streams(&self) -> usize {
        match *self {
            Self::Unary { callers, .. } | Self::Stream { callers, .. } => callers,
            Self::Passes { streams, .. } | Self::Idle { streams } | Self::Paced { streams, .. } => {
                streams
            }
            Self::Connect => 1,
            Self::Slow { callers } => callers + 1,
        }
    }

    /// Streams that are open at once on one connection of a peer that has one for all.
    pub fn streams_per_connection(&self) -> usize {
        match *self {
            Self::Passes { engines, callers, streams, .. } => streams.div_ceil(engines * callers),
            _ => self.streams(),
        }
    }

    /// Servers that it takes.
    pub fn engines(&self) -> usize {
        match *self {
            Self::Passes { engines, .. } => engines,
            _ => 1,
        }
    }
}

const SMALL: usize = 128;
const MIB: usize = 1 << 20;
const FIVE_MS: Option<Duration> = Some(Duration::from_millis(5));
const TEN_MS: Duration = Duration::from_millis(10);

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
        shape: Shape::Passes { engines: 1, callers: 4, streams: 256, every: None },
    },
    Workload {
        name: "passes-paced",
        shape: Shape::Passes { engines: 1, callers: 4, streams: 256, every: FIVE_MS },
    },
    Workload {
        name: "passes-two-flat",
        shape: Shape::Passes { engines: 2, callers: 4, streams: 256, every: None },
    },
    Workload {
        name: "passes-two-paced",
        shape: Shape::Passes { engines: 2, callers: 4, streams: 256, every: FIVE_MS },
    },
    Workload {
        name: "passes-1024-flat",
        shape: Shape::Passes { engines: 2, callers: 4, streams: 1_024, every: None },
    },
    Workload {
        name: "passes-1024-paced",
        shape: Shape::Passes { engines: 2, callers: 4, streams: 1_024, every: FIVE_MS },
    },
    Workload { name: "paced-64", shape: Shape::Paced { streams: 64, every: TEN_MS } },
    Workload { name: "paced-512", shape: Shape::Paced { streams: 512, every: TEN_MS } },
    Workload { name: "large-1", shape: Shape::Unary { callers: 1, bytes: MIB } },
    Workload { name: "large-4", shape: Shape::Unary { callers: 4, bytes: MIB } },
    Workload { name: "idle", shape: Shape::Idle { streams: 10_000 } },
    Workload { name: "idle-1000", shape: Shape::Idle { streams: 1_000 } },
    Workload { name: "connect", shape: Shape::Connect },
    Workload { name: "slow", shape: Shape::Slow { callers: 16 } },
];

/// Runs a workload against the servers at `addresses`.
pub(crate) async fn run<P: Peer>(
    peer: &P,
    workload: &Workload,
    pace: Pace,
    addresses: &[String],
    control: &mut dyn Control,
) -> Result<Sample> {
    let address = addresses.first().context("a workload without a server")?;
    match workload.shape {
        Shape::Unary { callers, bytes } => {
            let caller = peer.connect(address).await?;
            exchange::unary(caller, callers, bytes, pace, control).await
        }
        Shape::Stream { callers, items } => {
            let caller = peer.connect(address).await?;
            exchange::stream(caller, callers, items, pace, control).await
        }
        Shape::Passes { callers, streams, every, .. } => {
            let mut connected = Vec::with_capacity(callers * addresses.len());
            for _ in 0..callers {
                for (engine, address) in addresses.iter().enumerate() {
                    connected.push((engine, peer.connect(address).await?));
                }
            }
            passes::run(&connected, streams, every, pace, control).await
        }
        Shape::Idle { streams } => idle::run(peer.connect(address).await?, streams, control).await,
        Shape::Paced { streams, every } => {
            paced::run(peer.connect(address).await?, streams, every, pace, control).await
        }
        Shape::Connect => connect::run(peer, address, pace, control).await,
        Shape::Slow { callers } => {
            slow::run(peer.connect(address).await?, callers, pace, control).await
        }
    }
}
