//! The split exchange in this process: where requests are acknowledged, and who dials whom back.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;
#[cfg(feature = "dynamo")]
use sinew_compat_dynamo::{DynamoCodec, DynamoScheme};
use sinew_discovery::{Change, Instance, View};
use sinew_ingress::Ingress;
#[cfg(any(feature = "dynamo", feature = "nats"))]
use sinew_plane::RequestPlaneClient;
use sinew_plane::{
    Address, DuplexTransport, EndpointName, Error, InstanceId, OutgoingRequest,
    ResponsePlaneServer, ResponseRegistration, Shutdown,
};
use sinew_plane_call_home::{CheckedTcpStreamServerConfig, TcpStreamClient, TcpStreamServer};
#[cfg(feature = "dynamo")]
use sinew_plane_request_tcp::{TcpRequestClient, TcpRequestServer};
use sinew_split::{PeerCodec, SplitServer, SplitServerConfig};
#[cfg(any(feature = "dynamo", feature = "nats"))]
use sinew_split::{SplitScheme, SplitTransport};
use tokio::{
    runtime::Handle,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[cfg(feature = "dynamo")]
use crate::RequestPlane;
#[cfg(feature = "nats")]
use crate::nats::Nats;
use crate::{CheckedConfig, StartError};

/// What carries split exchanges, on both sides.
pub(crate) struct Planes {
    /// Takes requests off every acknowledging plane.
    pub(crate) server: SplitServer,
    dial_back: Arc<TcpStreamClient>,
    call_home: Arc<CallHome>,
    /// Largest body and largest item.
    #[cfg(any(feature = "dynamo", feature = "nats"))]
    max_message_bytes: usize,
    /// Sends requests in Dynamo's TCP frames, unless the settings say NATS.
    #[cfg(feature = "dynamo")]
    frames: Option<Arc<TcpRequestClient>>,
    #[cfg(feature = "nats")]
    pub(crate) nats: Option<Nats>,
}

impl Planes {
    /// Sets the planes up that the settings ask for. Nothing listens yet.
    pub(crate) async fn new(
        config: &CheckedConfig,
        ingress: Ingress,
        view: View,
        waiting: &(dyn Fn(&str) + Sync),
    ) -> Result<Self, StartError> {
        let dial_back = Arc::new(TcpStreamClient::new(config.dial_back.clone()));
        let server = SplitServer::new(server_limits(config), dial_back.clone(), Arc::new(ingress));
        let call_home = Arc::new(CallHome::new(config.call_home.clone(), view));
        #[cfg(feature = "nats")]
        let nats = Nats::connect(config, &server, waiting).await?;
        #[cfg(not(feature = "nats"))]
        let _ = waiting;
        Ok(Self {
            server,
            dial_back,
            call_home,
            #[cfg(any(feature = "dynamo", feature = "nats"))]
            max_message_bytes: config.tcp.driver.mux.max_message_bytes,
            #[cfg(feature = "dynamo")]
            frames: (config.request_plane != RequestPlane::Nats)
                .then(|| Arc::new(TcpRequestClient::new(config.frames.clone()))),
            #[cfg(feature = "nats")]
            nats,
        })
    }

    /// The calling sides over each request plane that there is: to workers of Sinew and, where this
    /// build has it, to Dynamo's.
    #[cfg(any(feature = "dynamo", feature = "nats"))]
    pub(crate) fn transports(&self) -> Vec<Arc<dyn DuplexTransport>> {
        let mut all: Vec<Arc<dyn DuplexTransport>> = Vec::new();
        #[cfg(feature = "dynamo")]
        if let Some(frames) = &self.frames {
            all.push(self.to_sinew(SplitScheme::TCP, frames.clone()));
            all.push(self.to_dynamo(DynamoScheme::Tcp, frames.clone()));
        }
        #[cfg(feature = "nats")]
        if let Some(nats) = &self.nats {
            all.push(self.to_sinew(SplitScheme::NATS, nats.client()));
            #[cfg(feature = "dynamo")]
            all.push(self.to_dynamo(DynamoScheme::Nats, nats.client()));
        }
        all
    }

    /// None: this build has no request plane.
    #[cfg(not(any(feature = "dynamo", feature = "nats")))]
    pub(crate) fn transports(&self) -> Vec<Arc<dyn DuplexTransport>> {
        Vec::new()
    }

    #[cfg(any(feature = "dynamo", feature = "nats"))]
    fn to_sinew(
        &self,
        scheme: SplitScheme,
        requests: Arc<dyn RequestPlaneClient>,
    ) -> Arc<dyn DuplexTransport> {
        let (limit, responses) = (self.max_message_bytes, self.call_home.clone());
        Arc::new(SplitTransport::new(scheme, limit, requests, responses))
    }

    #[cfg(feature = "dynamo")]
    fn to_dynamo(
        &self,
        scheme: DynamoScheme,
        requests: Arc<dyn RequestPlaneClient>,
    ) -> Arc<dyn DuplexTransport> {
        let (limit, responses) = (self.max_message_bytes, self.call_home.clone());
        Arc::new(scheme.split_transport(limit, requests, responses))
    }

    /// Takes requests in Dynamo's TCP frames off a port.
    #[cfg(feature = "dynamo")]
    pub(crate) fn frame_server(&self, config: &CheckedConfig) -> Arc<TcpRequestServer> {
        let handler = Arc::new(self.server.clone());
        Arc::new(TcpRequestServer::new(config.frame_server.clone(), handler))
    }

    /// Ends the serving side, behind the requests that it took.
    pub(crate) async fn end_serving(&self, grace: Duration) -> Shutdown {
        self.server.shutdown(grace).await + self.dial_back.close(grace).await
    }

    /// Ends the calling side and NATS, behind the transports that used them.
    pub(crate) async fn end_calling(&self, grace: Duration) -> Shutdown {
        #[cfg(feature = "dynamo")]
        if let Some(frames) = &self.frames {
            frames.close().await;
        }
        let ended = self.call_home.close(grace).await;
        #[cfg(feature = "nats")]
        if let Some(nats) = &self.nats {
            return ended + nats.close(grace).await;
        }
        ended
    }
}

/// What fits into a frame of the size that the settings allow, with its wrapping.
fn server_limits(config: &CheckedConfig) -> SplitServerConfig {
    const WRAPPING: usize = 4096;
    let max_item_bytes = config.dial_back.max_frame_bytes.saturating_sub(WRAPPING);
    let budget = Some(Arc::clone(&config.budget));
    SplitServerConfig { max_item_bytes, budget, peer: peer(), ..SplitServerConfig::default() }
}

/// Speaks with callers that are not Sinew's.
fn peer() -> Option<Arc<dyn PeerCodec>> {
    #[cfg(feature = "dynamo")]
    return Some(Arc::new(DynamoCodec));
    #[cfg(not(feature = "dynamo"))]
    None
}

/// Where workers dial back to. It listens from the first split request on, because a process that
/// makes none need not be reachable.
struct CallHome {
    config: CheckedTcpStreamServerConfig,
    view: View,
    /// The runtime that this process was started in: the listener outlives whoever needs it first.
    runtime: Handle,
    listening: OnceLock<Arc<TcpStreamServer>>,
    /// Held while it is bound.
    binding: Mutex<()>,
    /// Follows discovery, so that nobody waits for a worker that is gone.
    follower: TaskTracker,
    closing: CancellationToken,
}

impl CallHome {
    fn new(config: CheckedTcpStreamServerConfig, view: View) -> Self {
        Self {
            config,
            view,
            runtime: Handle::current(),
            listening: OnceLock::new(),
            binding: Mutex::default(),
            follower: TaskTracker::new(),
            closing: CancellationToken::new(),
        }
    }

    /// The server, bound by the first who asks. A failure is told and not kept: the port may be
    /// free the next time.
    fn server(&self) -> Result<&TcpStreamServer, Error> {
        if let Some(server) = self.listening.get() {
            return Ok(server);
        }
        let _binding = self.binding.lock();
        if self.closing.is_cancelled() {
            return Err(Error::draining("the runtime is shutting down"));
        }
        if self.listening.get().is_none() {
            let _within = self.runtime.enter();
            let server = Arc::new(TcpStreamServer::bind(self.config.clone())?);
            let following = follow(self.view.clone(), Arc::clone(&server));
            let following = self.closing.clone().run_until_cancelled_owned(following);
            self.follower.spawn(following);
            // Under the lock nobody else sets it.
            let _ = self.listening.set(server);
        }
        self.listening.get().map(|server| &**server).ok_or_else(|| Error::draining("not bound"))
    }

    async fn close(&self, grace: Duration) -> Shutdown {
        {
            let _binding = self.binding.lock();
            self.closing.cancel();
        }
        self.follower.close();
        self.follower.wait().await;
        match self.listening.get() {
            Some(server) => server.close(grace).await,
            None => Shutdown::default(),
        }
    }
}

impl Drop for CallHome {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// How long one that has gone from discovery may still begin to answer what it has accepted. A
/// worker that leaves in order, or whose entry was lost, dials back within milliseconds; only the
/// requests of one that is dead wait for so long.
const DIAL_BACK_GRACE: Duration = Duration::from_secs(2);

/// Tells the server who came, and, a little later, who went.
async fn follow(mut view: View, server: Arc<TcpStreamServer>) {
    // In the order of the times; at most as many as went within the last of them.
    let mut gone: VecDeque<(Instant, Arc<Instance>)> = VecDeque::new();
    loop {
        let changed = match gone.front() {
            Some((due, _)) => timeout_at(*due, view.changed()).await,
            None => Ok(view.changed().await),
        };
        let changes = match changed {
            Ok(Some(changes)) => changes,
            Ok(None) => return,
            Err(_) => Vec::new(),
        };
        for change in changes {
            match change {
                Change::Removed(one) => gone.push_back((Instant::now() + DIAL_BACK_GRACE, one)),
                Change::Added(one) | Change::Changed { new: one, .. } => {
                    gone.retain(|(_, gone)| gone.key() != one.key());
                    server.instance_added(&one.endpoint, one.id);
                }
            }
        }
        let now = Instant::now();
        while gone.front().is_some_and(|(due, _)| *due <= now)
            && let Some((_, one)) = gone.pop_front()
        {
            server.instance_removed(&one.endpoint, one.id);
        }
    }
}

impl ResponsePlaneServer for CallHome {
    fn register(&self, request: &OutgoingRequest) -> Result<ResponseRegistration, Error> {
        self.server()?.register(request)
    }

    fn instance_removed(&self, endpoint: &EndpointName, instance: InstanceId) {
        if let Some(server) = self.listening.get() {
            server.instance_removed(endpoint, instance);
        }
    }

    fn public_address(&self) -> Option<Address> {
        self.server().ok()?.public_address()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use sinew_discovery::{Discovery, MemoryDiscovery};

    use super::*;
    use crate::{Config, RequestPlane};

    #[tokio::test]
    async fn a_build_without_dynamo_speaks_none_of_it() {
        let config = Config { request_plane: RequestPlane::Tcp, ..Config::default() };
        let config = config.checked().unwrap();
        let view = MemoryDiscovery::new().watch().await.unwrap();
        let planes = Planes::new(&config, Ingress::default(), view, &|_| {}).await.unwrap();
        let transports = planes.transports();
        let names: Vec<_> = transports.iter().map(|one| one.id().as_str()).collect();
        let expected: &[&str] =
            if cfg!(feature = "dynamo") { &["split-tcp", "dynamo-tcp"] } else { &[] };
        assert_eq!(names, expected);
        assert_eq!(peer().is_some(), cfg!(feature = "dynamo"));
        planes.end_serving(Duration::ZERO).await;
        planes.end_calling(Duration::ZERO).await;
    }

    #[tokio::test]
    async fn a_port_that_was_taken_is_bound_once_it_is_free() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = Config::default();
        config.call_home.port = taken.local_addr().unwrap().port();
        let config = config.checked().unwrap();
        let view = MemoryDiscovery::new().watch().await.unwrap();
        let call_home = CallHome::new(config.call_home.clone(), view);
        assert!(call_home.server().is_err());
        drop(taken);
        assert!(call_home.server().is_ok());
        assert_eq!(call_home.close(Duration::ZERO).await, Shutdown::default());
        assert!(call_home.closing.is_cancelled());
    }
}
