//! Sends one request over the first route that works. The crate documentation has the rule.

use std::time::Duration;

use parking_lot::Mutex;
use sinew_plane::{
    Address, Backoff, BoxFuture, Code, Context, Error, FailureMemory, OutgoingRequest,
    ResponseStream, ResumeRequest, TransportId, clock,
};
use sinew_telemetry::{Stopwatch, TransportMetrics};

use crate::{
    Route,
    connecting::{self, Connecting},
};

/// Most addresses in hold-down at once.
const MAX_FAILURES: usize = 1024;

/// When a request is sent over the next transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FallbackConfig {
    /// After a failed or slow connect, the time for which the address is tried after all others.
    pub hold_down: Duration,
    /// Most routes that are tried for one request to one instance. 1 turns the fallback off.
    pub max_routes: usize,
}

impl Default for FallbackConfig {
    /// Five seconds, which is longer than most connect limits and shorter than a restart; and
    /// as many routes as an instance can have addresses.
    fn default() -> Self {
        Self { hold_down: Duration::from_secs(5), max_routes: sinew_discovery::MAX_ADDRESSES }
    }
}

/// A request that was sent.
#[derive(Debug)]
pub struct Opened {
    /// The response stream.
    pub stream: ResponseStream,
    /// The transport that carries it.
    pub transport: TransportId,
    /// The metrics for the rest of the exchange; the request itself is counted already.
    pub metrics: TransportMetrics,
    /// When it was sent, for [`TransportMetrics::answered`].
    pub since: Stopwatch,
}

pub(crate) struct Fallback {
    config: FallbackConfig,
    failures: Mutex<FailureMemory<Address>>,
}

impl Fallback {
    pub(crate) fn new(config: FallbackConfig) -> Self {
        let backoff = Backoff::constant(config.hold_down);
        Self { config, failures: Mutex::new(FailureMemory::new(backoff, MAX_FAILURES)) }
    }

    /// Sends over the best route if it is connected, without sorting, lock or copy. A connected
    /// route needs no check for earlier failures.
    pub(crate) fn open_now(
        &self,
        routes: &[Route],
        request: &OutgoingRequest,
    ) -> Option<Result<Opened, Error>> {
        let (first, others) = routes.split_first()?;
        match first.open_now(request)? {
            // Found to be no connection to this instance, such as one to another process.
            Err(error) if !others.is_empty() && is_connect_failure(&error) => {
                self.note(first, &error);
                None
            }
            opened => Some(opened),
        }
    }

    pub(crate) async fn open(
        &self,
        routes: &[Route],
        request: OutgoingRequest,
    ) -> Result<Opened, Error> {
        if let [only] = routes {
            return only.open(request).await;
        }
        let (mut left, mut last) = (self.in_order(routes), None);
        while !left.is_empty() {
            let route = self.connected(&mut left, &request.context).await?;
            match route.open(request.clone()).await {
                Ok(opened) => {
                    self.failures.lock().succeeded(&route.address);
                    return Ok(opened);
                }
                Err(error) if !is_connect_failure(&error) => return Err(error),
                Err(error) => {
                    self.note(route, &error);
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

    /// Takes over a stream over the first route that can be connected.
    pub(crate) async fn resume(
        &self,
        routes: &[Route],
        request: &ResumeRequest,
    ) -> Result<Opened, Error> {
        let resumable = |route: &&Route| route.transport.capabilities().resumable;
        let mut last = None;
        for route in self.in_order(routes).into_iter().filter(resumable) {
            let since = route.metrics.start();
            let resumed = route.transport.resume(&route.address, request.clone()).await;
            match route.opened(resumed, since) {
                Err(error) if is_connect_failure(&error) => {
                    self.note(route, &error);
                    last = Some(error);
                }
                resumed => return resumed,
            }
        }
        Err(last.unwrap_or_else(|| {
            let message = "no transport to the worker keeps streams";
            Error::new(Code::ResumeExpired, message)
        }))
    }

    /// Connects to the routes in order, to the next one in parallel with those that are slow.
    /// `None` if the first route is connected or needs no connection, so that a request can be sent
    /// at once. Sends no request.
    pub(crate) fn connect<'a>(
        &'a self,
        routes: &'a [Route],
        context: &'a Context,
    ) -> Option<impl Future<Output = Result<(), Error>> + Send + 'a> {
        if let [only] = routes {
            // The common case pays for no order.
            let _is_needed = only.connect()?;
        }
        let mut left = self.in_order(routes);
        let _is_needed = left.first()?.connect()?;
        Some(async move { self.connected(&mut left, context).await.map(drop) })
    }

    /// Waits until one of the routes is connected. Removes it and the failed ones from the list.
    async fn connected<'a>(
        &self,
        left: &mut Vec<&'a Route>,
        context: &Context,
    ) -> Result<&'a Route, Error> {
        let Connecting { up, mut failed, slower } = connecting::connect(left, context).await?;
        for (place, error) in &failed {
            left[*place].metrics.request();
            left[*place].metrics.error(error.fault());
            self.note(left[*place], error);
        }
        for place in slower {
            // The very next request does not wait for it again.
            self.failures.lock().failed(&left[place].address, (), clock::now());
        }
        let route = up.map(|place| left[place]);
        let mut places = 0..;
        left.retain(|_| {
            let place = places.next();
            place != up && failed.iter().all(|(failed, _)| Some(*failed) != place)
        });
        route.ok_or_else(|| match failed.pop() {
            Some((_, error)) => error,
            None => Error::new(Code::NoTransport, "no route is left"),
        })
    }

    fn note(&self, route: &Route, error: &Error) {
        tracing::debug!(address = %route.address, code = %error.code(), %error, "route failed");
        self.failures.lock().failed(&route.address, (), clock::now());
    }

    fn in_order<'a>(&self, routes: &'a [Route]) -> Vec<&'a Route> {
        let (failures, now) = (self.failures.lock(), clock::now());
        let mut ordered: Vec<_> = routes.iter().collect();
        ordered.sort_by_key(|route| failures.held_down(&route.address, now).is_some());
        ordered.truncate(self.config.max_routes.max(1));
        ordered
    }
}

impl Route {
    /// The wait that is needed before a request can be sent, if there is one.
    pub(crate) fn connect(&self) -> Option<BoxFuture<'_, Result<(), Error>>> {
        self.transport.connect(&self.address)
    }

    fn open_now(&self, request: &OutgoingRequest) -> Option<Result<Opened, Error>> {
        let since = self.metrics.start();
        let opened = self.transport.open_now(&self.address, request)?;
        self.metrics.count_request();
        Some(self.opened(opened, since))
    }

    async fn open(&self, request: OutgoingRequest) -> Result<Opened, Error> {
        let since = self.metrics.request();
        let opened = self.transport.open(&self.address, request).await;
        self.opened(opened, since)
    }

    fn opened(
        &self,
        opened: Result<ResponseStream, Error>,
        since: Stopwatch,
    ) -> Result<Opened, Error> {
        match opened {
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

/// True if no usable connection was made, so that another route to the same instance may work.
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
