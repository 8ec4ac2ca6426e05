//! The transports of this process.

use std::{
    cmp::Reverse,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sinew_plane::{
    Address, BoxFuture, Code, Context, DuplexTransport, Error, OutgoingRequest, PlaneType,
    RequestPlaneClient, RequestPlaneServer, ResponsePlaneClient, ResponsePlaneServer,
    ResumeRequest, Shutdown, TransportId, TransportRequirements,
};
use sinew_telemetry::{Side, TransportMetrics};

use crate::{
    Combination, Exchange, FallbackConfig, Opened, Proximity, RegistryError, Route,
    TransportRegistration,
    fallback::Fallback,
    known_ways::KnownWays,
    route::{self, Duplex},
};

/// The transports of this process, with the choice of the one that an exchange uses.
///
/// Shared in an [`Arc`]; every method takes `&self`. Transports are added while a process starts,
/// and every request reads them, so a read never waits.
pub struct TransportRegistry {
    tables: ArcSwap<Tables>,
    writer: Mutex<()>,
    revision: AtomicU64,
    fallback: Fallback,
    ways: Arc<KnownWays>,
}

/// Each table has few entries, so a scan is cheaper than a map.
#[derive(Clone, Default)]
struct Tables {
    duplex: Vec<Duplex>,
    request: Vec<RequestSide>,
    response: Vec<ResponseSide>,
}

#[derive(Clone)]
struct RequestSide {
    registration: TransportRegistration,
    client: Arc<dyn RequestPlaneClient>,
    server: Option<Arc<dyn RequestPlaneServer>>,
}

#[derive(Clone)]
struct ResponseSide {
    registration: TransportRegistration,
    client: Arc<dyn ResponsePlaneClient>,
    server: Option<Arc<dyn ResponsePlaneServer>>,
}

impl Tables {
    fn registrations(&self) -> impl Iterator<Item = &TransportRegistration> {
        let duplex = self.duplex.iter().map(|one| &one.registration);
        let request = self.request.iter().map(|one| &one.registration);
        duplex.chain(request).chain(self.response.iter().map(|one| &one.registration))
    }

    /// True if the id is in use on the plane. A duplex transport uses its id on both planes.
    fn is_taken(&self, new: &TransportRegistration) -> bool {
        self.registrations().any(|old| {
            old.id == new.id
                && (old.plane.is_none() || new.plane.is_none() || old.plane == new.plane)
        })
    }
}

impl TransportRegistry {
    /// An empty registry with the default [`FallbackConfig`].
    pub fn new() -> Self {
        Self::with_fallback(FallbackConfig::default())
    }

    /// An empty registry with another fallback rule.
    pub fn with_fallback(config: FallbackConfig) -> Self {
        Self {
            tables: ArcSwap::default(),
            writer: Mutex::new(()),
            revision: AtomicU64::new(0),
            fallback: Fallback::new(config),
            ways: Arc::default(),
        }
    }

    /// Adds a transport of the request plane. Without a server it can only call. It never waits; it
    /// is async because the interface of the design documents is.
    ///
    /// # Errors
    /// [`RegistryError`]: the id is taken, or the record names another plane.
    pub async fn register_request_transport(
        &self,
        registration: TransportRegistration,
        client: Arc<dyn RequestPlaneClient>,
        server: Option<Arc<dyn RequestPlaneServer>>,
    ) -> Result<(), RegistryError> {
        let plane = Some(PlaneType::Request);
        self.register(plane, registration, |tables, registration| {
            tables.request.push(RequestSide { registration, client, server });
        })
    }

    /// Adds a transport of the response plane. Without a server it can only dial back. Never waits.
    ///
    /// # Errors
    /// As [`register_request_transport`](Self::register_request_transport).
    pub async fn register_response_transport(
        &self,
        registration: TransportRegistration,
        client: Arc<dyn ResponsePlaneClient>,
        server: Option<Arc<dyn ResponsePlaneServer>>,
    ) -> Result<(), RegistryError> {
        let plane = Some(PlaneType::Response);
        self.register(plane, registration, |tables, registration| {
            tables.response.push(ResponseSide { registration, client, server });
        })
    }

    /// Adds a transport that carries both halves on one connection; see
    /// [`TransportRegistration::duplex`]. Install the metrics recorder before this call, because
    /// the transport's metrics are registered here.
    ///
    /// # Errors
    /// As [`register_request_transport`](Self::register_request_transport).
    pub fn register_duplex_transport(
        &self,
        registration: TransportRegistration,
        transport: Arc<dyn DuplexTransport>,
    ) -> Result<(), RegistryError> {
        let metrics = TransportMetrics::new(transport.id(), Side::Calling);
        let added = Arc::clone(&transport);
        self.register(None, registration, |tables, registration| {
            tables.duplex.push(Duplex { registration, transport, metrics });
        })?;
        added.find_ways(Arc::clone(&self.ways) as _);
        Ok(())
    }

    fn register(
        &self,
        plane: Option<PlaneType>,
        registration: TransportRegistration,
        add: impl FnOnce(&mut Tables, TransportRegistration),
    ) -> Result<(), RegistryError> {
        let TransportRegistration { id, plane: given, .. } = &registration;
        if *given != plane {
            return Err(RegistryError::WrongPlane { id: id.clone(), given: *given });
        }
        let _writing = self.writer.lock();
        let mut tables = Tables::clone(&self.tables.load());
        if tables.is_taken(&registration) {
            return Err(RegistryError::Duplicate { id: id.clone() });
        }
        add(&mut tables, registration);
        self.tables.store(Arc::new(tables));
        self.revision.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// A number that grows with every registration. Routes that were resolved at a lower revision
    /// may lack a transport.
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Every record, duplex transports first, otherwise in the order of registration.
    pub fn registrations(&self) -> Vec<TransportRegistration> {
        self.tables.load().registrations().cloned().collect()
    }

    /// Selects the transport for one half of an exchange: of those that satisfy the requirements,
    /// the one with the highest priority, then the nearest, then the first by name.
    pub fn select_transport(
        &self,
        plane: PlaneType,
        required: &TransportRequirements,
    ) -> Option<TransportId> {
        let tables = self.tables.load();
        let fitting = tables
            .registrations()
            .filter(|one| one.carries(plane) && one.capabilities.satisfy(required));
        let best =
            fitting.min_by_key(|one| (Reverse(one.priority), one.capabilities.latency, &one.id));
        best.map(|one| one.id.clone())
    }

    /// The duplex transport with that id.
    pub fn duplex(&self, id: &TransportId) -> Option<Arc<dyn DuplexTransport>> {
        let tables = self.tables.load();
        let found = tables.duplex.iter().find(|one| one.registration.id == *id);
        found.map(|one| Arc::clone(&one.transport))
    }

    /// The request-plane client with that id.
    pub fn request_client(&self, id: &TransportId) -> Option<Arc<dyn RequestPlaneClient>> {
        let tables = self.tables.load();
        let found = tables.request.iter().find(|one| one.registration.id == *id);
        found.map(|one| Arc::clone(&one.client))
    }

    /// The request-plane server with that id.
    pub fn request_server(&self, id: &TransportId) -> Option<Arc<dyn RequestPlaneServer>> {
        let tables = self.tables.load();
        tables.request.iter().find(|one| one.registration.id == *id)?.server.clone()
    }

    /// The response-plane client with that id, which dials callers back.
    pub fn response_client(&self, id: &TransportId) -> Option<Arc<dyn ResponsePlaneClient>> {
        let tables = self.tables.load();
        let found = tables.response.iter().find(|one| one.registration.id == *id);
        found.map(|one| Arc::clone(&one.client))
    }

    /// The response-plane server with that id, which accepts workers that dial back.
    pub fn response_server(&self, id: &TransportId) -> Option<Arc<dyn ResponsePlaneServer>> {
        let tables = self.tables.load();
        tables.response.iter().find(|one| one.registration.id == *id)?.server.clone()
    }

    /// The routes to an instance at these addresses, in the order in which they are tried: within
    /// the process, within the host, then by priority, latency class and the order of the
    /// addresses. Addresses that no transport of this process dials are left out.
    ///
    /// For as long as one of the routes is kept, the transports know the others: a stream that has
    /// lost its connection is attached over any of them.
    pub fn resolve(
        &self,
        addresses: &[Address],
        proximity: Proximity,
        required: &TransportRequirements,
    ) -> Vec<Route> {
        let mut routes = route::routes(&self.tables.load().duplex, addresses, proximity, required);
        self.ways.learn(&mut routes);
        routes
    }

    #[cfg(test)]
    pub(crate) fn known_addresses(&self) -> usize {
        self.ways.len()
    }

    /// Sends a request over the first of the routes that can be connected. The [fallback
    /// rule](crate#fallback-rule) says when the next route is tried, and for how long a failed one
    /// is avoided. Dropping the future cancels the request if it was sent.
    ///
    /// # Errors
    /// [`Code::NoTransport`] if there is no route. Otherwise the first error that is not a connect
    /// failure or, if no route could be connected, the last connect failure.
    pub async fn open(&self, routes: &[Route], request: OutgoingRequest) -> Result<Opened, Error> {
        match self.open_now(routes, &request) {
            Some(opened) => opened,
            None => self.fallback.open(routes, request).await,
        }
    }

    /// Takes over a stream that another process has opened, over the first of the routes that can be
    /// connected.
    ///
    /// # Errors
    /// As [`open`](Self::open). [`Code::ResumeExpired`] if none of the routes keeps streams.
    pub async fn resume(&self, routes: &[Route], request: &ResumeRequest) -> Result<Opened, Error> {
        self.fallback.resume(routes, request).await
    }

    /// Sends a request over the first of the routes, without waiting, if that route is connected
    /// and has room. `None` if it is not; nothing was sent then.
    pub fn open_now(
        &self,
        routes: &[Route],
        request: &OutgoingRequest,
    ) -> Option<Result<Opened, Error>> {
        self.fallback.open_now(routes, request)
    }

    /// Connects to an instance over the first of the routes that answers. A later
    /// [`open`](Self::open) uses that route. `None` if the first route is connected or needs no
    /// connection. Sends no request. Dropping the future ends only the wait; a connection that is
    /// being made ends within the limits of its transport.
    ///
    /// The future fails with the last failure to connect, or with the end of `context`. No handler
    /// has run.
    pub fn connect<'a>(
        &'a self,
        routes: &'a [Route],
        context: &'a Context,
    ) -> Option<BoxFuture<'a, Result<(), Error>>> {
        Some(Box::pin(self.fallback.connect(routes, context)?))
    }

    /// The error for an instance that no transport of this process can reach. It names the
    /// transports of this process and the addresses of the instance.
    pub fn no_transport(&self, what: &dyn fmt::Display, addresses: &[Address]) -> Error {
        let tables = self.tables.load();
        let ours: Vec<_> =
            tables.duplex.iter().map(|one| one.registration.scheme.as_str()).collect();
        let theirs: Vec<_> = addresses.iter().map(Address::scheme).collect();
        let message = format!(
            "{what} offers [{}] and this process speaks [{}]: enable one transport on both sides",
            theirs.join(", "),
            ours.join(", ")
        );
        Error::new(Code::NoTransport, message)
    }

    /// Which request and response transports can be combined: each duplex transport with
    /// itself, each request transport with each response transport.
    pub fn combinations(&self) -> Vec<Combination> {
        let tables = self.tables.load();
        let duplex = tables.duplex.iter().map(|one| {
            let id = one.registration.id.clone();
            Combination { request: id.clone(), response: id, exchange: Exchange::Duplex }
        });
        let split = tables.request.iter().flat_map(|request| {
            tables.response.iter().map(|response| Combination {
                request: request.registration.id.clone(),
                response: response.registration.id.clone(),
                exchange: Exchange::Split,
            })
        });
        duplex.chain(split).collect()
    }

    /// Closes the connections of all duplex transports in parallel.
    pub async fn close(&self, grace: Duration) -> Shutdown {
        let tables = self.tables.load_full();
        let closing = tables.duplex.iter().map(|one| one.transport.close(grace));
        let cut = futures_util::future::join_all(closing).await;
        cut.into_iter().fold(Shutdown::default(), std::ops::Add::add)
    }
}

impl Default for TransportRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TransportRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.registrations().into_iter().map(|one| one.id).collect();
        f.debug_tuple("TransportRegistry").field(&ids).finish()
    }
}
