//! The builder that serves one endpoint.

mod served;

use std::{fmt, future::IntoFuture, marker::PhantomData, sync::Arc, time::Duration};

use serde_core::{Serialize, de::DeserializeOwned};
use sinew_codec::PayloadFormat;
use sinew_discovery::Instance;
use sinew_ingress::{
    EndpointConfig, Handler, HandlerLayer, PushEngineHandler, PushHandler, RawHandler, Retain,
    SystemHealth,
};
use sinew_plane::{
    AsyncEngine, BoxFuture, Continuation, EndpointName, EngineLayer, InstanceId, LayeredEngine,
    PushEngine, ResponseSink,
};
use tokio::sync::{Mutex, OnceCell};
use tokio_util::sync::CancellationToken;

pub(crate) use self::served::Announced;
pub use self::served::Served;
use crate::{ConfigError, Declaration, IncomingOwned, Runtime, ServeError, health::HealthEntry};

/// The settings of an endpoint that is not served yet. A builder from [`Runtime::serve`] has its
/// handler, and awaiting it serves the endpoint; a builder from [`Runtime::serve_named`] still
/// needs a handler.
#[must_use = "nothing is served until this is awaited or a handler is given"]
pub struct ServeBuilder<H = ()> {
    handler: H,
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

impl<H> ServeBuilder<H> {
    pub(crate) fn new(runtime: Runtime, endpoint: EndpointName, handler: H) -> Self {
        Self {
            handler,
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

    /// Sets the id of the instance. The default is a random one.
    pub fn instance(mut self, id: impl Into<InstanceId>) -> Self {
        self.instance = id.into();
        self
    }

    /// Sets the share of the traffic relative to the other instances of the endpoint, clamped to 1
    /// to 1,000.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight.clamp(1, 1_000);
        self
    }

    /// Declares that the handler may run twice for one request without harm. A router may then send
    /// a request again if it does not know whether the first attempt ran.
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = idempotent;
        self
    }

    /// Declares what a router may do with a stream of which this worker has died or which it hands
    /// over: run the request again elsewhere ([`Continuation::Replayable`]), let another handler go
    /// on from a [checkpoint](crate::Context::checkpoint) ([`Continuation::Checkpoint`]), or nothing,
    /// which is the default. Each instance of the endpoint should declare the same. Calls within this
    /// process are not continued.
    pub fn continuation(mut self, continuation: Continuation) -> Self {
        self.limits.continuation = continuation;
        self
    }

    /// Sets the payload formats to advertise, best first, instead of those that the handler
    /// suggests.
    pub fn codecs<S: Into<String>>(mut self, codecs: impl IntoIterator<Item = S>) -> Self {
        self.codecs = Some(codecs.into_iter().map(Into::into).collect());
        self
    }

    /// Declares that the items are [`Annotated`](crate::dynamo::Annotated) values, as Dynamo's own
    /// engines send them. Dynamo callers get them unchanged; other items are wrapped in one for
    /// Dynamo callers.
    #[cfg(feature = "dynamo")]
    pub fn annotated(mut self, annotated: bool) -> Self {
        self.annotated = annotated;
        self
    }

    /// Sets the most requests in flight at this instance: 1,024 without it. Further requests are
    /// refused as `Overloaded`. [`Config::max_in_flight`](crate::Config::max_in_flight) limits those
    /// of the whole process as well.
    pub fn max_in_flight(mut self, requests: usize) -> Self {
        self.limits.max_in_flight = requests.max(1);
        self
    }

    /// Sets the longest time that an item may wait for its reader before the response fails as
    /// `Exhausted`. Without this limit, a slow reader can block its producer without end, unless
    /// the memory budget of the process stays spent.
    pub fn park_limit(mut self, limit: Duration) -> Self {
        self.limits.park_limit = Some(limit);
        self
    }

    /// Sets the longest time that a drain waits for a checkpoint of a response before it hands the
    /// response over all the same: 2 s without it. It has an effect with
    /// [`Continuation::Checkpoint`].
    pub fn checkpoint_wait(mut self, limit: Duration) -> Self {
        self.limits.checkpoint_wait = limit;
        self
    }

