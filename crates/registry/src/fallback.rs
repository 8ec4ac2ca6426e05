//! One request over the first route that works: the rule stands in the crate documentation.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sinew_plane::{Code, Error, OutgoingRequest, ResponseStream, TransportId};
use sinew_telemetry::{Stopwatch, TransportMetrics};

use crate::{Route, hold_down::HoldDowns};

/// How a request moves on to the next transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FallbackConfig {
    /// How long an address that could not be connected to is tried last.
    pub hold_down: Duration,
    /// Most routes tried for one request to one instance; 1 turns the fallback off.
    pub max_routes: usize,
}

impl Default for FallbackConfig {
    /// Five seconds, which is longer than most connect limits and shorter than a restart; and
    /// as many routes as an instance can have addresses.
    fn default() -> Self {
        Self { hold_down: Duration::from_secs(5), max_routes: sinew_discovery::MAX_ADDRESSES }
    }
}

/// A request on its way.
#[derive(Debug)]
pub struct Opened {
    /// Its response.
    pub stream: ResponseStream,
    /// What carries it.
    pub transport: TransportId,
    /// Where the rest of its life is counted: the request itself has been.
    pub metrics: TransportMetrics,
    /// When it was sent, for [`TransportMetrics::answered`].
    pub since: Stopwatch,
}

pub(crate) struct Fallback {
    config: FallbackConfig,
    held: Mutex<HoldDowns>,
}

impl Fallback {
    pub(crate) fn new(config: FallbackConfig) -> Self {
        let held = Mutex::new(HoldDowns::new(config.hold_down));
        Self { config, held }
    }

    pub(crate) async fn open(
        &self,
        routes: &[Route],
        request: OutgoingRequest,
    ) -> Result<Opened, Error> {
        // The common case pays for no order, no lock and no copy.
        if let [only] = routes {
            return only.open(request).await;
        }
        let mut last = None;
        for route in self.in_order(routes) {
            match route.open(request.clone()).await {
                Ok(opened) => {
                    self.held.lock().succeeded(&route.address);
                    return Ok(opened);
                }
                Err(error) if !is_connect_failure(&error) => return Err(error),
                Err(error) => {
                    tracing::debug!(address = %route.address, code = %error.code(), %error, "route failed");
                    self.held.lock().failed(&route.address, now());
                    last = Some(error);
                }
            }
            if request.context.is_stopped() || request.context.remaining() == Some(Duration::ZERO) {
                break;
            }
        }
        Err(last.unwrap_or_else(|| {
            let message =
                format!("no way is known to reach {} {}", request.endpoint, request.instance);
            Error::new(Code::NoTransport, message)
        }))
    }

    fn in_order<'a>(&self, routes: &'a [Route]) -> Vec<&'a Route> {
        let (held, now) = (self.held.lock(), now());
        let mut ordered: Vec<_> = routes.iter().collect();
        ordered.sort_by_key(|route| held.is_held(&route.address, now));
        ordered.truncate(self.config.max_routes.max(1));
        ordered
    }
}

impl Route {
    async fn open(&self, request: OutgoingRequest) -> Result<Opened, Error> {
        let since = self.metrics.request();
        match self.transport.open(&self.address, request).await {
            Ok(stream) => {
                let (transport, metrics) = (self.transport.id().clone(), self.metrics.clone());
                Ok(Opened { stream, transport, metrics, since })
            }
            Err(error) => {
                self.metrics.error(error.fault());
                Err(error)
            }
        }
    }
}

/// The runtime's clock, which tests can hold.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// True when no usable connection was made, so that another way to the same instance may work.
fn is_connect_failure(error: &Error) -> bool {
    let code = matches!(
        error.code(),
        Code::ConnectFailed
            | Code::ConnectTimedOut
            | Code::WrongPeer
            | Code::Version
            | Code::NoTransport
    );
    code && error.is_safe_to_resend()
}
