//! What the workers do, and what they are asked.

use std::{sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use sinew::{Error, InstanceId, ServeBuilder, Served, SingleIn, engine_fn};
use tokio::{sync::watch, time::interval};

/// One request.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) items: u64,
    /// Milliseconds between two items: a worker that has something to do.
    pub(crate) every_ms: u64,
    /// Stops behind the first item until the gate is opened.
    pub(crate) is_held: bool,
}

impl Job {
    /// An ordinary request, of about 25 ms.
    pub(crate) const SHORT: Self = Self { items: 6, every_ms: 5, is_held: false };

    /// One that has begun, and goes on when the gate opens.
    pub(crate) const HELD: Self = Self { items: 20, every_ms: 0, is_held: true };
}

/// One item of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) number: u64,
    pub(crate) by: u64,
}

/// What the workers of one test have in common.
pub(crate) struct Shop {
    /// Handlers that were run.
    begun: watch::Sender<u64>,
    is_open: watch::Sender<bool>,
}

impl Shop {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { begun: watch::Sender::new(0), is_open: watch::Sender::new(false) })
    }

    /// Lets those that are held go on.
    pub(crate) fn open_gate(&self) {
        self.is_open.send_replace(true);
    }

    /// Handlers that were run so far.
    pub(crate) fn begun(&self) -> u64 {
        *self.begun.borrow()
    }

    /// Waits until so many were run.
    pub(crate) async fn has_begun(&self, handlers: u64) {
        // The sender is in this value.
        let _ = self.begun.subscribe().wait_for(|begun| *begun >= handlers).await;
    }

    pub(crate) async fn serve(self: &Arc<Self>, builder: ServeBuilder, id: InstanceId) -> Served {
        let shop = Arc::clone(self);
        let engine = engine_fn(move |request: SingleIn<Job>| {
            shop.begun.send_modify(|begun| *begun += 1);
            let items = items(*request.data(), id.0, shop.is_open.subscribe());
            async move { Ok::<_, Error>(items) }
        });
        builder.instance(id).engine(engine).await.unwrap()
    }
}

fn items(
    job: Job,
    by: u64,
    gate: watch::Receiver<bool>,
) -> impl Stream<Item = Result<Item, Error>> + Send + 'static {
    let pace = (job.every_ms > 0).then(|| interval(Duration::from_millis(job.every_ms)));
    stream::unfold((0, pace, gate), move |(number, mut pace, mut gate)| async move {
        if number == job.items {
            return None;
        }
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        if job.is_held && number == 1 {
            // Nobody opens it any more: the test is over.
            gate.wait_for(|is_open| *is_open).await.ok()?;
        }
        Some((Ok(Item { number, by }), (number + 1, pace, gate)))
    })
}