    /// Sets what is kept of each response beyond what its caller has not acknowledged, so that others
    /// read it too, from an item of their choice on: [`Router::resume`](crate::Router::resume). Off
    /// by default. Serving fails if a part of it is zero.
    ///
    /// The handler goes as fast as the fastest reader. It has an effect for callers over TCP and Unix
    /// sockets, and is charged to the memory budget of the process.
    pub fn retain(mut self, retain: Retain) -> Self {
        self.limits.retain = Some(retain);
        self
    }

    /// Sets how long a response is kept for its caller after the loss of its connection, instead of
    /// what the settings of the process say (20 s). Zero: it ends with the connection. Serving fails
    /// with a grace that is shorter than the keep-alive timeout of the process
    /// (`tcp.driver.mux.keepalive_timeout`): the response would be given up before its caller notices a
    /// connection that is silent.
    pub fn resume_grace(mut self, grace: Duration) -> Self {
        self.limits.resume_grace = Some(grace);
        self
    }

    /// Puts a layer around the handler and around the layers of this kind given before: it gets the
    /// headers and the bytes of each request first. Calls from this process then go over a transport
    /// too, see [`Handler::with_layer`]. With a layer around the engine they remain direct.
    pub fn handler_layer(mut self, layer: impl HandlerLayer + 'static) -> Self {
        self.layers.push(Box::new(layer));
        self
    }

    fn with_handler<I>(self, handler: I) -> ServeBuilder<I> {
        self.replace_handler(handler).1
    }

    fn take_handler(self) -> (H, ServeBuilder) {
        self.replace_handler(())
    }

    fn replace_handler<I>(self, handler: I) -> (H, ServeBuilder<I>) {
        let before = self.handler;
        let Self { runtime, endpoint, instance, weight, idempotent, codecs, .. } = self;
        let Self { annotated, limits, layers, .. } = self;
        let builder = ServeBuilder {
            handler,
            runtime,
            endpoint,
            instance,
            weight,
            idempotent,
            codecs,
            annotated,
            limits,
            layers,
        };
        (before, builder)
    }
}

impl ServeBuilder {
    /// Serves typed values with an engine that returns a stream. Callers in this process with
    /// the same types reach it without serialising.
    ///
    /// # Errors
    /// The listener cannot be bound, or discovery refuses the registration.
    pub async fn engine<Req, Resp, E>(self, engine: E) -> Result<Served, ServeError>
    where
        Req: DeserializeOwned + Send + 'static,
        Resp: Serialize + Send + Sync + 'static,
        E: AsyncEngine<Req, Resp> + 'static,
    {
        self.with_handler(Typed::new(engine)).await
    }

    /// Serves bytes with an engine that stores the sinks and pushes items into them.
    ///
    /// # Errors
    /// As [`engine`](Self::engine).
    pub async fn push_engine<P: PushEngine + 'static>(
        self,
        engine: P,
    ) -> Result<Served, ServeError> {
        Box::pin(self.start(PushEngineHandler::new(engine).into(), &["raw"])).await
    }

    /// Serves bytes with an async function that owns its sink.
    ///
    /// # Errors
    /// As [`engine`](Self::engine).
    pub async fn raw<F, Fut>(self, answer: F) -> Result<Served, ServeError>
    where
        F: Fn(IncomingOwned, ResponseSink) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Box::pin(self.start(RawHandler::new(answer).into(), &["raw"])).await
    }
}

impl<E, Req, Resp> ServeBuilder<Typed<E, Req, Resp>>
where
    E: AsyncEngine<Req, Resp> + 'static,
{
    /// Puts a layer around the engine or function and around the layers of this kind given before:
    /// it gets the value of each request first, and its headers in its context. Calls from this
    /// process pass through it too.
    pub fn layer(
        self,
        layer: impl EngineLayer<Req, Resp>,
    ) -> ServeBuilder<Typed<LayeredEngine<Req, Resp>, Req, Resp>> {
        let (engine, builder) = self.take_handler();
        builder.with_handler(Typed::new(engine.engine.with_layer(layer)))
    }
}

/// An engine of values, which are encoded in the formats of the process.
pub struct Typed<E, Req, Resp> {
    engine: E,
    types: PhantomData<fn(Req) -> Resp>,
}

impl<E, Req, Resp> Typed<E, Req, Resp> {
    pub(crate) fn new(engine: E) -> Self {
        Self { engine, types: PhantomData }
    }
}

