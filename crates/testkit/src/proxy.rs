//! A proxy that cuts the connections that pass through it.

mod relay;
mod socket;

use std::{
    fmt, io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sinew_plane::{
    Address, clock,
    random::{self, Rng},
};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::Instant,
};

use self::{
    relay::{Limits, Order, Passing, relay},
    socket::{Listener, Socket},
};
use crate::{Cut, Way};

/// How many cuts [`CuttingProxy::take_log`] has at the most: the oldest are forgotten first.
const LOGGED: usize = 65_536;

/// A pause behind a failed accept, as when the process has no descriptor left: it may have one soon.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Where a proxy listens.
#[derive(Debug, Clone)]
pub enum Listen {
    /// On this address; port 0 picks a free port.
    Tcp(SocketAddr),
    /// On a Unix domain socket, whose file does not exist yet.
    Unix(PathBuf),
}

impl Listen {
    /// On a free port of the loopback interface.
    pub fn loopback() -> Self {
        Self::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))
    }
}

/// When and how a proxy cuts by itself.
#[derive(Debug, Clone)]
pub struct Cuts {
    /// The seed of all choices: with the same seed, the n-th connection is cut after the same number
    /// of bytes, in the same way.
    pub seed: u64,
    /// After how many bytes to the client a connection is cut, on average: each number from 1 to
    /// twice that is as likely as any other. `None`: no connection is cut unless the
    /// [`Way`] is told to.
    pub mean_bytes: Option<u64>,
    /// In which ways, one after another and from the beginning again.
    pub ways: Vec<Cut>,
}

impl Cuts {
    /// None but those that the [`Way`] is told to make.
    pub fn when_told() -> Self {
        Self { seed: 0, mean_bytes: None, ways: Vec::new() }
    }

    /// After this many bytes on average, by [`Cut::Fin`] and [`Cut::Reset`] in turn.
    pub fn every(mean_bytes: u64, seed: u64) -> Self {
        Self { seed, mean_bytes: Some(mean_bytes.max(1)), ways: vec![Cut::Fin, Cut::Reset] }
    }
}

/// A cut that a proxy has made.
#[derive(Debug, Clone, Copy)]
pub struct CutMade {
    /// Which connection, counted from 0.
    pub connection: u64,
    /// How it was cut.
    pub how: Cut,
    /// How many bytes it had passed to the client.
    pub bytes: u64,
    /// When.
    pub at: Instant,
}

/// A proxy in front of one server. Dropping it closes its listener and all its connections.
pub struct CuttingProxy {
    address: Address,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

/// What the proxy and the tasks of its connections share.
struct Shared {
    made: AtomicU64,
    passing: Passing,
    /// What all connections are told; each looks at what is new to it.
    orders: watch::Sender<Order>,
    held: watch::Sender<bool>,
    state: Mutex<State>,
}

struct State {
    target: Address,
    cuts: Cuts,
    random: Rng,
    /// For the next connection, ahead of `cuts`.
    next: Option<(u64, Cut)>,
    /// Connections that were made, of those that are cut by themselves.
    drawn: usize,
    log: Vec<CutMade>,
    /// The bytes that count are those to the server.
    counts_to_server: bool,
}

impl CuttingProxy {
    /// Listens, and passes each connection on to `target`: the path of a Unix domain socket where its
    /// scheme is `unix`, else `HOST:PORT`.
    ///
    /// # Errors
    /// It cannot listen.
    pub async fn start(listen: Listen, target: Address, cuts: Cuts) -> io::Result<Self> {
        let listener = Listener::bind(listen).await?;
        let address = listener.address(&target)?;
        let shared = Arc::new(Shared {
            made: AtomicU64::new(0),
            passing: Passing::default(),
            orders: watch::channel(Order::default()).0,
            held: watch::channel(false).0,
            state: Mutex::new(State {
                target,
                // tidy-allow: random, the seed is the caller's
                random: Rng::with_seed(cuts.seed),
                cuts,
                next: None,
                drawn: 0,
                log: Vec::new(),
                counts_to_server: false,
            }),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self { address, shared, accepting })
    }

    /// Counts the bytes to the server instead of those to the client, for connections that are made
    /// from now on: where workers dial their callers, what the workers send is the answer.
    #[must_use]
    pub fn counting_to_server(self) -> Self {
        self.shared.state().counts_to_server = true;
        self
    }

    /// Where clients reach the server through this proxy. The scheme is that of the server's address,
    /// or `unix` or `tcp` where only one of both is a Unix domain socket.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Passes connections that are made from now on to another server.
    pub fn retarget(&self, target: Address) {
        self.shared.state().target = target;
    }

    /// From now on cuts in this way; connections that there are keep what they were made with.
    pub fn set_cuts(&self, cuts: Cuts) {
        let mut state = self.shared.state();
        // tidy-allow: random, the seed is the caller's
        state.random = Rng::with_seed(cuts.seed);
        state.drawn = 0;
        state.cuts = cuts;
    }

    /// How many bytes all connections have passed to clients until now.
    pub fn passed(&self) -> u64 {
        self.shared.passing.bytes.load(Ordering::Acquire)
    }

    /// From now on keeps each piece of at most 16 KiB to a client for this long before it passes it
    /// on, which also limits how much passes in a second. An order to cut waits as well.
    pub fn slow_down(&self, delay: Duration) {
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.shared.passing.delay_micros.store(micros, Ordering::Release);
    }

    /// The cuts since this was last asked, the last 65,536 at the most.
    pub fn take_log(&self) -> Vec<CutMade> {
        std::mem::take(&mut self.shared.state().log)
    }
}

impl Way for CuttingProxy {
    fn cut_after(&self, bytes: u64, how: Cut) {
        self.shared.orders.send_modify(|order| order.give(bytes, how));
    }

