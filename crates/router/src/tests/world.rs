//! Instances whose behaviour is scripted, and a record of what reached them.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{self, Poll},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_core::{Serialize, de::DeserializeOwned};
use sinew_discovery::{Discovery, Instance, MemoryDiscovery, Registration};
use sinew_plane::{
    Address, BoxFuture, CancelReason, Checkpoint, Code, DuplexTransport, EndpointName, Error,
    Headers, InstanceId, ItemBatch, OutgoingRequest, ResponseSource, ResponseStream, ResumeRequest,
    Shutdown, SourceEvent, StopKind, Terminal, TransportCapabilities, TransportId,
};
use sinew_registry::{LocalEndpoints, LocalProcess, TransportRegistration, TransportRegistry};

use crate::{Client, PushRouter, RouterMode};

/// What an instance does with a request.
#[derive(Debug, Clone)]
pub(super) enum Script {
    /// No connection, or a refusal by the transport.
    FailOpen(Code),
    /// A connection whose peer never says hello.
    NeverConnect,
    /// A connection that fails after so many milliseconds.
    FailConnect(u64),
    /// A connection that takes so many milliseconds; one item from then on.
    Connect(u64),
    /// Taken by the connection, then an error before the handler began.
    FailStart(Error),
    /// These items, then complete.
    Items(Vec<Bytes>),
    /// These items, then the connection is lost.
    Break(Vec<Bytes>),
    /// These items, then the connection is lost; the worker has sent this checkpoint.
    BreakBehind(Vec<Bytes>, Checkpoint),
    /// These items, then nothing more.
    Silence(Vec<Bytes>),
    /// These items, then the stream is cancelled by the worker.
    Cut(Vec<Bytes>, CancelReason),
    /// These items, then an error of the handler.
    Fail(Vec<Bytes>, Error),
    /// The handler never takes it.
    NeverStart,
    /// The handler takes it and never says anything.
    StartThenSilence,
}

/// What reached an instance.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) at: u64,
    pub(super) request: OutgoingRequest,
}

#[derive(Default)]
pub(super) struct Record {
    pub(super) seen: Mutex<Vec<Seen>>,
    /// Streams that were given up, ended or not.
    pub(super) abandoned: AtomicUsize,
    /// The items from which streams were to be taken over.
    pub(super) taken_over: Mutex<Vec<u64>>,
}

struct Fake {
    id: TransportId,
    capabilities: TransportCapabilities,
    scripts: Mutex<HashMap<u64, Script>>,
    /// What takes the place of the script of an instance after each request, one after the other.
    later: Mutex<HashMap<u64, VecDeque<Script>>>,
    /// What who takes streams over gets, one after the other.
    given: Mutex<VecDeque<Script>>,
    record: Arc<Record>,
}

impl DuplexTransport for Fake {
    fn id(&self) -> &TransportId {
        &self.id
    }

    fn capabilities(&self) -> &TransportCapabilities {
        &self.capabilities
    }

    fn dials(&self, address: &Address) -> bool {
        address.scheme() == "fake"
    }

    fn open<'a>(
        &'a self,
        address: &'a Address,
        request: OutgoingRequest,
    ) -> BoxFuture<'a, Result<ResponseStream, Error>> {
        Box::pin(async move {
            if let Some(connecting) = self.connect(address) {
                connecting.await?;
            }
            let (at, script) = (address.rest().parse().unwrap(), self.script(address));
            let (context, limits) = (request.context.clone(), request.limits);
            let record = Arc::clone(&self.record);
            record.seen.lock().push(Seen { at, request });
            if let Some(next) = self.later.lock().get_mut(&at).and_then(VecDeque::pop_front) {
                self.scripts.lock().insert(at, next);
            }
            if let Script::FailOpen(code) = script {
                return Err(Error::new(code, format!("instance {at} failed as told")));
            }
            Ok(ResponseStream::limited(Arc::new(Source::new(script, record)), context, limits))
        })
    }

    fn connect<'a>(&'a self, address: &'a Address) -> Option<BoxFuture<'a, Result<(), Error>>> {
        // tidy-allow: sleep, this is how long the scripted peer takes, of paused time
        let after = |millis| tokio::time::sleep(Duration::from_millis(millis));
        match self.script(address) {
            Script::NeverConnect => Some(Box::pin(std::future::pending())),
            Script::FailConnect(millis) => Some(Box::pin(async move {
                after(millis).await;
                Err(Error::new(Code::ConnectFailed, "as told"))
            })),
            Script::Connect(millis) => Some(Box::pin(async move {
                after(millis).await;
                self.scripts.lock().insert(address.rest().parse().unwrap(), says(&["hi"]));
                Ok(())
            })),
            _ => None,
        }
    }

    fn resume<'a>(
        &'a self,
        _: &'a Address,
        request: ResumeRequest,
    ) -> BoxFuture<'a, Result<ResponseStream, Error>> {
        Box::pin(async move {
            let ResumeRequest { token, context, limits, .. } = request;
            let record = Arc::clone(&self.record);
            record.taken_over.lock().push(token.next_item);
            let script = self.given.lock().pop_front();
            let script = script.unwrap_or_else(|| refuses(Code::ResumeExpired));
            let stream =
                ResponseStream::limited(Arc::new(Source::new(script, record)), context, limits);
            Ok(stream.beginning_at(token.next_item))
        })
    }

    fn close(&self, _: Duration) -> BoxFuture<'_, Shutdown> {
        Box::pin(async { Shutdown::default() })
    }
}

