//! Connections to callers that many responses share.

mod redial;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use sinew_dynamo_wire::Subject;
use sinew_mux::Token;
use sinew_mux_driver::{Connection, ConnectionSet, Dialer};
use sinew_plane::{
    Address, Code, Context, Error, Executed, ProcessId, RequestHandler, ResponseSink, clock,
};
use sinew_telemetry::{Side, Stopwatch, TcpPoolMetrics};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    address::CallerAddresses,
    dial::{DialBudget, in_time, unwanted},
    pending_streams::{Lookup, OpenedStream, PendingStreams},
};
use crate::config::CheckedTcpStreamClientConfig;

/// How often old questions are looked for, and the gauges brought up to date.
const TICK: Duration = Duration::from_secs(1);

/// After so many of these the interfaces of this host may have changed.
const INTERFACE_TICKS: u32 = 5;

/// The use of the shared connections of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PoolStats {
    /// Connections that were made.
    pub created: u64,
    /// Responses that used an existing connection.
    pub reused: u64,
    /// Connections with streams on them.
    pub active: usize,
    /// Connections without streams.
    pub idle: usize,
    /// Streams on all of them, including those whose requests have not arrived yet.
    pub streams: usize,
}

/// Where a caller is, and what it knows a worker by.
#[derive(Clone, Copy)]
pub(crate) struct At {
    pub(crate) address: SocketAddr,
    pub(crate) token: Token,
    /// The process that is to answer there; [`ProcessId::UNKNOWN`] for any.
    pub(crate) process: ProcessId,
}

/// A connection is shared by what has the same address and token. As the key of a table a token
/// is taken as it is: only its caller chooses what it is compared with.
type Key = (SocketAddr, [u8; Token::BYTES]);

impl At {
    fn key(&self) -> Key {
        (self.address, *self.token.as_bytes())
    }
}

/// Shared connections by the caller's address and token.
pub(crate) struct Pool(Arc<Inner>);

struct Inner {
    config: Arc<CheckedTcpStreamClientConfig>,
    connections: Arc<ConnectionSet>,
    questions: Arc<PendingStreams>,
    callers: Mutex<HashMap<Key, Arc<Caller>>>,
    created: Arc<AtomicU64>,
    /// Connections that were made and are not yet counted as somebody's.
    claimed: AtomicU64,
    reused: AtomicU64,
    metrics: TcpPoolMetrics,
    /// A connection was lost with streams on it.
    lost: Arc<Notify>,
    stop: CancellationToken,
}

/// One address, and a place for each connection to it.
struct Caller {
    at: At,
    places: Mutex<Vec<Arc<Dialer>>>,
    /// Further addresses of the same name, which may be dialled too.
    others: Mutex<Arc<[SocketAddr]>>,
    /// A task dials it again for the streams that are kept.
    is_redialled: AtomicBool,
}

/// What a caller's places have to offer.
enum Choice {
    Ready(Connection),
    /// Every connection has many streams: this one will do, and another is to be made.
    Grow(Connection, Arc<Dialer>),
    Dial(Arc<Dialer>),
}

impl Pool {
    pub(crate) fn new(
        config: Arc<CheckedTcpStreamClientConfig>,
        addresses: Arc<CallerAddresses>,
    ) -> Self {
        let inner = Arc::new(Inner {
            questions: PendingStreams::new(config.open_timeout),
            config,
            connections: ConnectionSet::new(Side::Serving),
            callers: Mutex::default(),
            created: Arc::default(),
            claimed: AtomicU64::new(0),
            reused: AtomicU64::new(0),
            metrics: TcpPoolMetrics::new(),
            lost: Arc::default(),
            stop: CancellationToken::new(),
        });
        if let Some(budget) = &inner.config.driver.budget {
            inner.connections.keep_budget(budget);
        }
        let (weak, stop) = (Arc::downgrade(&inner), inner.stop.clone());
        inner.connections.spawn(maintain(weak, addresses, Arc::clone(&inner.lost), stop));
        Self(inner)
    }

    pub(crate) fn usage(&self) -> PoolStats {
        self.0.usage()
    }

    /// The stream that the caller has asked for under this subject. It asks when it sends its
    /// request, so mostly it has.
    pub(crate) fn asked(&self, at: At, subject: &str, context: &Context) -> Option<ResponseSink> {
        let since = self.0.metrics.acquire();
        let answer = self.0.questions.asked(Subject::parse(subject)?)?;
        Some(self.take(answer, at, since, context))
    }

    /// The stream of an answer that was there, on a connection that is used again.
    fn take(
        &self,
        answer: OpenedStream,
        at: At,
        since: Stopwatch,
        context: &Context,
    ) -> ResponseSink {
        let inner = &self.0;
        inner.count_reuse();
        inner.grow(at);
        inner.metrics.acquired(since);
        answer.join(context)
    }

