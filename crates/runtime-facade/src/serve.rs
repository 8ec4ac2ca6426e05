//! Serving one endpoint.

use std::{fmt, sync::Arc, time::Duration};

use serde_core::{Serialize, de::DeserializeOwned};
use sinew_codec::PayloadFormat;
use sinew_discovery::{Instance, Registration};
use sinew_ingress::{
    EndpointConfig, Handler, HandlerLayer, PushFace, PushHandler, RawHandler, ServedEndpoint,
};
use sinew_plane::{
    Address, AsyncEngine, EndpointName, Error, InstanceId, PushEngine, ResponseSink, Shutdown,
};
use sinew_split::{DeclaredEndpoint, EndpointDeclaration, SplitServer};
#[cfg(feature = "nats")]
use sinew_transport_nats::NatsEndpoint;
use tokio::{sync::Mutex, time::timeout};

use crate::{IncomingOwned, Runtime, StartError, planes::Planes, runtime::LAST_WORDS};

/// How an endpoint is served, before it is.
#[must_use = "nothing is served until a handler is given"]
pub struct ServeBuilder {
    runtime: Runtime,
    endpoint: EndpointName,
    instance: InstanceId,
    weight: u32,
    idempotent: bool,
    codecs: Option<Vec<String>>,
    annotated: bool,
    limits: EndpointConfig,
    layers: Vec<Box<dyn HandlerLayer>>,
}

impl ServeBuilder {
    pub(crate) fn new(runtime: Runtime, endpoint: EndpointName) -> Self {
        Self {
            runtime,
            endpoint,
            instance: InstanceId::random(),
            weight: 1,
            idempotent: false,
            codecs: None,
            annotated: false,
            limits: EndpointConfig::default(),
            layers: Vec::new(),
        }
    }

    /// The instance's id, instead of a random one.
    pub fn instance(mut self, id: impl Into<InstanceId>) -> Self {
        self.instance = id.into();
        self
    }

