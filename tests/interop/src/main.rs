//! A Sinew worker that does the jobs of the stock Dynamo worker, in a process of its own.
//!
//! It is set up by the variables that set up a Dynamo process, prints one JSON line when it is
//! ready and one for each request's begin and end, and drains on SIGTERM.
#![allow(clippy::print_stdout, reason = "its lines are how the tests follow it")]

mod engine;
#[allow(unreachable_pub, dead_code, reason = "the vocabulary is the stock peer's own file")]
#[path = "../../interop-dynamo/src/job.rs"]
mod job;

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use sinew::{Runtime, engine_fn};
use tokio::{
    io::AsyncReadExt,
    signal::unix::{SignalKind, signal},
};

/// Longest time that requests in flight have once the worker is told to end.
const GRACE: Duration = Duration::from_secs(10);

fn main() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(serve())
}

async fn serve() -> anyhow::Result<()> {
    let name = std::env::args().nth(1).context("usage: sinew-peer ENDPOINT [CODEC]")?;
    let runtime = Runtime::from_env().await?;
    let instance = sinew::InstanceId::random();
    let mut builder = runtime.serve_named(name.parse()?).instance(instance);
    if let Some(codec) = std::env::args().nth(2) {
        builder = builder.codecs([codec]);
    }
    // Before the ready line, so that no signal sent behind it finds the default action.
    let mut terminate = signal(SignalKind::terminate())?;
    let served =
        builder.engine(engine_fn(move |request| engine::answer(instance, request))).await?;
    print(&json!({
        "ready": true,
        "instance": instance.to_string(),
        "pid": std::process::id(),
        "addresses": served.addresses().iter().map(|one| one.as_str()).collect::<Vec<_>>(),
    }));
    tokio::select! {
        _ = terminate.recv() => {}
        () = stdin_closed() => {}
    }
    let cut = runtime.shutdown(GRACE).await;
    print(&json!({ "stopped": true, "cut_streams": cut.cut_streams, "cut_tasks": cut.cut_tasks }));
    // Standard input may be in a read that nothing ends.
    std::process::exit(0)
}

/// The test that started this process is gone.
async fn stdin_closed() {
    let (mut stdin, mut ignored) = (tokio::io::stdin(), [0; 64]);
    while matches!(stdin.read(&mut ignored).await, Ok(1..)) {}
}

/// One line of JSON, whole.
fn print(line: &Value) {
    println!("{line}");
}