impl Fake {
    fn script(&self, address: &Address) -> Script {
        let at = address.rest().parse().unwrap();
        self.scripts.lock()[&at].clone()
    }
}

struct Source {
    started: Option<Result<(), Error>>,
    items: Mutex<VecDeque<Bytes>>,
    /// `None` for a handler that says nothing more.
    end: Option<End>,
    checkpoint: Option<Checkpoint>,
    record: Arc<Record>,
}

enum End {
    Cancelled(CancelReason),
    Complete(u64),
    Failed(Error),
    Lost,
}

impl End {
    fn event(&self) -> SourceEvent {
        match self {
            Self::Complete(items) => SourceEvent::Ended(Terminal::Complete { items: *items }),
            Self::Cancelled(reason) => SourceEvent::Ended(Terminal::Cancelled { reason: *reason }),
            Self::Failed(error) => SourceEvent::Ended(Terminal::Failed { error: error.clone() }),
            Self::Lost => SourceEvent::Lost(Error::new(Code::ConnectionLost, "as told")),
        }
    }
}

impl Source {
    fn new(script: Script, record: Arc<Record>) -> Self {
        let checkpoint = match &script {
            Script::BreakBehind(_, checkpoint) => Some(checkpoint.clone()),
            _ => None,
        };
        let (started, items, end) = match script {
            Script::FailOpen(_)
            | Script::NeverConnect
            | Script::FailConnect(_)
            | Script::Connect(_) => unreachable!("has no stream"),
            Script::FailStart(error) => (Some(Err(error)), Vec::new(), None),
            Script::Items(items) => {
                let end = End::Complete(items.len() as u64);
                (Some(Ok(())), items, Some(end))
            }
            Script::Break(items) | Script::BreakBehind(items, _) => {
                (Some(Ok(())), items, Some(End::Lost))
            }
            Script::Silence(items) => (Some(Ok(())), items, None),
            Script::Cut(items, reason) => (Some(Ok(())), items, Some(End::Cancelled(reason))),
            Script::Fail(items, error) => (Some(Ok(())), items, Some(End::Failed(error))),
            Script::NeverStart => (None, Vec::new(), None),
            Script::StartThenSilence => (Some(Ok(())), Vec::new(), None),
        };
        Self { started, items: Mutex::new(items.into()), end, checkpoint, record }
    }
}

impl ResponseSource for Source {
    fn poll_started(&self, _: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        // Nobody wakes what is pending: only the caller's own clock or cancel ends the wait.
        self.started.clone().map_or(Poll::Pending, Poll::Ready)
    }

    fn poll_head(&self, _: &mut task::Context<'_>) -> Poll<Headers> {
        Poll::Ready(Headers::new())
    }

    fn facts(&self) -> Headers {
        Headers::new()
    }

    fn checkpoint(&self) -> Option<Checkpoint> {
        self.checkpoint.clone()
    }

    fn poll_batch(&self, _: &mut task::Context<'_>, batch: &mut ItemBatch) -> Poll<SourceEvent> {
        let mut items = self.items.lock();
        if !items.is_empty() {
            items.drain(..).for_each(|item| batch.push(item));
            return Poll::Ready(SourceEvent::Items);
        }
        self.end.as_ref().map_or(Poll::Pending, |end| Poll::Ready(end.event()))
    }

    fn cancel(&self, _: StopKind) {}

    fn abandon(&self) {
        self.record.abandoned.fetch_add(1, Ordering::Relaxed);
    }
}