    /// Share of the traffic relative to its siblings, clamped to 1 to 1,000.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight.clamp(1, 1_000);
        self
    }

    /// The handler may run twice for one request without harm, so a router may send a request
    /// again whose first fate is not known.
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = idempotent;
        self
    }

    /// Payload formats to advertise, best first, instead of what the handler suggests.
    pub fn codecs<S: Into<String>>(mut self, codecs: impl IntoIterator<Item = S>) -> Self {
        self.codecs = Some(codecs.into_iter().map(Into::into).collect());
        self
    }

    /// The items are [`Annotated`](crate::Annotated) values, as Dynamo's own engines send them:
    /// they are given to Dynamo's callers as they are, where others are put into one.
    #[cfg(feature = "dynamo")]
    pub fn annotated(mut self, annotated: bool) -> Self {
        self.annotated = annotated;
        self
    }

    /// Requests in flight; more are refused.
    pub fn max_in_flight(mut self, requests: usize) -> Self {
        self.limits.max_in_flight = requests.max(1);
        self
    }

    /// Longest time that an item may wait for its reader before the response fails as
    /// `Exhausted`. Without it, a slow reader parks its own producer for as long as it likes,
    /// unless the memory budget of the process stays spent.
    pub fn park_limit(mut self, limit: Duration) -> Self {
        self.limits.park_limit = Some(limit);
        self
    }

    /// Puts a layer around the handler and around the layers given before: it sees the headers and
    /// the bytes of each request first. Callers in this process then come over a transport too, see
    /// [`Handler::with_layer`]; a layer around the engine
    /// ([`AsyncEngine::with_layer`]) leaves them the short cut.
    pub fn layer(mut self, layer: impl HandlerLayer + 'static) -> Self {
        self.layers.push(Box::new(layer));
        self
    }

    /// Serves typed values with an engine that returns a stream. Callers in this process with
    /// the same types reach it without serialising.
    ///
    /// # Errors
    /// The listener cannot be bound, or discovery refuses the registration.
    pub async fn engine<Req, Resp, E>(self, engine: E) -> Result<Served, StartError>
    where
        Req: DeserializeOwned + Send + 'static,
        Resp: Serialize + Send + Sync + 'static,
        E: AsyncEngine<Req, Resp> + 'static,
    {
        let codecs = match self.runtime.0.config.codec {
            PayloadFormat::Json => ["json", "msgpack"],
            _ => ["msgpack", "json"],
        };
        Box::pin(self.start(PushHandler::new(engine).into(), &codecs)).await
    }

    /// Serves bytes with an engine that files sinks away and pushes into them.
    ///
    /// # Errors
    /// As [`engine`](Self::engine).
    pub async fn push_engine<P: PushEngine + 'static>(
        self,
        engine: P,
    ) -> Result<Served, StartError> {
        Box::pin(self.start(PushFace::new(engine).into(), &["raw"])).await
    }

    /// Serves bytes with an async function that owns its sink.
    ///
    /// # Errors
    /// As [`engine`](Self::engine).
    pub async fn raw<F, Fut>(self, answer: F) -> Result<Served, StartError>
    where
        F: Fn(IncomingOwned, ResponseSink) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Box::pin(self.start(RawHandler::new(answer).into(), &["raw"])).await
    }

    async fn start(self, handler: Handler, codecs: &[&str]) -> Result<Served, StartError> {
        let layers = self.layers.iter();
        let handler = layers.fold(handler, |handler, layer| handler.with_layer(&**layer));
        let addresses = self.runtime.listen().await?;
        let inner = &self.runtime.0;
        // Served before it is announced: who learns of it must find it.
        let (endpoint, id) = (self.endpoint.clone(), self.instance);
        let served = inner.ingress.serve(endpoint.clone(), id, self.limits, handler);
        let mut declaration = EndpointDeclaration::new(endpoint.clone(), id);
        declaration.annotated = self.annotated;
        let planes = Announcements::new(&inner.planes, declaration).await?;
        let mut instance = Instance::new(endpoint, id, addresses);
        instance.addresses.extend(planes.address.clone());
        instance.codecs =
            self.codecs.unwrap_or_else(|| codecs.iter().map(|name| (*name).to_owned()).collect());
        instance.weight = self.weight;
        instance.idempotent = self.idempotent;
        instance.serves_dynamo = cfg!(feature = "dynamo");
        instance.host = inner.here.host.clone();
        instance.process = inner.here.process;
        let addresses = instance.addresses.clone();
        let registration = inner.discovery.register(instance).await?;
        let registration = Mutex::new(Some(registration));
        let split = inner.planes.server.clone();
        let grace = inner.config.grace;
        let announced = Announced { served, planes, split, registration, grace };
        let announced = Arc::new(announced);
        {
            let mut all = inner.announced.lock();
            // Swept when it is full, so that the next one costs no more than the last.
            if all.len() == all.capacity() {
                all.retain(|one| one.strong_count() > 0);
            }
            all.push(Arc::downgrade(&announced));
        }
        if self.runtime.is_closing() {
            // The shutdown may have looked before this one was in the list.
            announced.withdraw().await;
            return Err(Error::draining("the runtime is shutting down").into());
        }
        Ok(Served { announced, addresses })
    }
}

impl fmt::Debug for ServeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeBuilder")
            .field("endpoint", &self.endpoint)
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

/// The ways of the split exchange to an instance.
struct Announcements {
    _declared: DeclaredEndpoint,
    /// Over NATS, if at all.
    address: Option<Address>,
    /// Until it is left.
    #[cfg(feature = "nats")]
    nats: Mutex<Option<NatsEndpoint>>,
}

impl Announcements {
    #[cfg(feature = "nats")]
    async fn new(planes: &Planes, mut declaration: EndpointDeclaration) -> Result<Self, Error> {
        let (mut address, mut served) = (None, None);
        if let Some(nats) = &planes.nats {
            let (endpoint, subject) =
                nats.serve(&declaration.endpoint, declaration.instance).await?;
            declaration.subject = Some(endpoint.subject().to_owned());
            (address, served) = (Some(subject), Some(endpoint));
        }
        let _declared = planes.server.declare(declaration);
        Ok(Self { _declared, address, nats: Mutex::new(served) })
    }

