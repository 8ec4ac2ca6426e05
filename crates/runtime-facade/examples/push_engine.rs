//! One batch loop feeds many responses, as an inference engine does.
//!
//! Each step of the loop emits one token for every request in the batch. The step runs inside
//! [`sinew::burst`], so its tokens leave in one write per connection, not one per request.
//!
//! ```sh
//! cargo run -p sinew --example push_engine
//! ```
#![allow(clippy::print_stdout, reason = "an example talks to people")]

use std::time::Duration;

use futures_util::future;
use sinew::{
    Code, DiscoverySource, Endpoint, Error, Router, Runtime, SingleIn, TrySendValueError,
    ValueSink, burst,
};
use tokio::sync::mpsc;

const GENERATE: Endpoint<String, String> = Endpoint::new("examples/llm/generate");

/// Tokens per response.
const TOKENS: usize = 5;

/// Requests that wait to join the batch; more are refused, and the router asks elsewhere.
const WAITING: usize = 256;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let runtime = Runtime::builder().discovery(DiscoverySource::Memory).build().await?;

    let (submit, waiting) = mpsc::channel(WAITING);
    let engine = tokio::spawn(batch_loop(waiting));
    let accept = move |request: SingleIn<String>, sink: ValueSink<String>| {
        let prompt = request.into_parts().0;
        submit.try_send(Slot { prompt, sink, emitted: 0 }).map_err(|full| {
            let error = Error::new(Code::Overloaded, "the batch is full");
            Box::new((error, full.into_inner().sink))
        })
    };
    let served = runtime.serve(&GENERATE, accept).await?;

    let router = runtime.router(&GENERATE);
    let calls = (0..4).map(|n| complete(&router, n));
    for text in future::try_join_all(calls).await? {
        println!("{text}");
    }

    served.drain().await;
    runtime.shutdown(Duration::from_secs(1)).await;
    drop((served, runtime)); // the endpoint held the engine's queue: without it the loop ends
    engine.await?;
    Ok(())
}

async fn complete(router: &Router<String, String>, n: usize) -> Result<String, Error> {
    Ok(router.call(format!("prompt {n}:")).collect().await?.concat())
}

/// One request in the batch.
struct Slot {
    prompt: String,
    sink: ValueSink<String>,
    emitted: usize,
}

async fn batch_loop(mut waiting: mpsc::Receiver<Slot>) {
    let mut batch: Vec<Slot> = Vec::new();
    loop {
        if batch.is_empty() {
            match waiting.recv().await {
                Some(slot) => batch.push(slot),
                None => return,
            }
        }
        while let Ok(slot) = waiting.try_recv() {
            batch.push(slot);
        }
        // The decode step of a real engine stands here.
        tokio::task::yield_now().await;
        burst(|| batch = std::mem::take(&mut batch).into_iter().filter_map(emit).collect());
    }
}

/// Emits one token; the slot again if it has more.
fn emit(mut slot: Slot) -> Option<Slot> {
    if slot.emitted == TOKENS {
        slot.sink.complete();
        return None;
    }
    let token = match slot.emitted {
        0 => slot.prompt.clone(),
        n => format!(" token{n}"),
    };
    match slot.sink.try_send(&token) {
        Ok(()) => slot.emitted += 1,
        // This caller reads slowly: it skips the step, and nobody else waits for it.
        Err(TrySendValueError::Full) => {}
        // It went away: its place in the batch is free.
        Err(_) => return None,
    }
    Some(slot)
}
