//! The caller's side: expects streams, and accepts the workers that dial back.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use bytes::Bytes;
use sinew_dynamo_wire::{
    ConnectionInfoTemplate, SinewOffer, StreamType, Subject, TOKEN_BYTES, TcpStreamConnectionInfo,
};
use sinew_mux::Token;
use sinew_mux_driver::ConnectionSet;
use sinew_net::{Admission, accept_connections, listen_tcp, tune_listener};
use sinew_plane::{
    Address, BoxStream, Code, Context, EndpointName, Error, InstanceId, OutgoingRequest, ProcessId,
    RequestRegistration, RequestStreamServer, ResponsePlaneServer, ResponseRegistration,
    ResponseSource, ResponseStream, Shutdown,
};
use sinew_telemetry::Side;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{
    expected::{Entry, ExpectedStreams, RemovedInstances},
    request_items::{Expectation, Output},
    response::{Response, is_of_sinew},
    response_connection::ResponseConnection,
    worker_connections::WorkerConnections,
};
use crate::config::CheckedTcpStreamServerConfig;

/// How long a worker that discovery has removed, and that has no connection here, may take to dial
/// again: one that drains is removed too, and dials at once.
const REMOVED_GRACE: Duration = Duration::from_secs(2);

/// The caller's end of the call-home plane: it expects response streams, and request streams that
/// workers fetch, and listens for workers that dial back.
///
/// Items that a consumer does not take stay in the socket of the stream and block the producer. The
/// worker gets the end, drop or cancel of a stream at once.
pub struct TcpStreamServer {
    shared: Arc<Shared>,
    bound: SocketAddr,
    advertised: String,
    infos: Infos,
}

/// What workers are told to dial.
struct Infos {
    request: ConnectionInfoTemplate,
    response: ConnectionInfoTemplate,
    /// With the offer of shared connections.
    pooled: ConnectionInfoTemplate,
}

/// What the listener, the streams and the server share.
pub(crate) struct Shared {
    pub(crate) config: CheckedTcpStreamServerConfig,
    pub(crate) runtime: Handle,
    /// The shared connections of workers, and every task of this server.
    pub(crate) connections: Arc<ConnectionSet>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) stop_accepting: CancellationToken,
    /// The grace is over: tasks end now.
    pub(crate) closing: CancellationToken,
    pub(crate) streams: ExpectedStreams,
    pub(crate) workers: WorkerConnections,
    removed: RemovedInstances,
    /// Connections with one stream, or none yet.
    pub(crate) open: Arc<AtomicUsize>,
}

impl TcpStreamServer {
    /// Binds the listener of the configuration. Call it within a tokio runtime.
    ///
    /// # Errors
    /// The address or interface does not exist on this machine, cannot be bound, or may not be
    /// bound without `insecure`.
    pub fn bind(config: CheckedTcpStreamServerConfig) -> Result<Self, Error> {
        let refused = |message: String| Error::new(Code::Exhausted, message);
        let policy = config.listen.bind_policy;
        let ip = config.host.resolve(policy).map_err(|cause| {
            refused(format!("no address to listen on: {cause}")).with_source(cause)
        })?;
        let address = SocketAddr::new(ip, config.port);
        policy.check(address).map_err(|error| refused(error.to_string()))?;
        let listening = listen_tcp(address, config.listen.backlog).and_then(|(listener, bound)| {
            tune_listener(&listener, config.driver.mux.keepalive_timeout)?;
            Ok((listener, bound))
        });
        let (listener, bound) = listening.map_err(|cause| {
            refused(format!("cannot listen on {address}: {cause}")).with_source(cause)
        })?;
        let advertised = config.listen.advertised(bound);
        let infos = Infos::new(&advertised, config.driver.mux.process);
        let shared = Arc::new(Shared {
            admission: Arc::new(config.listen.admission(config.driver.budget.as_deref())),
            config,
            runtime: Handle::current(),
            connections: ConnectionSet::new(Side::Calling),
            stop_accepting: CancellationToken::new(),
            closing: CancellationToken::new(),
            streams: ExpectedStreams::default(),
            workers: WorkerConnections::default(),
            removed: RemovedInstances::default(),
            open: Arc::default(),
        });
        shared.connections.spawn(accept_connections(listener, Arc::clone(&shared)));
        Ok(Self { shared, bound, advertised, infos })
    }