    #[cfg(not(feature = "nats"))]
    async fn new(planes: &Planes, declaration: EndpointDeclaration) -> Result<Self, Error> {
        Ok(Self { _declared: planes.server.declare(declaration), address: None })
    }

    /// Leaves NATS once no more requests come. What is on its way to a subscription when that one
    /// ends is lost, and its caller waits in vain.
    async fn leave(&self) {
        #[cfg(feature = "nats")]
        if let Some(endpoint) = self.nats.lock().await.take() {
            endpoint.drain(LAST_REQUESTS).await;
        }
    }
}

/// Longest time that an endpoint refuses requests over NATS, one after another, before it leaves:
/// routers leave one that refuses alone for a second.
#[cfg(feature = "nats")]
const LAST_REQUESTS: Duration = Duration::from_secs(2);

/// An endpoint that is served and announced.
pub(crate) struct Announced {
    served: ServedEndpoint,
    planes: Announcements,
    split: SplitServer,
    registration: Mutex<Option<Registration>>,
    /// How long a drain lets requests finish.
    grace: Duration,
}

/// How long a withdrawal takes to reach a Dynamo caller, with room to spare: its watch of etcd or
/// of a folder tells it within milliseconds.
const PROPAGATION: Duration = Duration::from_millis(500);

impl Announced {
    /// Waits until those who would not send a refused request elsewhere know that it is gone.
    pub(crate) async fn propagation(&self) {
        if self.split.has_foreign_callers() {
            tokio::time::sleep(PROPAGATION).await;
        }
    }

    /// Takes it out of discovery; it is still served to who knows of it.
    pub(crate) async fn withdraw(&self) {
        if let Some(registration) = self.registration.lock().await.take()
            && let Err(error) = registration.withdraw().await
        {
            tracing::warn!(endpoint = %self.served.endpoint(), %error, "could not withdraw; the entry ends with its lease");
        }
    }
}

/// A served endpoint. Dropping it withdraws it and cuts its requests; [`drain`](Self::drain)
/// first to lose nothing.
#[must_use = "the endpoint is withdrawn when this is dropped"]
pub struct Served {
    announced: Arc<Announced>,
    addresses: Vec<Address>,
}

impl Served {
    /// The name it is served under.
    pub fn endpoint(&self) -> &EndpointName {
        self.announced.served.endpoint()
    }

    /// Which instance it is.
    pub fn instance(&self) -> InstanceId {
        self.announced.served.instance()
    }

    /// Where it can be reached.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Its requests in flight.
    pub fn in_flight(&self) -> usize {
        self.announced.served.in_flight()
    }

    /// Takes it out of discovery, refuses new requests, and waits for those in flight as long as
    /// [`Config::grace`](crate::Config::grace) says; then it cuts the rest. The withdrawal may take
    /// as long again, where the discovery does not answer. Says what it had to cut: nothing, when
    /// all have ended. A caller in this process that holds its stream unread counts as one in
    /// flight, because the engine runs only while that caller reads. Where Dynamo callers were
    /// served, new requests are taken for half a second more: until the withdrawal has reached them
    /// they would fail, because Dynamo does not send them elsewhere. Cancel-safe: dropped midway,
    /// it stays withdrawn.
    pub async fn drain(&self) -> Shutdown {
        let Announced { served, planes, grace, .. } = &*self.announced;
        // A discovery that does not answer in time ends the entry with its lease.
        let _ = timeout((*grace).max(LAST_WORDS), self.announced.withdraw()).await;
        self.announced.propagation().await;
        let cut_streams = served.drain_within(*grace).await;
        planes.leave().await;
        Shutdown { cut_streams, cut_tasks: 0 }
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served")
            .field("endpoint", self.endpoint())
            .field("instance", &self.instance())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
