//! A worker: answers each request with numbered items at an even pace, until its input ends.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Result;
use bytes::Bytes;
use clap::Args;
use serde::{Deserialize, Serialize};
use sinew::{
    Address, Code, Config, Context, Continuation, DiscoverySource, EndpointName, Error,
    ResponseSink, Runtime, push_engine_fn,
};
use tokio::{
    io::AsyncReadExt,
    signal::unix::{SignalKind, signal},
    time::{self, MissedTickBehavior},
};

use crate::{announced::Announced, content::Ask};

/// Items from one checkpoint to the next.
const CHECKPOINT_EVERY: u64 = 50;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The folder of discovery
    #[arg(long)]
    folder: PathBuf,
    #[arg(long)]
    endpoint: EndpointName,
    /// Where to listen; a free port of the loopback interface if not given
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// What callers are told: the proxy
    #[arg(long)]
    advertise: Option<String>,
    /// Another address that callers are told: that of a proxy, too
    #[arg(long)]
    also: Option<Address>,
    /// What may happen to its responses when it goes
    #[arg(long, default_value = "checkpoint")]
    continuation: String,
    /// How long requests may take to end when it is to end
    #[arg(long, default_value_t = 30_000)]
    grace_millis: u64,
}

/// What became of the requests that ran when the worker was to end: its last line, in JSON.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Left {
    pub(crate) finished: usize,
    pub(crate) handed_over: usize,
    pub(crate) cut: usize,
}

/// What it says once it serves.
pub(crate) const READY: &str = "ready";

/// What both ends have in common: keep-alive finds a silent connection within a second.
pub(crate) fn settings(config: &mut Config) {
    config.unix = false;
    config.tcp.driver.mux.keepalive_interval = Duration::from_millis(400);
    config.tcp.driver.mux.keepalive_timeout = Duration::from_secs(1);
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let source = DiscoverySource::File(options.folder.clone());
    let mut runtime = Runtime::builder().discovery(source).configure(|config| {
        settings(config);
        config.grace = Duration::from_millis(options.grace_millis);
        config.listen = options.listen.unwrap_or(config.listen);
        config.advertise.clone_from(&options.advertise);
    });
    if let Some(address) = &options.also {
        runtime = runtime.listener(Announced(address.clone()));
    }
    let runtime = runtime.build().await?;
    let engine = push_engine_fn(|request, sink| {
        let (body, context) = request.into_parts();
        match serde_json::from_slice(&body) {
            Ok(ask) => {
                tokio::spawn(answer(ask, context, sink));
                Ok(())
            }
            Err(error) => {
                let error = Error::new(Code::InvalidPayload, error.to_string());
                Err(Box::new((error, sink)))
            }
        }
    });
    let serving = runtime.serve_named(options.endpoint.clone());
    let continuation = Continuation::from_name(&options.continuation);
    let served = serving.continuation(continuation).push_engine(engine).await?;
    let mut terminated = signal(SignalKind::terminate())?;
    println!("{READY}");
    let (mut input, mut rest) = (tokio::io::stdin(), Vec::new());
    tokio::select! {
        // The parent's end of the pipe closes when the parent ends, however it ends.
        _ = input.read_to_end(&mut rest) => {}
        _ = terminated.recv() => {}
    }
    let drained = served.drain().await;
    let left = Left {
        finished: drained.finished_streams,
        handed_over: drained.handed_over_streams,
        cut: drained.cut_streams,
    };
    println!("{}", serde_json::to_string(&left)?);
    runtime.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

/// From where the response was continued: the number of the item is all the state there is.
async fn answer(ask: Ask, context: Context, mut sink: ResponseSink) {
    let begin = context.continued().map_or(0, |continued| continued.items);
    let mut ticks = time::interval(ask.pace().max(Duration::from_micros(1)));
    // What was due while the window was full leaves at once, so that the pace holds on average.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in begin..ask.items {
        ticks.tick().await;
        let is_due =
            (number + 1).is_multiple_of(CHECKPOINT_EVERY) || context.is_checkpoint_wanted();
        if is_due && sink.checkpoint("").is_err() {
            return;
        }
        let item: Bytes = ask.item(number);
        if sink.send(item).await.is_err() {
            return;
        }
    }
    sink.complete();
}