    /// Notes further addresses of a caller, for the case that the one which is dialled first is lost.
    pub(crate) fn note_others(&self, at: At, others: Vec<SocketAddr>) {
        if let Ok(caller) = self.0.caller(at) {
            *caller.others.lock() = others.into();
        }
    }

    /// The stream that the caller asks for under this subject, over a shared connection.
    ///
    /// # Errors
    /// [`Code::Cancelled`]: the caller does not wait for it any more. Otherwise no connection,
    /// another process at the address, or the caller did not ask in time: it may still come for
    /// the stream another way.
    pub(crate) async fn stream(
        &self,
        at: At,
        subject: &str,
        context: &Context,
        dial_budget: &mut DialBudget,
    ) -> Result<ResponseSink, Error> {
        let Some(subject) = Subject::parse(subject) else {
            return Err(Error::new(Code::InvalidPayload, "the subject is not a UUID"));
        };
        let inner = &self.0;
        let since = inner.metrics.acquire();
        let mut wanted = match inner.questions.find(subject) {
            Lookup::OpenedStream(answer) => return Ok(self.take(answer, at, since, context)),
            Lookup::Over => return Err(unwanted()),
            Lookup::StreamWaiter(wanted) => wanted,
        };
        let dialled = dial_budget.spend_half(at.address, inner.connection(at));
        let connection = in_time(context, dialled).await???;
        if let Some(peer) = connection.peer() {
            peer.expect_process(at.process)?;
        }
        let limit = inner.config.open_timeout;
        let not_asked = |message: &str| {
            Err(Error::new(Code::ConnectTimedOut, message).with_executed(Executed::No))
        };
        let asked = async {
            tokio::select! {
                biased;
                // Another request of the same stream has come, and this one is not to run too.
                answer = wanted.wait() => answer.ok_or_else(unwanted),
                () = connection.closed() => {
                    not_asked("the shared connection ended before the caller asked on it")
                }
                () = tokio::time::sleep(limit) => {
                    not_asked("the caller did not ask for its response")
                }
            }
        };
        let answer = in_time(context, asked).await??;
        inner.metrics.acquired(since);
        Ok(answer.join(context))
    }

    /// Lets the streams end within `grace`, closes the connections, and joins their tasks.
    /// Returns how many streams were cut.
    pub(crate) async fn end(&self, grace: Duration) -> usize {
        // Callers are dialled again meanwhile.
        self.0.connections.settle(grace).await;
        self.0.stop.cancel();
        let cut = self.0.connections.end(Duration::ZERO).await;
        self.0.show();
        cut
    }
}

impl Inner {
    fn usage(&self) -> PoolStats {
        let connections = self.connections.all();
        let loads = connections.iter().map(|it| it.active_streams());
        let active = loads.clone().filter(|load| *load > 0).count();
        PoolStats {
            created: self.created.load(Ordering::Relaxed),
            reused: self.reused.load(Ordering::Relaxed),
            active,
            idle: connections.len().saturating_sub(active),
            streams: loads.sum(),
        }
    }

    async fn connection(self: &Arc<Self>, at: At) -> Result<Connection, Error> {
        let caller = self.caller(at)?;
        match self.choose(&caller, at) {
            Choice::Ready(connection) => {
                self.count_reuse();
                Ok(connection)
            }
            Choice::Grow(connection, place) => {
                self.count_reuse();
                self.dial_ahead(place);
                Ok(connection)
            }
            Choice::Dial(place) => {
                let connection = place.connection().await?;
                // Of those who waited for it, all but one found it made.
                if !self.claim() {
                    self.count_reuse();
                }
                Ok(connection)
            }
        }
    }

    /// Makes another connection when each has many streams.
    fn grow(self: &Arc<Self>, at: At) {
        if let Ok(caller) = self.caller(at)
            && let Choice::Grow(_, place) = self.choose(&caller, at)
        {
            self.dial_ahead(place);
        }
    }

    /// Dials without anybody having to wait for it.
    fn dial_ahead(self: &Arc<Self>, place: Arc<Dialer>) {
        let this = Arc::clone(self);
        self.connections.spawn(async move {
            match place.connection().await {
                Ok(_) => {
                    this.claim();
                }
                Err(error) => tracing::debug!(%error, "no further shared connection"),
            }
        });
    }

    /// Counts a connection that was made as the caller's doing, once for each.
    fn claim(&self) -> bool {
        let made = self.created.load(Ordering::Relaxed);
        let next = |claimed| (claimed < made).then_some(claimed + 1);
        let claimed = self.claimed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        if claimed.is_ok() {
            self.metrics.created();
            self.show();
        }
        claimed.is_ok()
    }

