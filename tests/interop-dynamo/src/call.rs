//! One call: opened, read to its end, cancelled half way if asked, and told line by line.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dynamo_runtime::pipeline::context::Controller;
use dynamo_runtime::pipeline::{
    AsyncEngine, AsyncEngineContext, AsyncEngineContextProvider, Context, ManyOut, PushRouter,
    RequestStream,
};
use dynamo_runtime::protocols::annotated::Annotated;
use dynamo_runtime::protocols::maybe_error::MaybeError;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{failure, line};

/// The router that every call of a client shares.
pub type Router = PushRouter<Value, Annotated<Value>>;

/// What to call and when to give up.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Call {
    /// The body; ignored when `items` is given.
    pub request: Value,
    /// The request's items, for a bidirectional endpoint.
    pub items: Option<Vec<Value>>,
    /// Sends `items` over and over until the call ends.
    pub repeat: bool,
    /// Milliseconds before each request item.
    pub item_delay_ms: u64,
    pub mode: Mode,
    /// The instance to call, in hexadecimal, for `mode: "direct"`.
    pub instance: Option<String>,
    /// Cancel when this many items have come.
    pub cancel_after: Option<u64>,
    /// Cancel this many milliseconds after the call began, whether or not it has a stream yet.
    pub cancel_after_ms: Option<u64>,
    pub how: How,
    /// The request's id; Dynamo makes one up without it.
    pub request_id: Option<String>,
    /// Travels in the request's envelope.
    pub metadata: BTreeMap<String, String>,
    /// Print no items, only the end.
    pub quiet: bool,
}

/// Who chooses the worker.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    #[default]
    RoundRobin,
    Random,
    /// The command: `instance`.
    Direct,
}

/// How a call is cancelled.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum How {
    #[default]
    Stop,
    Kill,
    /// By dropping the stream.
    Drop,
    /// Kill, then stop: in Dynamo the second undoes the first.
    KillThenStop,
}

/// How a call went.
#[derive(Debug, Default)]
pub struct Ended {
    pub items: u64,
    /// The worker that the last item named.
    pub worker: Option<String>,
    pub error: Option<Value>,
    pub bytes: usize,
    pub opened: Duration,
    pub first_item: Option<Duration>,
    pub took: Duration,
    /// From the cancellation to the end of the stream.
    pub after_cancel: Option<Duration>,
    /// Items that came after the cancellation.
    pub items_after_cancel: u64,
}

impl Call {
    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.request.is_null() && self.items.is_none()
    }

    /// Runs the call; with `id` it tells each item and the end in lines.
    pub async fn run(&self, router: &Router, id: Option<&Value>) -> Ended {
        let began = Instant::now();
        let mut ended = Ended::default();
        let controller = self.request_id.clone().map(Controller::new).unwrap_or_default();
        let mut context = Context::with_controller((), controller);
        context.set_metadata(self.metadata.clone());
        let timer = self.cancel_after_ms.map(|after| {
            let (context, how) = (context.context(), self.how);
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(after)).await;
                how.apply(context.as_ref());
            })
        });
        match self.open(router, context).await {
            Err(error) => ended.error = Some(failure::of_call(&error)),
            Ok(stream) => {
                ended.opened = began.elapsed();
                self.read(stream, began, id, &mut ended).await;
            }
        }
        if let Some(timer) = timer {
            timer.abort();
        }
        ended.took = began.elapsed();
        if let Some(id) = id {
            line::print(&ended.line(id));
        }
        ended
    }

    async fn open(
        &self,
        router: &Router,
        context: Context<()>,
    ) -> anyhow::Result<ManyOut<Annotated<Value>>> {
        if let Some(items) = &self.items {
            let delay = Duration::from_millis(self.item_delay_ms);
            let items: Box<dyn Iterator<Item = Value> + Send> = match self.repeat {
                true => Box::new(items.clone().into_iter().cycle()),
                false => Box::new(items.clone().into_iter()),
            };
            let items = futures::stream::iter(items).then(move |item| async move {
                tokio::time::sleep(delay).await;
                item
            });
            return router.generate(context.map(|()| RequestStream::new(Box::pin(items)))).await;
        }
        let request = context.map(|()| self.request.clone());
        match (self.mode, &self.instance) {
            (Mode::RoundRobin, _) => router.round_robin(request).await,
            (Mode::Random, _) => router.random(request).await,
            (Mode::Direct, Some(instance)) => {
                router.direct(request, u64::from_str_radix(instance, 16)?).await
            }
            (Mode::Direct, None) => anyhow::bail!("a direct call names its instance"),
        }
    }

    async fn read(
        &self,
        mut stream: ManyOut<Annotated<Value>>,
        began: Instant,
        id: Option<&Value>,
        ended: &mut Ended,
    ) {
        let mut cancelled = None;
        loop {
            if self.cancel_after == Some(ended.items) && cancelled.is_none() {
                cancelled = Some(Instant::now());
                if self.how == How::Drop {
                    break;
                }
                self.how.apply(stream.context().as_ref());
            }
            let Some(item) = stream.next().await else { break };
            ended.first_item.get_or_insert_with(|| began.elapsed());
            if let Some(error) = item.err() {
                ended.error = Some(failure::of_item(&error));
                continue;
            }
            let value = item.data.unwrap_or_default();
            if let Some(worker) = value.get("worker").and_then(Value::as_str) {
                ended.worker = Some(worker.to_owned());
            }
            ended.items += 1;
            ended.items_after_cancel += u64::from(cancelled.is_some());
            match id {
                Some(id) if !self.quiet => line::print(&json!({ "id": id, "item": value })),
                Some(_) => ended.bytes += value.to_string().len(),
                None => {}
            }
        }
        ended.after_cancel = cancelled.map(|at| at.elapsed());
    }
}

impl How {
    fn apply(self, context: &dyn AsyncEngineContext) {
        match self {
            Self::Stop => context.stop_generating(),
            // A timer has no stream to drop; killing the context is what dropping the stream comes to.
            Self::Kill | Self::Drop => context.kill(),
            Self::KillThenStop => {
                context.kill();
                context.stop_generating();
            }
        }
    }
}

impl Ended {
    /// `{"id", "end": items, ..}`, and `error` in it when there was one.
    fn line(&self, id: &Value) -> Value {
        let mut line = json!({ "id": id, "end": self.items, "ms": millis(self.took), "open_ms": millis(self.opened) });
        if let Some(error) = &self.error {
            line["error"] = error.clone();
        }
        if let Some(worker) = &self.worker {
            line["worker"] = json!(worker);
        }
        if self.bytes > 0 {
            line["bytes"] = json!(self.bytes);
        }
        if let Some(after) = self.after_cancel {
            line["after_cancel"] = json!({ "ms": millis(after), "items": self.items_after_cancel });
        }
        line
    }
}

/// Milliseconds with a fraction.
pub fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
