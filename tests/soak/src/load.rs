//! A caller under an even load: opens so many streams a second until its input ends.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Result;
use clap::Args;
use sinew::EndpointName;
use tokio::{
    io::AsyncReadExt,
    task::JoinSet,
    time::{self, MissedTickBehavior},
};

use crate::{
    caller::{Counts, Told, one, report, router},
    content::Ask,
};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The folder of discovery
    #[arg(long)]
    folder: PathBuf,
    #[arg(long)]
    endpoint: EndpointName,
    /// The number of the first stream
    #[arg(long)]
    first: u64,
    /// Microseconds from one stream to the next
    #[arg(long)]
    every_micros: u64,
    #[arg(long)]
    items: u64,
    #[arg(long)]
    pace_micros: u64,
    #[arg(long)]
    seed: u64,
}

/// No request is sent again by the caller: an error that it sees is one that a user sees.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let (runtime, router) = router(&options.folder, &options.endpoint).await?;
    let (router, counts) = (Arc::new(router), Arc::new(Counts::default()));
    let reporting = tokio::spawn(report(Arc::clone(&counts)));
    let Options { first, every_micros, items, pace_micros, seed, .. } = *options;
    let mut ticks = time::interval(Duration::from_micros(every_micros.max(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut input = tokio::io::stdin();
    let mut rest = [0; 64];
    let mut streams = JoinSet::new();
    let mut told = Told::default();
    for stream in first.. {
        tokio::select! {
            biased;
            _ = input.read(&mut rest) => break,
            _ = ticks.tick() => {}
        }
        let (router, counts) = (Arc::clone(&router), Arc::clone(&counts));
        let ask = Ask { stream, seed, items, pace_micros };
        streams.spawn(async move { one(&router, ask, 1, &counts).await });
        while let Some(ended) = streams.try_join_next() {
            told.add(ended?);
        }
    }
    while let Some(ended) = streams.join_next().await {
        told.add(ended?);
    }
    reporting.abort();
    let Told { faults, endings, .. } = told;
    let told = Told { faults, endings, is_over: true, ..counts.told() };
    println!("{}", serde_json::to_string(&told)?);
    runtime.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