    /// The address that was bound, with its port.
    pub fn local_address(&self) -> SocketAddr {
        self.bound
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The number of open connections: shared ones, those of one stream, and those in their
    /// handshake.
    pub fn connections(&self) -> usize {
        self.shared.connection_count()
    }

    /// The number of streams that are expected or open.
    pub fn streams(&self) -> usize {
        self.shared.streams.len()
    }

    /// Called when discovery has added an instance again: requests to it are no longer refused.
    pub fn instance_added(&self, endpoint: &EndpointName, instance: InstanceId) {
        self.shared.removed.clear(endpoint, instance);
    }

    /// Stops listening, waits for the streams for at most `grace`, cuts the rest, and joins every
    /// task.
    pub async fn close(&self, grace: Duration) -> Shutdown {
        self.shared.stop_accepting.cancel();
        // Past the grace the rest is cut, which is what is counted below.
        let _ = tokio::time::timeout(grace, self.shared.streams.emptied()).await;
        let cut_streams = self.shared.cut_all("the caller has shut down");
        self.shared.closing.cancel();
        self.shared.connections.end(Duration::ZERO).await;
        Shutdown { cut_streams, cut_tasks: 0 }
    }

    fn expect(&self, request: &OutgoingRequest) -> Result<ResponseRegistration, Error> {
        self.shared.check_open()?;
        self.shared.check_alive(request)?;
        let context = request.context.clone();
        let mut asked = request.clone();
        // They travel with the request, not with the question for its response.
        (asked.body, asked.headers) = Default::default();
        let subject = ExpectedStreams::subject(context.id());
        let source = Arc::new(Response::new(subject, asked, Arc::clone(&self.shared)));
        self.shared.streams.insert(
            subject,
            context.id(),
            Entry::Response(Arc::downgrade(&source)),
            self.shared.config.max_streams,
        )?;
        // Again: a removal sees the entry, or this sees the removal.
        self.shared.check_alive(request)?;
        self.shared.check_open()?;
        context.on_cancel(Arc::downgrade(&source));
        // A worker that nobody can name cannot be asked.
        let process = source.request.process.filter(|_| is_of_sinew(&source.request));
        let token = process.filter(|_| self.shared.config.pool).map(|process| {
            // In this order: a worker comes with what its request holds.
            let token = self.shared.workers.token(process);
            self.shared.workers.request_stream(&source);
            token
        });
        let info = if token.is_some() { &self.infos.pooled } else { &self.infos.response };
        let connection_info = info.fill(subject, context.id(), token.as_ref().map(Token::as_bytes));
        // Who made the request watches it as a whole; this plane has limits of its own.
        let source = source as Arc<dyn ResponseSource>;
        let stream = ResponseStream::unlimited(source, context);
        Ok(ResponseRegistration { connection_info, stream })
    }
}

impl Infos {
    fn new(advertised: &str, process: ProcessId) -> Self {
        let info = |stream_type, sinew| {
            ConnectionInfoTemplate::new(TcpStreamConnectionInfo {
                address: advertised.to_owned(),
                subject: String::new(),
                context: String::new(),
                stream_type,
                sinew,
            })
        };
        let any = [0; TOKEN_BYTES];
        Self {
            request: info(StreamType::Request, None),
            response: info(StreamType::Response, Some(SinewOffer::new(process, None))),
            // Each worker's own is filled in.
            pooled: info(StreamType::Response, Some(SinewOffer::new(process, Some(&any)))),
        }
    }
}

impl Shared {
    pub(crate) fn connection_count(&self) -> usize {
        self.open.load(std::sync::atomic::Ordering::Relaxed) + self.connections.count()
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.stop_accepting.is_cancelled() {
            return Err(Error::draining("the caller's response server is closed"));
        }
        Ok(())
    }

    fn check_alive(&self, request: &OutgoingRequest) -> Result<(), Error> {
        if self.removed.has(&request.endpoint, request.instance) {
            let message = format!("the instance {} was removed a moment ago", request.instance);
            return Err(Error::draining(message));
        }
        Ok(())
    }

