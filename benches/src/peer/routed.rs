//! Sinew as a service uses it: the facade, a `PushRouter`, discovery, and typed messages.

use std::{
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use futures_core::Stream;
use futures_util::{StreamExt, stream};
use sinew::{
    Code, DiscoverySource, Error, ManyOut, PayloadFormat, PushRouter, ResponseSink, RouterMode,
    Runtime, Served, SingleIn, TrySendError, engine_fn, push_engine_fn,
};
use tempfile::TempDir;

use super::{Caller, Peer, Sent, Server, Sink};
use crate::{Ask, Message, Service, Shape};

/// What answers with one message or with a stream of ready ones.
const PULL: &str = "bench/peer/pull";
/// What keeps its sinks and pushes into them.
const PUSH: &str = "bench/peer/push";

/// Above the 10,000 idle streams of one workload; the default is 8,192.
const MAX_IN_FLIGHT: usize = 16_384;

/// How long a caller waits for discovery to show the server that has told it its folder.
const FOUND_WITHIN: Duration = Duration::from_secs(10);

/// How the two ends reach each other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Tcp,
    Unix,
    /// Both are one process, with the same types.
    Process,
}

/// Sinew through its facade.
pub(super) struct Routed(Way);

impl Routed {
    /// `sinew`: over TCP, as between hosts.
    pub(super) fn tcp() -> Self {
        Self(Way::Tcp)
    }

    /// `sinew-unix`: as within a host, by default.
    pub(super) fn unix() -> Self {
        Self(Way::Unix)
    }

    /// `sinew-local`: as within a process, by default.
    pub(super) fn local() -> Self {
        Self(Way::Process)
    }
}

impl Peer for Routed {
    type Sink = MessageSink;
    type Server = RoutedServer;
    type Caller = RoutedCaller;

    fn name(&self) -> &'static str {
        match self.0 {
            Way::Tcp => "sinew",
            Way::Unix => "sinew-unix",
            Way::Process => "sinew-local",
        }
    }

    fn about(&self) -> &'static str {
        match self.0 {
            Way::Tcp => {
                "Sinew as a service uses it: the facade, a `PushRouter` in rotation, discovery in \
                 files, and a struct of three fields in MessagePack both ways; single answers and \
                 short streams from an engine that returns a stream, the rest from one that pushes \
                 into sinks; over TCP, defaults but for a limit of 16,384 requests in flight"
            }
            Way::Unix => "the same over the Unix domain socket that both ends take on one host",
            Way::Process => {
                "the same with both ends in the client's process and discovery in memory: a call \
                 is a function call, and nothing is serialised"
            }
        }
    }

    /// What the process of the server is asked for has nothing to do with a call in one process.
    fn runs(&self, shape: &Shape) -> bool {
        let is_exchange =
            matches!(shape, Shape::Unary { .. } | Shape::Stream { .. } | Shape::Slow { .. });
        self.0 != Way::Process || is_exchange
    }

    async fn serve(&self, service: Arc<Service<MessageSink>>) -> Result<RoutedServer> {
        if self.0 == Way::Process {
            return Ok(RoutedServer { serving: None, folder: None });
        }
        let folder = tempfile::tempdir()?;
        let place = DiscoverySource::File(folder.path().join("discovery"));
        let runtime = self.runtime(place).await?;
        let serving = Some(Serving::start(runtime, service).await?);
        Ok(RoutedServer { serving, folder: Some(folder) })
    }

    async fn connect(&self, address: &str) -> Result<RoutedCaller> {
        if self.0 == Way::Process {
            let runtime = self.runtime(DiscoverySource::Memory).await?;
            let serving = Serving::start(runtime.clone(), Arc::new(Service::new())).await?;
            return RoutedCaller::new(runtime, Some(serving)).await;
        }
        let place = DiscoverySource::File(PathBuf::from(address));
        RoutedCaller::new(self.runtime(place).await?, None).await
    }
}

impl Routed {
    async fn runtime(&self, discovery: DiscoverySource) -> Result<Runtime> {
        let unix = self.0 == Way::Unix;
        let builder = Runtime::builder().discovery(discovery).configure(|config| {
            config.unix = unix;
            config.max_in_flight = MAX_IN_FLIGHT;
        });
        Ok(builder.build().await?)
    }
}

/// Both endpoints, until it is dropped.
struct Serving {
    _endpoints: [Served; 2],
    _runtime: Runtime,
}

