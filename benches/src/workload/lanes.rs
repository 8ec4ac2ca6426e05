//! The consumers of a forward pass that live in one process.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::pass_times::PassTimes;
use crate::{Ask, Caller, Peer, measure};

const REQUEST_BYTES: usize = 512;

/// Open streams that engines feed, each with a task that takes its items.
pub trait Lanes: Send {
    /// What has come so far, with the times of passes from these numbers on, by engine; of an
    /// engine without a number, all.
    ///
    /// # Errors
    /// A stream has ended.
    fn received(&mut self, since: &[usize]) -> Result<Received>;
}

/// What the consumers of one process have received since they began.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Received {
    /// Items.
    pub items: u64,
    /// CPU time of the process.
    pub cpu_ns: u64,
    /// Writes to its sockets, where the peer counts them.
    pub writes: Option<u64>,
    /// By engine, nanoseconds from the start of each timed pass until its last item came here; 0
    /// for a pass that brought none.
    pub last_ns: Vec<Vec<u64>>,
}

/// Opens `streams` of `callers`, each of which has a connection to each engine.
pub(crate) async fn open<P: Peer>(
    peer: &P,
    addresses: &[String],
    callers: usize,
    streams: usize,
) -> Result<Box<dyn Lanes>> {
    let mut connected = Vec::with_capacity(callers * addresses.len());
    for _ in 0..callers {
        for (engine, address) in addresses.iter().enumerate() {
            connected.push((engine, peer.connect(address).await?));
        }
    }
    let times: Vec<_> = addresses.iter().map(|_| Arc::new(PassTimes::default())).collect();
    let mut consumers = JoinSet::new();
    let mut counters = Vec::with_capacity(streams);
    let request = Ask::Lane.body(REQUEST_BYTES);
    for (engine, caller) in connected.iter().cycle().take(streams) {
        let response = caller.open(request.clone()).await?;
        // A counter of its own, so that consumers on different cores do not share a line.
        let counter = Arc::new(AtomicU64::new(0));
        consumers.spawn(consume(response, Arc::clone(&counter), Arc::clone(&times[*engine])));
        counters.push(counter);
    }
    let callers = connected.into_iter().map(|(_, caller)| caller).collect();
    Ok(Box::new(Open::<P::Caller> { callers, counters, times, consumers }))
}

struct Open<C> {
    callers: Vec<C>,
    counters: Vec<Arc<AtomicU64>>,
    times: Vec<Arc<PassTimes>>,
    consumers: JoinSet<Result<()>>,
}

impl<C: Caller> Lanes for Open<C> {
    fn received(&mut self, since: &[usize]) -> Result<Received> {
        ensure!(self.consumers.try_join_next().is_none(), "a stream ended during the passes");
        let since = since.iter().copied().chain(std::iter::repeat(0));
        Ok(Received {
            items: self.counters.iter().map(|counter| counter.load(Ordering::Relaxed)).sum(),
            cpu_ns: measure::cpu_ns(),
            writes: self.callers.iter().map(Caller::writes).sum(),
            last_ns: self.times.iter().zip(since).map(|(times, from)| times.since(from)).collect(),
        })
    }
}

async fn consume<I>(mut response: I, counter: Arc<AtomicU64>, times: Arc<PassTimes>) -> Result<()>
where
    I: Stream<Item = Result<Bytes>> + Unpin,
{
    while let Some(item) = response.next().await {
        times.arrived(&item?);
        counter.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