/// A discovery, a transport and a process that calls.
pub(super) struct World {
    pub(super) name: EndpointName,
    pub(super) discovery: MemoryDiscovery,
    pub(super) registry: Arc<TransportRegistry>,
    pub(super) locals: LocalEndpoints,
    fake: Arc<Fake>,
    registrations: Mutex<HashMap<u64, Registration>>,
}

impl World {
    pub(super) fn new() -> Self {
        let mut capabilities = TransportCapabilities::streaming(1 << 20);
        capabilities.resumable = true;
        let fake = Arc::new(Fake {
            id: TransportId::from_static("fake"),
            capabilities,
            scripts: Mutex::default(),
            later: Mutex::default(),
            given: Mutex::default(),
            record: Arc::default(),
        });
        let registry = Arc::new(TransportRegistry::new());
        let registration = TransportRegistration::duplex(&*fake);
        registry.register_duplex_transport(registration, Arc::clone(&fake) as _).unwrap();
        Self {
            name: "a/b/c".parse().unwrap(),
            discovery: MemoryDiscovery::new(),
            registry,
            locals: LocalEndpoints::new(),
            fake,
            registrations: Mutex::default(),
        }
    }

    /// A world with instances 1, 2, ... and their scripts.
    pub(super) async fn with(scripts: &[Script]) -> Self {
        let world = Self::new();
        for (script, id) in scripts.iter().zip(1..) {
            world.add(id, script.clone()).await;
        }
        world
    }

    pub(super) async fn add(&self, id: u64, script: Script) {
        self.add_with(id, script, |_| {}).await;
    }

    pub(super) async fn add_with(
        &self,
        id: u64,
        script: Script,
        change: impl FnOnce(&mut Instance),
    ) {
        self.script(id, script);
        let address = Address::new("fake", &id.to_string()).unwrap();
        let mut instance = Instance::new(self.name.clone(), InstanceId(id), vec![address]);
        change(&mut instance);
        let registration = self.discovery.register(instance).await.unwrap();
        self.registrations.lock().insert(id, registration);
    }

    pub(super) async fn remove(&self, id: u64) {
        let registration = self.registrations.lock().remove(&id).unwrap();
        registration.withdraw().await.unwrap();
    }

    pub(super) fn script(&self, id: u64, script: Script) {
        self.fake.scripts.lock().insert(id, script);
    }

    /// Further scripts of an instance, each for one more request.
    pub(super) fn then(&self, id: u64, scripts: impl IntoIterator<Item = Script>) {
        self.fake.later.lock().entry(id).or_default().extend(scripts);
    }

    /// What the next ones get that take a stream over.
    pub(super) fn gives(&self, scripts: impl IntoIterator<Item = Script>) {
        self.fake.given.lock().extend(scripts);
    }

    /// The items from which streams were to be taken over, in order.
    pub(super) fn taken_over(&self) -> Vec<u64> {
        self.fake.record.taken_over.lock().clone()
    }

    pub(super) async fn client(&self) -> Client {
        let view = self.discovery.watch().await.unwrap();
        let registry = Arc::clone(&self.registry);
        Client::new(self.name.clone(), view, registry, self.locals.clone(), LocalProcess::default())
    }

    pub(super) async fn typed<Req, Resp>(&self, mode: RouterMode) -> PushRouter<Req, Resp>
    where
        Req: Serialize + Send + Sync + 'static,
        Resp: DeserializeOwned + Send + 'static,
    {
        PushRouter::from_client(self.client().await, mode).await.unwrap()
    }

    /// A router of strings to strings, the common case.
    pub(super) async fn router(&self, mode: RouterMode) -> PushRouter<String, String> {
        self.typed(mode).await
    }

    /// Which instances were asked, in order.
    pub(super) fn asked(&self) -> Vec<u64> {
        self.fake.record.seen.lock().iter().map(|seen| seen.at).collect()
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.fake.record.seen.lock().clone()
    }

    pub(super) fn abandoned(&self) -> usize {
        self.fake.record.abandoned.load(Ordering::Relaxed)
    }
}

/// JSON strings, and then complete.
pub(super) fn says(items: &[&str]) -> Script {
    Script::Items(texts(items))
}

/// JSON strings.
pub(super) fn texts(items: &[&str]) -> Vec<Bytes> {
    items.iter().map(|item| Bytes::from(format!("\"{item}\""))).collect()
}

pub(super) fn refuses(code: Code) -> Script {
    Script::FailStart(Error::new(code, "as told").with_executed(code.executed()))
}
