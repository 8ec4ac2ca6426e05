//! An ingress with a recorder, and the far end of an exchange.

use std::{
    sync::Arc,
    task::{Context as Poller, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use parking_lot::Mutex;
use sinew_ingress::{EndpointConfig, Handler, Ingress, IngressConfig, ServedEndpoint};
use sinew_plane::{
    Checkpoint, Code, Context, Error, Executed, Headers, IncomingRequest, InstanceId, ItemRun,
    PeerFacts, RequestHandler, ResponseSink, SinkTarget, Terminal, TransportId, TrySendError,
    try_send_each,
};
use tokio::{sync::Notify, time::timeout};

/// Far longer than anything here takes; only a failure waits for it.
pub(crate) const GUARD: Duration = Duration::from_secs(60);
pub(crate) const NAME: &str = "test/unit/echo";

/// A context whose deadline is that far away on the clock of the timers. A paused clock runs
/// ahead of the system's, which `ContextBuilder::timeout` reads.
pub(crate) fn due_in(time: Duration) -> Context {
    let deadline = tokio::time::Instant::now() + time;
    Context::builder().deadline(deadline.into_std()).build()
}

/// An ingress whose metrics can be read.
pub(crate) struct Fixture {
    pub(crate) ingress: Ingress,
    recorder: PrometheusRecorder,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with(IngressConfig::default())
    }

    pub(crate) fn with(config: IngressConfig) -> Self {
        Self::build(|| Ingress::new(config))
    }

    pub(crate) fn build(ingress: impl FnOnce() -> Ingress) -> Self {
        sinew_telemetry::enable_timing();
        let recorder = PrometheusBuilder::new().build_recorder();
        let ingress = metrics::with_local_recorder(&recorder, ingress);
        Self { ingress, recorder }
    }

    pub(crate) fn serve(&self, handler: impl Into<Handler>) -> ServedEndpoint {
        self.serve_as(1, EndpointConfig::default(), handler)
    }

    pub(crate) fn serve_as(
        &self,
        instance: u64,
        config: EndpointConfig,
        handler: impl Into<Handler>,
    ) -> ServedEndpoint {
        metrics::with_local_recorder(&self.recorder, || {
            self.ingress.serve(NAME.parse().unwrap(), InstanceId(instance), config, handler)
        })
    }

    /// The value of a metric of the served endpoint; `labels` follow the endpoint's.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str, labels: &str) -> u64 {
        self.metric_of(NAME, name, labels)
    }

    #[track_caller]
    pub(crate) fn metric_of(&self, endpoint: &str, name: &str, labels: &str) -> u64 {
        let start = format!("{name}{{endpoint=\"{endpoint}\"{labels}}} ");
        let text = self.recorder.handle().render();
        let line = text.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("{start} is not in\n{text}")).parse().unwrap()
    }

    pub(crate) fn errors(&self, category: &str) -> u64 {
        self.metric("ingress_errors_total", &format!(",category=\"{category}\""))
    }

    /// Nothing is in flight, by every count.
    #[track_caller]
    pub(crate) fn assert_idle(&self) {
        assert_eq!(self.ingress.in_flight(), 0);
        assert_eq!(self.metric("ingress_in_flight_requests", ""), 0);
    }

    pub(crate) fn call(&self, body: impl Into<Bytes>) -> Arc<Consumer> {
        self.call_with(body, Context::new())
    }

    pub(crate) fn call_with(&self, body: impl Into<Bytes>, context: Context) -> Arc<Consumer> {
        self.send(NAME, 1, body, Consumer::new(usize::MAX, context))
    }

    pub(crate) fn send(
        &self,
        endpoint: &str,
        instance: u64,
        body: impl Into<Bytes>,
        consumer: Arc<Consumer>,
    ) -> Arc<Consumer> {
        self.send_with_secret((endpoint, instance), body, consumer, 0)
    }

    /// As over a transport whose streams others can read, if they have the secret.
    pub(crate) fn send_with_secret(
        &self,
        (endpoint, instance): (&str, u64),
        body: impl Into<Bytes>,
        consumer: Arc<Consumer>,
        secret: u64,
    ) -> Arc<Consumer> {
        let context = consumer.context.clone();
        let sink = ResponseSink::new(Arc::clone(&consumer) as _, context.clone());
        let request = IncomingRequest {
            endpoint,
            instance: InstanceId(instance),
            body: body.into(),
            context,
            transport: &TransportId::from_static("test"),
            peer: &PeerFacts::UNKNOWN,
            attempt: 0,
            secret,
        };
        self.ingress.handle(request, sink);
        consumer
    }
}