impl<E, Req, Resp> From<Typed<E, Req, Resp>> for Handler
where
    E: AsyncEngine<Req, Resp> + 'static,
    Req: DeserializeOwned + Send + 'static,
    Resp: Serialize + Send + Sync + 'static,
{
    fn from(typed: Typed<E, Req, Resp>) -> Self {
        PushHandler::new(typed.engine).into()
    }
}

impl<H: Into<Handler> + Send + 'static> IntoFuture for ServeBuilder<H> {
    type Output = Result<Served, ServeError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let codecs = match self.runtime.0.config.codec {
            PayloadFormat::Json => ["json", "msgpack"],
            _ => ["msgpack", "json"],
        };
        Box::pin(async move {
            let (handler, builder) = self.take_handler();
            builder.start(handler.into(), &codecs).await
        })
    }
}

/// A response is kept at least until its caller has found a silent connection.
fn check_grace(grace: Option<Duration>, keep_alive: Duration) -> Result<(), ConfigError> {
    let Some(grace) = grace.filter(|it| !it.is_zero() && *it < keep_alive) else { return Ok(()) };
    let reason = format!(
        "is {grace:?}; it must be zero or at least tcp.driver.mux.keepalive_timeout, {keep_alive:?}"
    );
    Err(ConfigError::new("resume_grace", reason))
}

fn check_retain(retain: Option<Retain>) -> Result<(), ConfigError> {
    match retain.filter(Retain::is_empty) {
        None => Ok(()),
        Some(_) => {
            let reason = "must keep at least 1 item and 1 byte for a millisecond; leave it out to \
                          keep nothing";
            Err(ConfigError::new("retain", reason))
        }
    }
}

impl ServeBuilder {
    async fn start(self, handler: Handler, codecs: &[&str]) -> Result<Served, ServeError> {
        let layers = self.layers.iter();
        let handler = layers.fold(handler, |handler, layer| handler.with_layer(&**layer));
        let inner = &self.runtime.0;
        let continuation = self.limits.continuation;
        let (endpoint, id) = (self.endpoint, self.instance);
        let keep_alive = inner.config.tcp().driver.mux.keepalive_timeout;
        let grace = check_grace(self.limits.resume_grace, keep_alive);
        if let Err(error) = grace.and_then(|()| check_retain(self.limits.retain)) {
            return Err(ServeError::Setting { endpoint, error });
        }
        inner.listeners.start(&endpoint, &inner.config, &inner.handler).await?;
        let health: Option<Arc<dyn SystemHealth>> =
            Some(Arc::new(HealthEntry::new(&inner.health, &endpoint, id)));
        // Served before it is announced: who learns of it must find it. One that is served already
        // under this id goes on until this one is announced.
        let served = inner.ingress.prepare(endpoint.clone(), id, self.limits, handler, health);
        let declaration =
            Declaration { endpoint: endpoint.clone(), instance: id, annotated: self.annotated };
        let announcements = inner.listeners.announce(&declaration).await?;
        let mut instance = Instance::new(endpoint.clone(), id, inner.listeners.addresses());
        instance.addresses.extend(announcements.iter().flat_map(|one| one.addresses()));
        instance.codecs =
            self.codecs.unwrap_or_else(|| codecs.iter().map(|name| (*name).to_owned()).collect());
        instance.weight = self.weight;
        instance.idempotent = self.idempotent;
        instance.continuation = continuation;
        instance.serves_dynamo = cfg!(feature = "dynamo");
        instance.host = inner.here.host.clone();
        instance.process = inner.here.process;
        let addresses = instance.addresses.clone();
        let registration = inner.discovery.register(instance).await;
        let registration = registration.map_err(|error| {
            let endpoint = endpoint.clone();
            ServeError::Discovery { endpoint, instance: id, error }
        })?;
        served.take_over();
        let announced = Arc::new(Announced {
            served,
            announcements,
            listeners: Arc::clone(&inner.listeners),
            registration: Mutex::new(Some(registration)),
            grace: inner.config.grace,
            left: OnceCell::new(),
            drained: OnceCell::new(),
            closed: CancellationToken::new(),
        });
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
            return Err(ServeError::ShuttingDown { endpoint });
        }
        Ok(Served { announced, addresses })
    }
}

impl<H> fmt::Debug for ServeBuilder<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeBuilder")
            .field("endpoint", &self.endpoint)
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
