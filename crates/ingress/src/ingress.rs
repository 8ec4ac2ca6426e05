//! The request handler that all transports of a process share.

use std::{fmt, sync::Arc, time::Duration};

use sinew_plane::{
    Closed, EndpointName, Error, InFlight, IncomingRequest, InstanceId, Permit, RequestHandler,
    ResponseSink, ResumeToken,
};
use sinew_registry::{LocalEndpoint, LocalEndpoints, LocalGuard};
use sinew_telemetry::EndpointMetrics;
use tokio::{task::JoinSet, time::timeout};
use tokio_util::task::TaskTracker;

use crate::{
    Drained, EndpointConfig, Handler, IngressConfig, ServedEndpoint, SystemHealth,
    contexts::InFlightContexts,
    deadline::Deadlines,
    hand_over::HandOvers,
    instance::{Instance, InstanceHandler, Process},
    refusal,
    retention::Retention,
    table::Table,
    transport_meters::TransportMeters,
};

/// How long a shutdown waits for tasks that it has cut. A task that awaits ends at once. A task
/// that takes longer blocks its thread, and an abort would not end it either.
const JOIN_LIMIT: Duration = Duration::from_secs(5);

/// The serving side of a process. Clones share everything.
///
/// It owns a task for each request in flight and one for deadlines. Transports must call it within
/// a tokio runtime. Install the metrics recorder before you create it, or its counts are lost.
#[derive(Clone)]
pub struct Ingress(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) table: Table,
    process: Arc<Process>,
    local: Option<LocalEndpoints>,
    health: Option<Arc<dyn SystemHealth>>,
    unknown: EndpointMetrics,
}

impl Ingress {
    /// Makes an ingress without endpoints.
    pub fn new(config: IngressConfig) -> Self {
        Self::build(config, None)
    }

    /// Makes an ingress that also adds its endpoints to `local`, where callers in this process find
    /// them.
    pub fn with_local(config: IngressConfig, local: LocalEndpoints) -> Self {
        Self::build(config, Some(local))
    }

    fn build(config: IngressConfig, local: Option<LocalEndpoints>) -> Self {
        let process = Process {
            in_flight: InFlight::new(config.max_in_flight),
            deadlines: Deadlines::new(),
            tasks: TaskTracker::new(),
            transports: TransportMeters::default(),
            retention: Retention::new(config.budget.as_ref()),
        };
        Self(Arc::new(Shared {
            table: Table::default(),
            process: Arc::new(process),
            local,
            health: config.health,
            unknown: EndpointMetrics::unknown(),
        }))
    }

    /// Serves an instance of an endpoint until the result is dropped. Several instances may serve
    /// one name. Of two with the same id, the later one gets the requests, and the earlier one gets
    /// them again when the later one is dropped.
    #[must_use = "the endpoint is withdrawn when the result is dropped"]
    pub fn serve(
        &self,
        endpoint: EndpointName,
        instance: InstanceId,
        config: EndpointConfig,
        handler: impl Into<Handler>,
    ) -> ServedEndpoint {
        self.announce(endpoint, instance, None, config, handler.into(), None)
    }

    /// Serves an instance that is not announced yet, and whose announcement may fail. If another
    /// instance with its name and id is served, that one gets the requests until
    /// [`take_over`](ServedEndpoint::take_over), which also reports the new one as ready.
    #[must_use = "the endpoint is withdrawn when the result is dropped"]
    pub fn prepare(
        &self,
        endpoint: EndpointName,
        instance: InstanceId,
        config: EndpointConfig,
        handler: impl Into<Handler>,
        health: Option<Arc<dyn SystemHealth>>,
    ) -> ServedEndpoint {
        let instance = self.instance(endpoint, instance, None, config, handler.into());
        self.0.table.insert_beneath(&instance);
        self.served(instance, health, LocalEndpoints::insert_beneath)
    }

    pub(crate) fn announce(
        &self,
        endpoint: EndpointName,
        instance: InstanceId,
        subject: Option<Arc<str>>,
        config: EndpointConfig,
        handler: Handler,
        health: Option<Arc<dyn SystemHealth>>,
    ) -> ServedEndpoint {
        let instance = self.instance(endpoint, instance, subject, config, handler);
        self.0.table.insert(&instance);
        let served = self.served(instance, health, LocalEndpoints::insert);
        served.report(true);
        served
    }

    fn instance(
        &self,
        endpoint: EndpointName,
        instance: InstanceId,
        subject: Option<Arc<str>>,
        config: EndpointConfig,
        handler: Handler,
    ) -> Arc<Instance> {
        Arc::new(Instance {
            metrics: EndpointMetrics::new(&endpoint),
            name: endpoint,
            id: instance,
            subject,
            in_flight: InFlight::new(config.max_in_flight),
            park_limit: config.park_limit,
            resume_grace: config.resume_grace,
            continuation: config.continuation,
            checkpoint_wait: config.checkpoint_wait,
            hand_overs: HandOvers::new(),
            retain: config.retain.filter(|retain| !retain.is_empty()),
            contexts: InFlightContexts::new(),
            process: Arc::clone(&self.0.process),
            handler,
        })
    }

