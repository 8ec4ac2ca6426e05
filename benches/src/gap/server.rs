//! The worker: streams that an engine pushes into, pass after pass, and requests that wait for a
//! cancel.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Result;
use bytes::{BufMut, Bytes, BytesMut};
use clap::Args;
use sinew::{
    Code, Context, DiscoverySource, Error, Headers, ResponseSink, Runtime, TrySendError, burst,
    push_engine_fn,
};
use tokio::{
    io::AsyncReadExt,
    sync::mpsc,
    time::{self, MissedTickBehavior},
};

use super::{nanos, settings};

/// Streams of which each pass has an item for.
pub(super) const LANES: &str = "bench/gap/lanes";
/// Requests that end when they are cancelled, and say in the facts when they heard of it.
pub(super) const CANCELS: &str = "bench/gap/cancels";
/// The name of that fact, whose value is in nanoseconds.
pub(super) const HEARD: &str = "heard";

/// Bytes of an item: when it was made, and what a token has around it.
const ITEM_BYTES: usize = 64;
/// Streams that may wait for their first pass.
const WAITING: usize = 4_096;

#[derive(Debug, Args)]
pub(crate) struct ServeOptions {
    folder: PathBuf,
    listen: SocketAddr,
    /// What callers are told: the proxy
    advertise: String,
    /// From one pass to the next
    pass_micros: u64,
}

/// Serves until its input ends.
pub(crate) async fn serve(options: &ServeOptions) -> Result<()> {
    let source = DiscoverySource::File(options.folder.clone());
    let runtime = Runtime::builder().discovery(source).configure(|config| {
        settings(config);
        config.listen = options.listen;
        config.advertise = Some(options.advertise.clone());
    });
    let runtime = runtime.build().await?;
    let (give, lanes) = mpsc::channel(WAITING);
    let engine = tokio::spawn(passes(lanes, Duration::from_micros(options.pass_micros)));
    let push = push_engine_fn(move |_, sink| {
        give.try_send(sink).map_err(|refused| {
            let error = Error::new(Code::Overloaded, "too many streams wait for a pass");
            Box::new((error, refused.into_inner()))
        })
    });
    let lanes = runtime.serve_named(LANES.parse()?).max_in_flight(WAITING).push_engine(push);
    let park = push_engine_fn(|request, sink| {
        let (body, context) = request.into_parts();
        tokio::spawn(wait_for_cancel(body, context, sink));
        Ok(())
    });
    let cancels = runtime.serve_named(CANCELS.parse()?).max_in_flight(WAITING).push_engine(park);
    let _served = (lanes.await?, cancels.await?);
    let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
    engine.abort();
    runtime.shutdown(Duration::ZERO).await;
    Ok(())
}

/// An engine with one batch loop, as one that makes a token for each stream in each step.
async fn passes(mut waiting: mpsc::Receiver<ResponseSink>, every: Duration) {
    let mut lanes: Vec<ResponseSink> = Vec::new();
    let mut ticks = time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        while let Ok(lane) = waiting.try_recv() {
            lanes.push(lane);
        }
        burst(|| {
            lanes.retain_mut(|lane| {
                let sent = lane.try_send(stamped());
                // A lane without credit misses a pass.
                sent.is_ok() || matches!(sent, Err(TrySendError::Full(_)))
            });
        });
    }
}

fn stamped() -> Bytes {
    let mut item = BytesMut::zeroed(ITEM_BYTES);
    item[..8].copy_from_slice(&nanos().to_be_bytes());
    item.freeze()
}

/// When an item was made.
pub(super) fn stamp(item: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    (&mut bytes[..]).put_slice(item.get(..8).unwrap_or(&[0; 8]));
    u64::from_be_bytes(bytes)
}

/// Does what the body says, and ends when it is stopped.
async fn wait_for_cancel(body: Bytes, context: Context, mut sink: ResponseSink) {
    match &body[..] {
        b"after" => drop(sink.send(stamped()).await),
        b"parked" => {
            let send = async { while sink.send(stamped()).await.is_ok() {} };
            tokio::select! {
                biased;
                () = context.stopped() => {}
                () = send => {}
            }
        }
        _ => {
            sink.accept();
            sink.flush();
        }
    }
    context.stopped().await;
    let mut facts = Headers::new();
    if facts.insert(HEARD, &nanos().to_string()).is_ok() {
        sink.complete_with(facts);
    }
}
