//! The split exchange in this process: where requests are acknowledged, and who dials whom back.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
    time::Duration,
};

use sinew_compat_dynamo::{SplitScheme, SplitServer, SplitServerConfig, SplitTransport};
use sinew_discovery::{Change, Instance, View};
use sinew_ingress::Ingress;
use sinew_plane::{
    Address, DuplexTransport, EndpointName, Error, InstanceId, OutgoingRequest, RequestPlaneClient,
    ResponsePlaneServer, ResponseRegistration, Shutdown,
};
use sinew_transport_tcp::{
    CheckedTcpStreamServerConfig, TcpRequestClient, TcpStreamClient, TcpStreamServer,
};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};

#[cfg(feature = "nats")]
use crate::nats::Nats;
use crate::{CheckedConfig, RequestPlane, StartError};

/// What carries split exchanges, on both sides.
pub(crate) struct Planes {
    /// Takes requests off every acknowledging plane.
    pub(crate) server: SplitServer,
    dial_back: Arc<TcpStreamClient>,
    call_home: Arc<CallHome>,
    #[cfg(feature = "nats")]
    pub(crate) nats: Option<Nats>,
}

impl Planes {
    /// Sets the planes up that the settings ask for. Nothing listens yet.
    pub(crate) async fn new(
        config: &CheckedConfig,
        ingress: Ingress,
        view: View,
    ) -> Result<Self, StartError> {
        let dial_back = Arc::new(TcpStreamClient::new(config.dial_back.clone()));
        let server =
            SplitServer::new(SplitServerConfig::default(), dial_back.clone(), Arc::new(ingress));
        let call_home = Arc::new(CallHome::new(config.call_home.clone(), view));
        #[cfg(feature = "nats")]
        let nats = Nats::connect(config, &server).await?;
        #[cfg(not(feature = "nats"))]
        refuse_nats(config)?;
        Ok(Self {
            server,
            dial_back,
            call_home,
            #[cfg(feature = "nats")]
            nats,
        })
    }

    /// The calling sides: Dynamo's TCP frames unless the settings say NATS, and NATS when there
    /// is a connection.
    pub(crate) fn transports(&self, config: &CheckedConfig) -> Vec<Arc<dyn DuplexTransport>> {
        let limit = config.tcp.mux.max_message_bytes;
        let mut all: Vec<Arc<dyn DuplexTransport>> = Vec::new();
        let mut add = |scheme, requests: Arc<dyn RequestPlaneClient>| {
            let responses = self.call_home.clone();
            all.push(Arc::new(SplitTransport::new(scheme, limit, requests, responses)));
        };
        if config.request_plane != RequestPlane::Nats {
            let requests = Arc::new(TcpRequestClient::new(config.frames.clone()));
            add(SplitScheme::SplitTcp, requests.clone());
            add(SplitScheme::DynamoTcp, requests);
        }
        #[cfg(feature = "nats")]
        if let Some(nats) = &self.nats {
            add(SplitScheme::Nats, nats.client());
            add(SplitScheme::DynamoNats, nats.client());
        }
        all
    }

    /// Ends the serving side, behind the requests that it took.
    pub(crate) async fn shutdown(&self, grace: Duration) -> Shutdown {
        let server = self.server.shutdown(grace).await;
        let dial_back = self.dial_back.close(grace).await;
        let call_home = self.call_home.close(grace).await;
        #[cfg(feature = "nats")]
        if let Some(nats) = &self.nats {
            return server + dial_back + call_home + nats.close(grace).await;
        }
        server + dial_back + call_home
    }
}

#[cfg(not(feature = "nats"))]
fn refuse_nats(config: &CheckedConfig) -> Result<(), StartError> {
    if config.request_plane != RequestPlane::Nats && config.nats.is_empty() {
        return Ok(());
    }
    let reason = "this build has no NATS: build with the feature `nats`";
    Err(crate::ConfigError::new("request_plane", reason).into())
}

/// Where workers dial back to. It listens from the first split request on, because a process that
/// makes none need not be reachable.
struct CallHome {
    config: CheckedTcpStreamServerConfig,
    view: View,
    listening: OnceLock<Result<Listening, Error>>,
}

struct Listening {
    server: Arc<TcpStreamServer>,
    /// Follows discovery, so that nobody waits for a worker that is gone.
    follower: JoinHandle<()>,
}

impl CallHome {
    fn new(config: CheckedTcpStreamServerConfig, view: View) -> Self {
        Self { config, view, listening: OnceLock::new() }
    }

    fn server(&self) -> Result<&TcpStreamServer, Error> {
        let listening = self.listening.get_or_init(|| {
            let server = Arc::new(TcpStreamServer::bind(self.config.clone())?);
            let follower = tokio::spawn(follow(self.view.clone(), Arc::clone(&server)));
            Ok(Listening { server, follower })
        });
        match listening {
            Ok(listening) => Ok(&listening.server),
            Err(error) => Err(error.clone()),
        }
    }

    async fn close(&self, grace: Duration) -> Shutdown {
        let Some(Ok(listening)) = self.listening.get() else { return Shutdown::default() };
        listening.follower.abort();
        listening.server.close(grace).await
    }
}

impl Drop for CallHome {
    fn drop(&mut self) {
        if let Some(Ok(listening)) = self.listening.get() {
            listening.follower.abort();
        }
    }
}

/// How long one that has gone from discovery may still begin to answer what it has accepted. A
/// worker that leaves in order, or whose entry was lost, dials back within milliseconds; only the
/// requests of one that is dead wait for so long.
const LAST_DIALS: Duration = Duration::from_secs(2);

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
                Change::Removed(one) => gone.push_back((Instant::now() + LAST_DIALS, one)),
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
        if let Some(Ok(listening)) = self.listening.get() {
            listening.server.instance_removed(endpoint, instance);
        }
    }

    fn public_address(&self) -> Option<Address> {
        self.server().ok()?.public_address()
    }
}
