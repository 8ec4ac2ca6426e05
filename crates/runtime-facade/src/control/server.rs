//! The serving end of a control endpoint.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::{Stream, stream};
use parking_lot::Mutex;
use sinew_ingress::{EndpointConfig, Handler, Ingress, IngressConfig, ServedEndpoint};
use sinew_plane::{DuplexServer, Error, InstanceId, RequestHandler};
use sinew_transport_tcp::{CheckedTcpConfig, TcpServer};
use tokio::{
    sync::mpsc,
    time::{Interval, interval},
};

use super::{DRAIN, DrainProgress, DrainRequest, ProcessStatus, STATUS, folder};
use crate::{CheckedConfig, Endpoint, Handle, Runtime, WeakRuntime, serve::Announced};

/// Commands under way at once. Each is a person's or a script's.
const MAX_COMMANDS: usize = 64;

/// How often the caller of a drain hears how far it has come.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Serves the control endpoint of a runtime.
#[derive(Default)]
pub(crate) struct ControlServer {
    runtime: Arc<OnceLock<WeakRuntime>>,
    serving: Mutex<Option<Serving>>,
}

struct Serving {
    server: Arc<TcpServer>,
    ingress: Ingress,
    _endpoints: [ServedEndpoint; 2],
}

impl ControlServer {
    /// Sets the runtime that is controlled. Before, commands fail.
    pub(crate) fn control(&self, runtime: WeakRuntime) {
        // It is set once, by the start of the runtime.
        let _ = self.runtime.set(runtime);
    }

    /// Begins to take commands, once. A process that cannot be controlled serves all the same.
    pub(crate) fn start(&self, config: &CheckedConfig) {
        let mut serving = self.serving.lock();
        if serving.is_some() {
            return;
        }
        match self.serve(config) {
            Ok(started) => *serving = Some(started),
            Err(error) => {
                tracing::warn!(%error, "no control endpoint: `sinew drain` cannot reach this process");
            }
        }
    }

    /// Lets the commands under way end within `grace`, and ends. Commands are none of the requests
    /// that a process counts.
    pub(crate) async fn stop(&self, grace: Duration) {
        let serving = self.serving.lock().take();
        if let Some(Serving { server, ingress, .. }) = serving {
            ingress.shutdown(grace).await;
            server.shutdown(grace).await;
        }
    }

    fn serve(&self, config: &CheckedConfig) -> Result<Serving, Error> {
        let limits = IngressConfig { max_in_flight: MAX_COMMANDS, ..IngressConfig::default() };
        let ingress = Ingress::new(limits);
        let (runtime, of_drain) = (Arc::clone(&self.runtime), Arc::clone(&self.runtime));
        let status = move |()| {
            let runtime = Arc::clone(&runtime);
            async move { status(&controlled(&runtime)?) }
        };
        let drain = move |request: DrainRequest| {
            let runtime = Arc::clone(&of_drain);
            async move { drain(&controlled(&runtime)?, &request) }
        };
        let endpoints = [serve(&ingress, &STATUS, status), serve(&ingress, &DRAIN, drain)];
        let unix_dir = Some(folder(&config.runtime_dir));
        let tcp = CheckedTcpConfig { unix_dir, ..config.tcp().clone() };
        let handler: Arc<dyn RequestHandler> = Arc::new(ingress.clone());
        let server = Arc::new(TcpServer::bind_unix(tcp, handler)?);
        Ok(Serving { server, ingress, _endpoints: endpoints })
    }
}

fn serve<Req, Resp, K, H>(
    ingress: &Ingress,
    endpoint: &Endpoint<Req, Resp>,
    handler: H,
) -> ServedEndpoint
where
    H: Handle<Req, Resp, K>,
{
    let handler: Handler = handler.into_served().into();
    ingress.serve(endpoint.name(), InstanceId::random(), EndpointConfig::default(), handler)
}

fn controlled(runtime: &OnceLock<WeakRuntime>) -> Result<Runtime, Error> {
    let runtime = runtime.get().and_then(WeakRuntime::upgrade);
    runtime.ok_or_else(|| Error::draining("the runtime has ended"))
}

fn status(runtime: &Runtime) -> Result<ProcessStatus, Error> {
    let endpoints = runtime.announced().iter().map(|one| one.status()).collect();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Ok(ProcessStatus { pid: std::process::id(), version, endpoints })
}

/// Drains what the request names, in tasks of the runtime, so that a caller that goes away leaves
/// nothing half drained.
fn drain(
    runtime: &Runtime,
    request: &DrainRequest,
) -> Result<impl Stream<Item = Result<DrainProgress, Error>> + use<>, Error> {
    let mut meant = runtime.announced();
    meant.retain(|one| request.includes(one.endpoint(), one.instance()));
    // One event for each, so that no task waits for a caller that reads slowly.
    let (done, events) = mpsc::channel(meant.len().max(1));
    for announced in &meant {
        let (announced, done) = (Arc::clone(announced), done.clone());
        runtime.spawn_drain(async move {
            let drained = announced.drain().await;
            let (endpoint, instance) = (announced.endpoint().clone(), announced.instance());
            // The caller may have gone.
            let _ = done.send(DrainProgress::drained(endpoint, instance, drained)).await;
        });
    }
    let progress = Progress { meant, events, ticks: interval(PROGRESS_EVERY) };
    Ok(stream::unfold(progress, |mut progress| async move {
        let event = progress.next().await?;
        Some((Ok(event), progress))
    }))
}

/// A drain that is under way.
struct Progress {
    meant: Vec<Arc<Announced>>,
    events: mpsc::Receiver<DrainProgress>,
    ticks: Interval,
}

impl Progress {
    /// The next news; `None` once all are drained.
    async fn next(&mut self) -> Option<DrainProgress> {
        tokio::select! {
            biased;
            event = self.events.recv() => event,
            _ = self.ticks.tick() => {
                let in_flight = self.meant.iter().map(|one| one.status().in_flight).sum();
                let grace = self.meant.iter().map(|one| one.grace()).max().unwrap_or_default();
                Some(DrainProgress::Draining { in_flight, grace })
            }
        }
    }
}
