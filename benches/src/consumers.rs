//! The callers of a forward pass in processes of their own, as they are where it matters.

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;

use crate::{
    Contestant,
    subprocess::{self, Subprocess},
    workload::{Received, passes::Consumers},
};

/// What a process says when its streams are open.
const READY: &str = "ready";

/// Callers in a process each, with a connection to each engine and an equal share of the streams.
pub(crate) struct ConsumerProcesses(Vec<Subprocess>);

impl ConsumerProcesses {
    pub(crate) async fn start(
        peer: &str,
        callers: usize,
        streams: usize,
        addresses: &[String],
    ) -> Result<Self> {
        let start = async |caller: usize| {
            let share = streams / callers + usize::from(caller < streams % callers);
            let share = share.to_string();
            let mut arguments = vec!["consume", peer, &share];
            arguments.extend(addresses.iter().map(String::as_str));
            let (process, first) = Subprocess::start(&arguments).await?;
            ensure!(first == READY, "a caller said {first:?}");
            Ok(process)
        };
        Ok(Self(try_join_all((0..callers).map(start)).await?))
    }

    pub(crate) async fn end(self) -> Result<()> {
        for process in self.0 {
            process.end().await?;
        }
        Ok(())
    }
}

impl Consumers for ConsumerProcesses {
    async fn received(&mut self, since: &[usize]) -> Result<Vec<Received>> {
        // At once, so that all count at about the same time.
        try_join_all(self.0.iter_mut().map(|process| process.ask(&since))).await
    }
}

/// The other end: opens its streams, says so, and counts until its input ends.
pub(crate) async fn consume(
    peer: &dyn Contestant,
    streams: usize,
    addresses: &[String],
) -> Result<()> {
    let mut lanes = peer.consume(addresses, 1, streams).await?;
    subprocess::answer(READY, async |since: Vec<usize>| lanes.received(&since)).await
}
