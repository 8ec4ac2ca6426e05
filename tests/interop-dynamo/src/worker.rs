//! The worker's life: register, serve until told to stop, drain.

use std::sync::Arc;

use dynamo_runtime::pipeline::network::Ingress;
use dynamo_runtime::{DistributedRuntime, Runtime};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::Arguments;
use crate::duplex::Echo;
use crate::engine::Engine;
use crate::{environment, line};

/// How many items a request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One.
    Unary,
    /// A stream of them.
    Bidirectional,
}

/// Serves the endpoint until SIGTERM (or the end of standard input, when asked), then drains and returns.
pub async fn serve(arguments: &Arguments, shape: Shape) -> anyhow::Result<()> {
    environment::start_log();
    let runtime = Runtime::from_current()?;
    let distributed = DistributedRuntime::from_settings(runtime.clone()).await?;
    let name = &arguments.name;
    let endpoint = distributed
        .namespace(name.namespace.clone())?
        .component(name.component.clone())?
        .endpoint(name.endpoint.clone());
    let instance = format!("{:x}", distributed.connection_id());
    let quiet = arguments.quiet;
    let builder = endpoint.endpoint_builder();
    let builder = match shape {
        Shape::Unary => builder
            .handler(Ingress::for_engine(Arc::new(Engine { instance: instance.clone(), quiet }))?),
        Shape::Bidirectional => builder
            .handler(Ingress::for_engine(Arc::new(Echo { instance: instance.clone(), quiet }))?),
    };
    // Before the ready line, so that no signal sent after it can find the default action.
    let mut terminate = signal(SignalKind::terminate())?;
    let started = builder.start_with_registration().await?;
    line::print(&json!({
        "ready": true,
        "instance": instance,
        "pid": std::process::id(),
        "transport": started.instance().transport,
    }));
    tokio::select! {
        _ = terminate.recv() => {}
        () = stdin_closed(), if arguments.until_stdin_closes => {}
        // A lost lease shuts the runtime down without asking anyone.
        () = runtime.shutdown_started_token().cancelled_owned() => {}
    }
    line::print(&json!({ "draining": true }));
    runtime.shutdown();
    started.wait().await?;
    line::print(&json!({ "stopped": true }));
    // Standard input may still be blocked in a read, which would hold the runtime's end up.
    std::process::exit(0)
}

async fn stdin_closed() {
    let mut stdin = tokio::io::stdin();
    let mut ignored = [0; 256];
    while matches!(stdin.read(&mut ignored).await, Ok(read) if read > 0) {}
}