    /// What is in the table already, for callers in this process too.
    fn served(
        &self,
        instance: Arc<Instance>,
        health: Option<Arc<dyn SystemHealth>>,
        insert: fn(&LocalEndpoints, &EndpointName, InstanceId, LocalEndpoint) -> LocalGuard,
    ) -> ServedEndpoint {
        let local = LocalEndpoint::new(Arc::new(InstanceHandler(Arc::clone(&instance))));
        let local = instance.handler.localize(&instance, local);
        let health = health.or_else(|| self.0.health.clone());
        let announced = self.0.local.as_ref();
        let guard = announced.map(|all| insert(all, &instance.name, instance.id, local.clone()));
        ServedEndpoint::new(instance, Arc::clone(&self.0), local, guard, health)
    }

    /// The number of requests in flight over all endpoints.
    pub fn in_flight(&self) -> usize {
        self.0.process.in_flight.count()
    }

    /// Refuses new requests from now on, as `Draining`. Requests in flight continue. A drain cannot
    /// be undone.
    pub fn drain(&self) {
        self.0.process.in_flight.drain();
    }

    /// True once drained.
    pub fn is_draining(&self) -> bool {
        self.0.process.in_flight.is_draining()
    }

    /// Drains, waits for requests in flight for at most `grace`, kills the rest with the reason
    /// `Shutdown`, and joins every task. `cut_tasks` counts the tasks that block their thread and
    /// have not ended after 5 more seconds. If the future is dropped, the ingress stays drained,
    /// and a second call waits again.
    ///
    /// Shut transports down after it, so that they still send the last terminals.
    pub async fn shutdown(&self, grace: Duration) -> Drained {
        let process = &self.0.process;
        process.in_flight.drain();
        let count = process.in_flight.count();
        let instances = self.0.table.all();
        let mut handing = JoinSet::new();
        for instance in &instances {
            let instance = Arc::clone(instance);
            handing.spawn(async move {
                instance.hand_overs.hand_over(instance.checkpoint_wait, grace).await;
            });
        }
        // Over or not: what is left is counted next.
        let _ = timeout(grace, process.in_flight.drained()).await;
        let left = process.in_flight.count();
        for instance in &instances {
            instance.contexts.cut();
        }
        let ending: usize = instances.iter().map(|instance| instance.hand_overs.ending()).sum();
        let handed_over = instances.iter().map(|it| it.hand_overs.take_count()).sum();
        let cut_streams = left.saturating_sub(ending);
        process.deadlines.close();
        process.retention.close();
        process.tasks.close();
        let joined = timeout(JOIN_LIMIT, process.tasks.wait()).await;
        let cut_tasks = if joined.is_ok() { 0 } else { process.tasks.len() };
        tracing::debug!(cut_streams, cut_tasks, "the ingress is shut down");
        Drained { cut_tasks, ..Drained::of(count, handed_over, cut_streams).counted() }
    }
}

impl Ingress {
    /// Adds a reader to a response that an endpoint retains. It counts as a request in flight of the
    /// process.
    fn resume(&self, request: &IncomingRequest<'_>, sink: ResponseSink) {
        let process = Arc::clone(&self.0.process);
        if let Err(closed) = process.in_flight.enter() {
            return sink.reject(match closed {
                Closed::Draining => Error::draining("this process is draining"),
                Closed::Full { max } => refusal::process_full(max),
            });
        }
        let guard = Reading(Arc::clone(&process));
        process.retention.resume(request, sink, guard, &process.tasks);
    }
}

/// A reader in flight.
struct Reading(Arc<Process>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.in_flight.leave();
    }
}

impl Default for Ingress {
    fn default() -> Self {
        Self::new(IngressConfig::default())
    }
}

impl RequestHandler for Ingress {
    fn handle(&self, request: IncomingRequest<'_>, sink: ResponseSink) {
        match self.0.table.find(request.endpoint, request.instance) {
            Some(instance) => instance.take(request, sink),
            None if request.endpoint == ResumeToken::ENDPOINT => self.resume(&request, sink),
            None => {
                let error = refusal::unknown_endpoint(request.endpoint, request.instance);
                self.0.unknown.refused(error.fault());
                let transports = &self.0.process.transports;
                transports.count(request.transport, |meter| meter.refused(error.fault()));
                tracing::debug!(transport = %request.transport, "{error}");
                sink.reject(error);
            }
        }
    }

    fn reserve(&self, endpoint: &str, id: InstanceId) -> Result<Option<Permit>, Error> {
        match self.0.table.find(endpoint, id) {
            Some(instance) => instance.reserve().map(Some),
            None => {
                let error = refusal::unknown_endpoint(endpoint, id);
                self.0.unknown.refused(error.fault());
                Err(error)
            }
        }
    }
}

impl fmt::Debug for Ingress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ingress")
            .field("in_flight", &self.in_flight())
            .field("draining", &self.is_draining())
            .finish_non_exhaustive()
    }
}