    fn count_reuse(&self) {
        self.reused.fetch_add(1, Ordering::Relaxed);
        self.metrics.reused();
    }

    /// Brings the gauges up to date.
    fn show(&self) {
        let usage = self.usage();
        self.metrics.connections(usage.active, usage.idle);
    }

    fn caller(&self, at: At) -> Result<Arc<Caller>, Error> {
        let (key, limit) = (at.key(), self.config.driver.max_targets);
        let mut callers = self.callers.lock();
        if !callers.contains_key(&key) && callers.len() >= limit {
            callers.retain(|_, caller| caller.is_of_use());
            if callers.len() >= limit {
                let message = "connections to too many callers at once (max_targets)";
                return Err(Error::new(Code::Exhausted, message));
            }
        }
        Ok(Arc::clone(callers.entry(key).or_insert_with(|| Arc::new(Caller::new(at)))))
    }

    fn choose(self: &Arc<Self>, caller: &Caller, at: At) -> Choice {
        let mut places = caller.places.lock();
        let live = |place: &Arc<Dialer>| place.usable();
        let load = |it: &Connection| it.active_streams();
        let best = places.iter().filter_map(live).min_by_key(load);
        let dead = places.iter().find(|place| live(place).is_none()).cloned();
        match (best, dead) {
            (Some(best), _) if load(&best) < self.config.streams_per_connection => {
                Choice::Ready(best)
            }
            // A place that is empty is dialled again before there is another.
            (Some(best), Some(place)) => Choice::Grow(best, place),
            (Some(best), None) if places.len() < self.config.max_per_target => {
                Choice::Grow(best, self.place(&mut places, at))
            }
            (Some(best), None) => Choice::Ready(best),
            (None, Some(place)) => Choice::Dial(place),
            (None, None) => Choice::Dial(self.place(&mut places, at)),
        }
    }

    /// The first place at an address, for a caller that has no connection.
    fn first_place(self: &Arc<Self>, caller: &Caller, at: At) -> Arc<Dialer> {
        let mut places = caller.places.lock();
        match places.first() {
            Some(place) => Arc::clone(place),
            None => self.place(&mut places, at),
        }
    }

    fn place(self: &Arc<Self>, places: &mut Vec<Arc<Dialer>>, at: At) -> Arc<Dialer> {
        let config = Arc::new(self.config.driver.clone().with_token(at.token));
        let (address, connector) = (Address::tcp(at.address), Arc::new(config.socket_connector()));
        let target = Dialer::new(address, connector, config, Arc::clone(&self.connections));
        let handler = Arc::new(self.questions.of(at.address)) as Arc<dyn RequestHandler>;
        let target = target.with_handler(handler, Arc::clone(&self.created));
        let place = Arc::new(target.with_wake(Arc::clone(&self.lost)));
        places.push(Arc::clone(&place));
        place
    }
}

/// Has callers dialled again whose streams have lost their connection, gives up on old questions,
/// keeps the gauges true, and has the addresses of this host looked at again now and then, until the
/// pool ends.
async fn maintain(
    pool: Weak<Inner>,
    addresses: Arc<CallerAddresses>,
    lost: Arc<Notify>,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + TICK, TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut tick = 0_u32;
    loop {
        let is_lost = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = lost.notified() => true,
            _ = ticks.tick() => false,
        };
        let Some(pool) = pool.upgrade() else { return };
        // With each tick as well: streams that are refused room on their connection wait for the
        // next, without a loss.
        pool.redial_lost();
        if is_lost {
            continue;
        }
        tick = tick.wrapping_add(1);
        if tick.is_multiple_of(INTERFACE_TICKS) {
            addresses.policy.look_again();
        }
        pool.questions.expire(clock::now());
        pool.show();
    }
}

impl Caller {
    fn new(at: At) -> Self {
        let (places, others) = (Mutex::default(), Mutex::new(Arc::from([])));
        Self { at, places, others, is_redialled: AtomicBool::new(false) }
    }

    fn is_of_use(&self) -> bool {
        self.is_redialled.load(Ordering::Acquire) || self.live().is_some()
    }

    /// A connection that is up.
    fn live(&self) -> Option<Connection> {
        self.places.lock().iter().find_map(|place| place.usable())
    }

    /// The process that has answered there.
    fn process(&self) -> Option<ProcessId> {
        let places = self.places.lock();
        let mut answered = places.iter().filter_map(|place| place.current());
        answered.find_map(|it| it.peer().map(|hello| hello.process))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
        let error = Error::new(Code::ConnectionLost, "the worker's response client was dropped");
        self.connections.close_all(&error);
    }
}
