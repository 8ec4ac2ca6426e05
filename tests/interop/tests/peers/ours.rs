//! The Sinew worker, and the Sinew caller that is this process.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;
use sinew::{Config, Context, Error, Outcome, PushRouter, RouterMode, Runtime, SingleIn};

use crate::{
    place::{Codec, Place},
    process::{Process, soon},
};

/// A Sinew worker that does the same jobs as a stock one.
pub(crate) async fn worker(place: &Place, codec: Codec) -> Process {
    worker_with(place, codec, &[]).await
}

/// The same with further settings.
pub(crate) async fn worker_with(place: &Place, codec: Codec, more: &[(&str, &str)]) -> Process {
    let name = place.endpoint.to_string();
    let program = env!("CARGO_BIN_EXE_sinew-peer");
    Process::start(program, &[&name, codec.name()], &place.variables_and(more)).await
}

/// A Sinew runtime with a router.
pub(crate) struct Caller {
    runtime: Runtime,
    pub(crate) router: PushRouter<Value, Value>,
}

/// How one of its calls went.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) items: Vec<Value>,
    pub(crate) outcome: Outcome,
    /// What the stream raised at its end.
    pub(crate) error: Option<Error>,
}

impl Caller {
    /// A caller that sees exactly so many instances.
    pub(crate) async fn start(place: &Place, instances: usize) -> Self {
        Self::start_with(place, instances, |_| {}).await
    }

    /// The same with further settings.
    pub(crate) async fn start_with(
        place: &Place,
        instances: usize,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = Config::from_variables(place.variables()).unwrap();
        change(&mut config);
        let runtime = Runtime::new(config.checked().unwrap()).await.unwrap();
        let client = runtime.client(place.endpoint.clone());
        let router = PushRouter::from_client(client, RouterMode::RoundRobin).await.unwrap();
        let caller = Self { runtime, router };
        caller.wait_for(instances).await;
        caller
    }

    /// Waits until it sees exactly so many instances.
    pub(crate) async fn wait_for(&self, instances: usize) {
        let mut view = self.runtime.instances();
        let changes = async {
            while self.router.client().instances().len() != instances {
                view.changed().await.expect("discovery lives");
            }
        };
        soon("the instances", changes).await;
    }

    /// One call, read to its end; an error is one before the response began.
    pub(crate) async fn call(&self, job: Value) -> Result<Ended, Error> {
        self.call_in(Context::new(), job).await
    }

    /// The same in a context of its own.
    pub(crate) async fn call_in(&self, context: Context, job: Value) -> Result<Ended, Error> {
        let request = SingleIn::with_context(job, context);
        let mut response = soon("an answer", self.router.generate(request)).await?;
        let (mut items, mut raised) = (Vec::new(), None);
        while let Some(item) = soon("an item", response.next()).await {
            match item {
                Ok(item) => items.push(item),
                Err(error) => raised = Some(error),
            }
        }
        Ok(Ended { items, outcome: response.outcome().unwrap().clone(), error: raised })
    }

    pub(crate) async fn end(self) {
        self.runtime.shutdown(Duration::from_secs(5)).await;
    }
}
