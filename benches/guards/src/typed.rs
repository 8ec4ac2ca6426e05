//! The two ends of the typed loads: a service as its users write it, over the facade.

use std::{sync::OnceLock, time::Duration};

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use sinew::{DiscoverySource, Error, PushRouter, RouterMode, Runtime, Served, SingleIn, engine_fn};
use tempfile::TempDir;

use crate::ends::Ends;

/// Text of a request and of each item, as the bytes of the other loads.
const CALL_TEXT: usize = 128;
const ITEM_TEXT: usize = 64;

/// How long the caller waits for discovery to show the worker.
const FOUND_WITHIN: Duration = Duration::from_secs(20);

/// What travels both ways: a struct of three fields, in MessagePack.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Message {
    /// Of a request: how many items it wants, or none to have itself back.
    index: u32,
    text: String,
    last: bool,
}

/// How the ends are set up, and what is asked of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TypedLoad {
    /// How many items each request wants, if it does not want itself back.
    pub(crate) items: Option<usize>,
    /// Worker and caller are one runtime, so that a call is a call of the engine.
    pub(crate) in_process: bool,
    /// With the telemetry of a program that is watched.
    pub(crate) telemetry: bool,
}

/// A worker and a caller, each a runtime of its own in this process, over TCP and with discovery in
/// files; or both one runtime.
pub(crate) struct TypedEnds {
    router: PushRouter<Message, Message>,
    _caller: Runtime,
    _served: Served,
    _worker: Runtime,
    _folder: TempDir,
}

impl TypedEnds {
    pub(crate) async fn start(load: TypedLoad) -> Result<Self> {
        if load.telemetry {
            switch_telemetry_on()?;
        }
        let folder = tempfile::tempdir()?;
        let runtime = async || -> Result<Runtime> {
            let place = DiscoverySource::File(folder.path().join("discovery"));
            let builder = Runtime::builder().discovery(place);
            Ok(builder.configure(|config| config.unix = false).build().await?)
        };
        let worker = runtime().await?;
        let caller = if load.in_process { worker.clone() } else { runtime().await? };
        let name: sinew::EndpointName = "guards/typed/ask".parse()?;
        let engine = engine_fn(|request: SingleIn<Message>| async move {
            Ok::<_, Error>(answer(request.into_parts().0))
        });
        let served = worker.serve_named(name.clone()).engine(engine).await?;
        let client = caller.client(name);
        client.wait_for_instances(FOUND_WITHIN).await?;
        let router = PushRouter::from_client(client, RouterMode::RoundRobin).await?;
        Ok(Self { router, _caller: caller, _served: served, _worker: worker, _folder: folder })
    }

    /// One request after the other, each with its whole response.
    pub(crate) async fn call(&self, times: usize, items: Option<usize>) -> Result<()> {
        for _ in 0..times {
            let index = items.map_or(0, |items| items as u32);
            let request = Message { index, text: "x".repeat(CALL_TEXT), last: true };
            let mut response = self.router.generate(request).await?;
            let mut received = 0;
            while let Some(item) = response.next().await {
                received += usize::from(!item?.text.is_empty());
            }
            let expected = items.unwrap_or(1);
            ensure!(received == expected, "{received} items came in place of {expected}");
        }
        Ok(())
    }
}

fn answer(request: Message) -> impl futures_util::Stream<Item = Result<Message, Error>> + Send {
    match request.index {
        0 => stream::once(std::future::ready(Ok(request))).left_stream(),
        items => {
            let item = move |index| {
                Ok(Message { index, text: "i".repeat(ITEM_TEXT), last: index + 1 == items })
            };
            stream::iter((0..items).map(item)).right_stream()
        }
    }
}

/// A recorder that collects, and a subscriber at `info` whose lines go nowhere: what a service in
/// production has. It cannot be taken back, so the loads with it are counted last.
fn switch_telemetry_on() -> Result<()> {
    static SWITCHED: OnceLock<bool> = OnceLock::new();
    let on = SWITCHED.get_or_init(|| {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let installed = metrics::set_global_recorder(recorder).is_ok();
        sinew_telemetry::enable_timing();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::INFO)
            .with_writer(std::io::sink)
            .finish();
        installed && tracing::subscriber::set_global_default(subscriber).is_ok()
    });
    on.then_some(()).context("this process has another recorder or subscriber")
}

/// Items of a typed stream.
pub(crate) const STREAM_ITEMS: usize = Ends::STREAM_ITEMS;