    /// A response has ended.
    pub(crate) fn forget(&self, source: &Response) {
        self.streams.remove(source.subject, source.request.context.id());
    }

    /// Asks for a response again, its shared connection having broken.
    pub(crate) fn request_stream(&self, subject: Subject) {
        if let Some(Entry::Response(source)) = self.streams.get(subject)
            && let Some(source) = source.upgrade()
        {
            self.workers.request_stream(&source);
        }
    }

    /// An instance of this process was removed. If the process has no connection here, it is most
    /// likely gone: its streams do not wait for the whole grace.
    fn give_up_soon(self: &Arc<Self>, process: ProcessId) {
        if !self.workers.has_lost(process) {
            return;
        }
        let (this, closing) = (Arc::clone(self), self.closing.clone());
        let later = async move {
            let pause = tokio::time::sleep(REMOVED_GRACE);
            if closing.run_until_cancelled(pause).await.is_some() {
                this.workers.end_lost(process);
            }
        };
        self.connections.spawn_on(later, &self.runtime);
    }

    /// Lets a connection end decently, without holding up who ends it.
    pub(crate) fn linger(&self, connection: ResponseConnection) {
        // Ending streams works from outside the runtime too.
        self.connections.spawn_on(connection.linger(), &self.runtime);
    }

    /// Ends every stream. Returns how many there were.
    fn cut_all(&self, reason: &str) -> usize {
        let error = Error::new(Code::ConnectionLost, reason);
        let ended = |entry: Entry| match entry {
            Entry::Response(source) => source.upgrade().is_some_and(|source| source.end(&error)),
            Entry::Request(output) => {
                self.streams.remove(output.subject, output.context.id());
                output.withdraw()
            }
        };
        self.streams.all().into_iter().map(ended).filter(|ended| *ended).count()
    }
}

impl ResponsePlaneServer for TcpStreamServer {
    fn register(&self, request: &OutgoingRequest) -> Result<ResponseRegistration, Error> {
        self.expect(request)
    }

    fn instance_removed(&self, endpoint: &EndpointName, instance: InstanceId) {
        // First, so that a stream that is expected from here on sees it.
        self.shared.removed.set(endpoint, instance, self.shared.config.tombstone_ttl);
        let message = "the worker was removed before its response began";
        let error = Error::new(Code::ConnectionLost, message);
        let mut processes = Vec::new();
        for entry in self.shared.streams.all() {
            if let Entry::Response(source) = entry
                && let Some(source) = source.upgrade()
                && source.request.instance == instance
                && source.request.endpoint == *endpoint
            {
                source.end_if_pending(&error);
                processes.extend(source.request.process);
            }
        }
        processes.sort_unstable();
        processes.dedup();
        for process in processes {
            self.shared.give_up_soon(process);
        }
    }

    fn public_address(&self) -> Option<Address> {
        Address::new("tcp", &self.advertised).ok()
    }

    fn resumes(&self) -> bool {
        self.shared.config.resumes()
    }
}

impl RequestStreamServer for TcpStreamServer {
    fn register_request_stream(
        &self,
        context: &Context,
        items: BoxStream<'static, Bytes>,
    ) -> Result<RequestRegistration, Error> {
        self.shared.check_open()?;
        let subject = ExpectedStreams::subject(context.id());
        let output = Arc::new(Output::new(subject, context.clone(), items));
        let entry = Entry::Request(Arc::clone(&output));
        self.shared.streams.insert(subject, context.id(), entry, self.shared.config.max_streams)?;
        let info = self.infos.request.fill(subject, context.id(), None);
        Ok(RequestRegistration::new(info, Expectation::new(output, Arc::clone(&self.shared))))
    }
}

impl Drop for TcpStreamServer {
    fn drop(&mut self) {
        self.shared.stop_accepting.cancel();
        self.shared.cut_all("the caller's response server was dropped");
        self.shared.closing.cancel();
        let error = Error::new(Code::ConnectionLost, "the caller's response server was dropped");
        self.shared.connections.close_all(&error);
    }
}

impl std::fmt::Debug for TcpStreamServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TcpStreamServer")
            .field("bound", &self.bound)
            .field("advertised", &self.advertised)
            .field("streams", &self.streams())
            .finish_non_exhaustive()
    }
}