/// The far end of a response stream.
pub(crate) struct Consumer {
    pub(crate) context: Context,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) items: Vec<Bytes>,
    /// How many of the items have been flushed.
    pub(crate) seen: usize,
    pub(crate) accepted: bool,
    pub(crate) head: Option<Headers>,
    pub(crate) facts: Headers,
    /// Each with the number of items that had come before it.
    pub(crate) checkpoints: Vec<(Checkpoint, usize)>,
    pub(crate) flushes: usize,
    pub(crate) refuse_items_with: Option<Error>,
    /// Called as the end arrives, before anyone else knows of it.
    pub(crate) on_end: Option<Box<dyn FnOnce() + Send>>,
    credit: usize,
    terminals: Vec<Terminal>,
    waiting: Option<Waker>,
}

impl Consumer {
    pub(crate) fn new(credit: usize, context: Context) -> Arc<Self> {
        let state = Mutex::new(State { credit, ..State::default() });
        Arc::new(Self { context, state, changed: Notify::new() })
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock())
    }

    pub(crate) fn grant(&self, items: usize) {
        let waiting = self.with(|state| {
            state.credit += items;
            state.waiting.take()
        });
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    pub(crate) async fn until(&self, condition: impl Fn(&State) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if condition(&self.state.lock()) {
                    return;
                }
                changed.await;
            }
        };
        timeout(GUARD, wait).await.expect("the condition came true");
    }

    /// Waits for the end.
    pub(crate) async fn end(&self) -> Terminal {
        self.until(|state| !state.terminals.is_empty()).await;
        self.with(|state| {
            assert_eq!(state.terminals.len(), 1, "one terminal and no more");
            state.terminals[0].clone()
        })
    }

    /// Waits for an end by an error, and says its code and whether it counts as executed.
    pub(crate) async fn failure(&self) -> (Code, Executed) {
        match self.end().await {
            Terminal::Failed { error } => (error.code(), error.executed()),
            other => panic!("expected a failure, got {other:?}"),
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.with(|state| !state.terminals.is_empty())
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        let text = |item: &Bytes| String::from_utf8(item.to_vec()).unwrap();
        self.with(|state| state.items.iter().map(text).collect())
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.lock());
        self.changed.notify_waiters();
        result
    }
}

impl SinkTarget for Consumer {
    fn poll_ready(&self, cx: &mut Poller<'_>) -> Poll<Result<(), Error>> {
        self.change(|state| {
            if state.credit > 0 {
                return Poll::Ready(Ok(()));
            }
            state.waiting = Some(cx.waker().clone());
            Poll::Pending
        })
    }

    fn try_send(&self, item: Bytes) -> Result<(), TrySendError> {
        self.change(|state| {
            if let Some(error) = &state.refuse_items_with {
                return Err(TrySendError::Closed(error.clone()));
            }
            assert!(state.terminals.is_empty(), "nothing follows the end");
            if state.credit == 0 {
                return Err(TrySendError::Full(item));
            }
            state.credit -= 1;
            state.items.push(item);
            Ok(())
        })
    }

    fn head(&self, head: Headers) {
        self.change(|state| state.head = Some(head));
    }

    fn set_facts(&self, facts: Headers) {
        self.change(|state| state.facts = facts);
    }

    fn checkpoint(&self, checkpoint: Checkpoint) {
        self.change(|state| {
            assert!(state.terminals.is_empty(), "nothing follows the end");
            let items = state.items.len();
            state.checkpoints.push((checkpoint, items));
        });
    }

    fn try_send_run(&self, run: &mut ItemRun) -> Result<usize, Error> {
        try_send_each(self, run)?;
        Ok(self.with(|state| state.credit))
    }

    fn accept(&self) {
        self.change(|state| state.accepted = true);
    }

    fn finish(&self, terminal: Terminal) {
        if let Some(on_end) = self.with(|state| state.on_end.take()) {
            on_end();
        }
        self.change(|state| state.terminals.push(terminal));
    }

    fn flush(&self) {
        self.change(|state| {
            state.flushes += 1;
            state.seen = state.items.len();
        });
    }
}
