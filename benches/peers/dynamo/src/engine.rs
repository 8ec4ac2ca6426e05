//! The worker: Dynamo's runtime around the service of the benchmark.

use std::sync::Arc;

use anyhow::Result;
use dynamo_runtime::{
    DistributedRuntime, Runtime,
    component::Endpoint,
    pipeline::{
        AsyncEngine, AsyncEngineContextProvider, Error, ManyOut, ResponseStream, SingleIn,
        async_trait, network::Ingress,
    },
    protocols::annotated::Annotated,
};
use futures_util::StreamExt;
use sinew_benches::{Ask, ReplySink, Server, Service, ready_items};
use tokio::{sync::OnceCell, task::JoinSet};

use crate::{environment, text::Text};

/// Dynamo's runtime keeps state per process, so there is one for all callers.
static RUNTIME: OnceCell<DistributedRuntime> = OnceCell::const_new();

pub(crate) const NAMESPACE: &str = "bench";
pub(crate) const COMPONENT: &str = "peer";
pub(crate) const ENDPOINT: &str = "ask";

pub(crate) async fn endpoint() -> Result<(DistributedRuntime, Endpoint)> {
    let make = || async { DistributedRuntime::from_settings(Runtime::from_current()?).await };
    let runtime = RUNTIME.get_or_try_init(make).await?.clone();
    let component = runtime.namespace(NAMESPACE)?.component(COMPONENT)?;
    Ok((runtime, component.endpoint(ENDPOINT)))
}

/// A registered worker.
pub(crate) struct Worker {
    address: String,
    /// What keeps it registered.
    _tasks: JoinSet<()>,
}

impl Worker {
    pub(crate) async fn start(service: Arc<Service<ReplySink>>) -> Result<Self> {
        let (runtime, endpoint) = endpoint().await?;
        let engine = Ingress::for_engine(Arc::new(Engine(service)))?;
        let started = endpoint.endpoint_builder().handler(engine).start_with_registration().await?;
        let instance = runtime.connection_id();
        let transport = started.instance().transport.address().to_owned();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // Until the process ends.
            let _ = started.wait().await;
        });
        Ok(Self { address: format!("{instance:x} {transport}"), _tasks: tasks })
    }
}

impl Server for Worker {
    /// The instance, then where it takes requests.
    fn address(&self) -> String {
        self.address.clone()
    }

    fn writes(&self) -> Option<u64> {
        None
    }

    fn helpers_cpu_ns(&self) -> u64 {
        environment::broker_cpu_ns()
    }
}

struct Engine(Arc<Service<ReplySink>>);

#[async_trait]
impl AsyncEngine<SingleIn<Text>, ManyOut<Annotated<Text>>, Error> for Engine {
    async fn generate(&self, input: SingleIn<Text>) -> Result<ManyOut<Annotated<Text>>, Error> {
        let (Text(body), context) = input.into_parts();
        let items = match Ask::read(&body)? {
            Ask::Stream { items, item_bytes } => ready_items(items, item_bytes).boxed(),
            _ => {
                let (sink, items) = ReplySink::many();
                self.0.call(body, sink);
                items.boxed()
            }
        };
        let items = items.map(|item| Annotated::from_data(Text(item)));
        Ok(ResponseStream::new(Box::pin(items), context.context()))
    }
}