impl Serving {
    async fn start(runtime: Runtime, service: Arc<Service<MessageSink>>) -> Result<Self> {
        let pull = runtime.serve_named(PULL.parse()?).max_in_flight(MAX_IN_FLIGHT);
        let pull = pull.engine(engine_fn(|request: SingleIn<Message>| async move {
            answer(request.into_parts().0)
        }));
        let push =
            runtime.serve_named(PUSH.parse()?).max_in_flight(MAX_IN_FLIGHT).codecs(["msgpack"]);
        let push = push.push_engine(push_engine_fn(move |request, sink| {
            match PayloadFormat::Msgpack.decode::<Message>(request.data()) {
                Ok(message) => service.call(message.into_body(), MessageSink { sink, sent: 0 }),
                Err(error) => {
                    let error = Error::new(Code::InvalidPayload, error.to_string());
                    return Err(Box::new((error, sink)));
                }
            }
            Ok(())
        }));
        Ok(Self { _endpoints: [pull.await?, push.await?], _runtime: runtime })
    }
}

/// The answer of the endpoint that returns a stream.
fn answer(
    request: Message,
) -> Result<impl Stream<Item = Result<Message, Error>> + Send + 'static, Error> {
    match Ask::read(request.text.as_bytes()) {
        Ok(Ask::Echo) => Ok(stream::once(std::future::ready(Ok(request))).left_stream()),
        Ok(Ask::Stream { items, item_bytes }) => {
            let body = vec![b'i'; item_bytes as usize];
            let item = move |index| Ok(Message::new(index, &body, index + 1 == items));
            Ok(stream::iter((0..items).map(item)).right_stream())
        }
        _ => Err(Error::new(Code::InvalidPayload, "what is pushed has an endpoint of its own")),
    }
}

/// The folder of a server's discovery is its address.
pub(super) struct RoutedServer {
    /// Dropped first, so that the entries go before their folder.
    serving: Option<Serving>,
    folder: Option<TempDir>,
}

impl Server for RoutedServer {
    fn address(&self) -> String {
        let place = self.folder.as_ref().filter(|_| self.serving.is_some());
        place.map_or_else(String::new, |it| it.path().join("discovery").display().to_string())
    }

    fn writes(&self) -> Option<u64> {
        None
    }
}

/// A runtime of its own, and so a connection of its own.
#[derive(Clone)]
pub(super) struct RoutedCaller {
    pull: PushRouter<Message, Message>,
    push: PushRouter<Message, Message>,
    /// The other end, if it is in this process.
    serving: Option<Arc<Serving>>,
    _runtime: Runtime,
}

impl RoutedCaller {
    async fn new(runtime: Runtime, serving: Option<Serving>) -> Result<Self> {
        let router = async |name: &str| -> Result<PushRouter<Message, Message>> {
            let client = runtime.client(name.parse()?);
            client.wait_for_instances(FOUND_WITHIN).await?;
            Ok(PushRouter::from_client(client, RouterMode::RoundRobin).await?)
        };
        let (pull, push) = (router(PULL).await?, router(PUSH).await?);
        Ok(Self { pull, push, serving: serving.map(Arc::new), _runtime: runtime })
    }
}

impl Caller for RoutedCaller {
    type Items = RoutedItems;

    async fn open(&self, request: Bytes) -> Result<RoutedItems> {
        if self.serving.is_some() {
            // Nothing in one process ever waits, and others of it want to run as well.
            tokio::task::coop::consume_budget().await;
        }
        let router = match Ask::read(&request).context("a request of the benchmark")? {
            Ask::Echo | Ask::Stream { .. } => &self.pull,
            Ask::Park | Ask::Lane | Ask::Paced { .. } => &self.push,
        };
        let request = Message::new(0, &request, true);
        if request.text.is_empty() {
            bail!("a request that is not text");
        }
        Ok(RoutedItems(router.generate(request).await?))
    }

    fn writes(&self) -> Option<u64> {
        None
    }
}

/// The bodies of the messages that come.
pub(super) struct RoutedItems(ManyOut<Message>);

impl Stream for RoutedItems {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let body = |message: Result<Message, Error>| Ok(message?.into_body());
        self.0.poll_next_unpin(cx).map(|message| message.map(body))
    }
}

/// Encodes what it is given, as a typed engine does that pushes.
pub(super) struct MessageSink {
    sink: ResponseSink,
    sent: u32,
}

impl Sink for MessageSink {
    fn try_send(&mut self, item: &Bytes) -> Sent {
        let message = Message::new(self.sent, item, false);
        let Ok(encoded) = PayloadFormat::Msgpack.encode(&message) else { return Sent::Closed };
        match self.sink.try_send(encoded) {
            Ok(()) => {
                self.sent = self.sent.wrapping_add(1);
                Sent::Taken
            }
            Err(TrySendError::Full(_)) => Sent::Full,
            Err(TrySendError::Closed(_)) => Sent::Closed,
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.sink.poll_ready(cx).map(|ready| ready.is_ok())
    }

    fn accept(&mut self) {
        self.sink.accept();
    }

    fn flush(&self) {
        self.sink.flush();
    }

    fn end(self) {
        self.sink.complete();
    }
}
