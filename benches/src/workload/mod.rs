//! What is asked of each peer.

mod connect;
mod exchange;
mod idle;
mod lanes;
mod list;
mod paced;
mod pass_times;
pub(crate) mod passes;
mod slow;

use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Deserializer, Serialize};

pub use self::lanes::{Lanes, Received};
pub(crate) use self::{lanes::open, list::list};
use crate::{Control, Pace, Peer, Sample};

/// Something to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// On the command line and in results: group, then variant.
    pub name: &'static str,
    /// What it does.
    pub shape: Shape,
}

impl<'de> Deserialize<'de> for Workload {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Told {
            name: String,
            shape: Shape,
        }
        let told = Told::deserialize(from)?;
        Ok(Self::named(told.name, told.shape))
    }
}

impl Workload {
    /// The name stays as long as the program: a run has a few, all of them until its end.
    fn named(name: String, shape: Shape) -> Self {
        Self { name: name.leak(), shape }
    }
}

/// What a workload does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Requests of 512 B, each answered with `items` as fast as possible.
    /// Metrics: `items_per_second`, `first_p50_us`, `first_p99_us`, `cpu_ns`; with connections for
    /// responses alone `response_connections`, and with shared ones `pool_reuse_percent`.
    Stream {
        /// Callers on one connection, each with one stream under way.
        callers: usize,
        /// Items of each stream.
        items: u32,
        /// Size of each.
        item_bytes: u32,
    },
    /// Long streams that engines feed: one item on each of them per pass.
    /// Metrics: `items_per_second`, `cpu_ns`, `writes_per_pass`, `items_per_write`,
    /// `client_writes_per_pass`; where items have room for a time, `last_p50_us`, `last_p99_us`.
    Passes {
        /// Engines, each in a process of its own, with a share of the streams.
        engines: usize,
        /// Callers, each in a process of its own with a connection to each engine and a share of
        /// the streams.
        callers: usize,
        /// Streams in all.
        streams: usize,
        /// From pass to pass; `None` for one after the other.
        every: Option<Duration>,
        /// Size of each item.
        item_bytes: u32,
    },
    /// Streams that are open and say nothing. Metrics: `client_bytes`, `server_bytes`; with
    /// connections for responses alone `response_connections`.
    Idle {
        /// How many, on one connection where the peer has one for all.
        streams: usize,
    },
    /// Streams with an item at an even pace each, on one connection where the peer has one for
    /// all. Metrics: `deviation_p50_us`, `deviation_p99_us`, `cpu_us`, `items_percent`.
    Paced {
        /// How many.
        streams: usize,
        /// From item to item.
        every: Duration,
        /// Size of each item.
        item_bytes: u32,
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
        /// Size of each item.
        item_bytes: u32,
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
            Self::Slow { callers, .. } => callers + 1,
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

/// Runs a workload against the servers at `addresses`, with all callers in this process.
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
        Shape::Stream { callers, items, item_bytes } => {
            let caller = peer.connect(address).await?;
            exchange::stream(caller, callers, (items, item_bytes), pace, control).await
        }
        Shape::Passes { callers, streams, .. } => {
            let lanes = lanes::open(peer, addresses, callers, streams).await?;
            passes::run(&mut passes::Here(lanes), &workload.shape, pace, control).await
        }
        Shape::Idle { streams } => idle::run(peer.connect(address).await?, streams, control).await,
        Shape::Paced { streams, every, item_bytes } => {
            let caller = peer.connect(address).await?;
            paced::run(caller, streams, (every, item_bytes), pace, control).await
        }
        Shape::Connect => connect::run(peer, address, pace, control).await,
        Shape::Slow { callers, item_bytes } => {
            slow::run(peer.connect(address).await?, callers, item_bytes, pace, control).await
        }
    }
}