    fn cut_next_after(&self, bytes: u64, how: Cut) {
        self.shared.state().next = Some((bytes, how));
    }

    fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    fn release(&self) {
        self.shared.held.send_replace(false);
    }

    fn made(&self) -> u64 {
        self.shared.made.load(Ordering::Acquire)
    }
}

impl Drop for CuttingProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl fmt::Debug for CuttingProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CuttingProxy").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Shared {
    /// What is behind the lock is whole at any time, also when a thread has panicked.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// After how many bytes the next connection is cut, and how.
    fn draw(&mut self) -> Option<(u64, Cut)> {
        if let Some(told) = self.next.take() {
            return Some(told);
        }
        let mean = self.cuts.mean_bytes?;
        let bytes = self.random.u64(1..=mean.saturating_mul(2));
        let how = self.cuts.ways.get(self.drawn % self.cuts.ways.len().max(1)).copied();
        self.drawn += 1;
        Some((bytes, how.unwrap_or(Cut::Fin)))
    }

    fn log(&mut self, cut: CutMade) {
        if self.log.len() == LOGGED {
            self.log.remove(0);
        }
        self.log.push(cut);
    }
}

/// Takes connections until it is dropped; the tasks of its connections end with it.
async fn accept(listener: Listener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok(near) => {
                // Whoever has seen that this connection is made gives it orders, and says what becomes
                // of the one after it: so it listens first, and has its own limit.
                let orders = shared.orders.subscribe();
                let seen = orders.borrow().number();
                let limits = Limits { limit: shared.state().draw(), seen, orders };
                let number = shared.made.fetch_add(1, Ordering::AcqRel);
                connections.spawn(connection(number, near, limits, Arc::clone(&shared)));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection(number: u64, near: Socket, limits: Limits, shared: Arc<Shared>) {
    let mut held = shared.held.subscribe();
    let mut holding = limits.orders.clone();
    tokio::select! {
        biased;
        // A connection that is cut while it is held has passed nothing.
        _ = holding.changed() => return,
        _ = held.wait_for(|held| !*held) => {}
    }
    let (target, counts_to_server) = {
        let state = shared.state();
        (state.target.clone(), state.counts_to_server)
    };
    // A server that is not there: the client's connection closes.
    let Ok(far) = Socket::connect(&target).await else { return };
    let log = |how, bytes| {
        let cut = CutMade { connection: number, how, bytes, at: clock::now().into() };
        shared.state().log(cut);
    };
    // What comes from the second is counted.
    let (near, far) = if counts_to_server { (far, near) } else { (near, far) };
    relay(near, far, limits, &shared.passing, log).await;
}

/// A seed for [`Cuts`] that differs from run to run: print it, so that the run can be repeated.
pub fn any_seed() -> u64 {
    random::u64()
}

#[cfg(test)]
mod tests;
