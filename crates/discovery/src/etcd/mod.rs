//! Discovery through etcd: entries that end with a lease, and watches.

mod board;
mod claims;
mod config;
mod entry;
mod follow;
mod guard;
mod lease;
mod members;
mod probe;
mod range;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use etcd_client::GetOptions;
use sinew_plane::{BoxFuture, EndpointName};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::config::EtcdConfig;
#[cfg(feature = "etcd-tls")]
pub use self::config::EtcdTls;
use self::{
    board::Board,
    claims::{Claims, Command, Hold},
    entry::Entry,
    follow::Follower,
    guard::Guard,
    lease::{Keeper, Signals},
    members::Members,
};
use crate::{
    Discovery, DiscoveryError, Instance, Registration, View, Withdraw, process,
    record::{self, Record},
};

const BACKEND: &str = "etcd";

/// Commands under way: a burst of registrations at start-up. Senders wait beyond it.
const COMMANDS: usize = 64;

/// Longest time that a registration or withdrawal is waited for: three changes of leader.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Endpoints that are watched one by one. Whoever wants more watches all at once: one stream with
/// everything is then less than a stream for each.
const MAX_WANTED: usize = 256;

/// Discovery through etcd, in the layout of Dynamo: `v1/instances/{namespace}/{component}/
/// {endpoint}/{id}`, each value one [record](crate::record). Stock Dynamo peers and ours share
/// one cluster. Clones are handles of the same backend.
///
/// **Announcing.** Everything that a process registers stands under one lease, so a killed
/// process's entries end with its [time](EtcdConfig::lease_ttl) (etcd itself may take up to some
/// seconds longer, and more than twice as long when its leader is lost meanwhile). If the lease is
/// lost or revoked, an entry is deleted, or etcd comes back without its data, the process takes
/// another lease and registers again under the same key, with the same id and incarnation; it
/// tries that for as long as it takes. A key under which another process's entry stands is
/// refused, unless that process is of this host and has provably ended.
///
/// **Watching.** Only endpoints that were [wanted](Discovery::want) are watched, each by its own
/// prefix, so that nobody's traffic with etcd grows with the whole cluster's;
/// [`want_all`](Discovery::want_all), or wanting more than 256 endpoints, watches everything.
/// A wanted endpoint's instances show in every view once etcd has answered: milliseconds later,
/// as a change that wakes whoever waits. [`watch`](Discovery::watch) waits for what was wanted
/// before.
///
/// **Losing etcd.** The last good view stays, for ever, and nothing here ever makes a request
/// wait. Each question has [2 s](EtcdConfig::request_timeout) to be answered; then the next member
/// is asked. A watch is asked for a sign of life after 5 s of silence; a member without a leader
/// ends it by itself. After each break, and about once a minute, the prefix is listed again and
/// compared. An etcd that has lost its data (its revision went back, it is another cluster, or it
/// does not remember an entry that it showed before) is not believed at once: what it lacks stays
/// for [30 s](EtcdConfig::reset_guard).
///
/// The tasks run on the runtime in which [`connect`](Self::connect) was called. They end, and the
/// lease is given back, with [`shutdown`](Self::shutdown), which waits for that, or when the last
/// handle and the last registration are dropped, which does not.
#[derive(Clone)]
pub struct EtcdDiscovery {
    shared: Arc<Shared>,
}

struct Shared {
    endpoints: String,
    guard_time: Duration,
    members: Arc<Members>,
    board: Arc<Board>,
    commands: mpsc::Sender<Command>,
    wanted: Mutex<Wanted>,
    tasks: TaskTracker,
    runtime: Handle,
    stop: CancellationToken,
}

struct Wanted {
    each: HashSet<EndpointName>,
    /// Ends the watches of single endpoints once everything is watched.
    stop_each: CancellationToken,
    all: bool,
}

impl EtcdDiscovery {
    /// Connects, trying for up to [`startup_timeout`](EtcdConfig::startup_timeout).
    ///
    /// # Errors
    /// [`DiscoveryError::Invalid`] when a setting is out of its bounds,
    /// [`DiscoveryError::Unavailable`] when no member answers in time or the user is refused.
    pub async fn connect(config: EtcdConfig) -> Result<Self, DiscoveryError> {
        config.check()?;
        let members = Arc::new(Members::new(&config));
        reach(&members, config.startup_timeout).await?;
        let (commands, received) = mpsc::channel(COMMANDS);
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let keeping = keep(Arc::clone(&members), config.ttl_seconds(), received, stop.clone());
        tasks.spawn(keeping);
        let wanted = Wanted { each: HashSet::new(), stop_each: stop.child_token(), all: false };
        let shared = Shared {
            endpoints: config.endpoints.join(","),
            guard_time: config.reset_guard,
            members,
            board: Arc::new(Board::new()),
            commands,
            wanted: Mutex::new(wanted),
            tasks,
            runtime: Handle::current(),
            stop,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Takes back every registration, gives the lease back, and ends all tasks and views. Later
    /// calls fail as unavailable. Waits for it, a few seconds at most when etcd is away.
    pub async fn shutdown(&self) {
        self.shared.stop.cancel();
        self.shared.board.close();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    async fn register_one(&self, instance: Instance) -> Result<Registration, DiscoveryError> {
        let owner = process::owner_of(&instance);
        let record = Record { instance: instance.clone(), owner };
        let value = record::encode(&record)?;
        let key = instance.key();
        let name = Entry::name_of(&key);
        let entry = Box::new(Entry { key, name, record, value, former: None });
        let command = |answer| Command::Register { entry, answer };
        let hold = self.shared.ask("registering", command).await??;
        let taken = Taken { hold, shared: Arc::clone(&self.shared) };
        Ok(Registration::new(&instance, Box::new(taken)))
    }

    async fn watch_all_wanted(&self) -> Result<View, DiscoveryError> {
        let unavailable =
            |what| DiscoveryError::Unavailable { backend: BACKEND, what, source: None };
        self.shared.board.answered().await.map_err(unavailable)?;
        self.shared.board.view().ok_or_else(|| self.shared.has_ended())
    }
}

/// Waits until a member answers.
async fn reach(members: &Members, limit: Duration) -> Result<(), DiscoveryError> {
    let until = Instant::now() + limit;
    let mut backoff = lease::backoff();
    loop {
        let asked = members.call(|mut client| async move {
            let options = GetOptions::new().with_prefix().with_keys_only().with_limit(1);
            client.get(format!("{}/", record::BUCKET), Some(options)).await
        });
        let fault = match asked.await {
            Ok(_) => return Ok(()),
            // A user who may not see all may still see enough.
            Err(fault) if fault.is_forbidden() => return Ok(()),
            Err(fault) => fault,
        };
        let pause = backoff.pause();
        if fault.is_refusal() || Instant::now() + pause > until {
            return Err(fault.into_error("connecting"));
        }
        sleep(pause).await;
    }
}

/// The one task for everything that this process has registered.
async fn keep(
    members: Arc<Members>,
    ttl_seconds: i64,
    commands: mpsc::Receiver<Command>,
    stop: CancellationToken,
) {
    let signals = Arc::new(Signals::default());
    let guard = Arc::new(Guard::default());
    let lease = Keeper::new(Arc::clone(&members), ttl_seconds, Arc::clone(&signals));
    let state = lease.state();
    let mut claims =
        Claims::new(Arc::clone(&members), commands, state, signals, Arc::clone(&guard));
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = lease.run() => {}
        () = guard.run(&members) => {}
        // Ends when nobody can ask for anything any more.
        () = claims.run() => {}
    }
    lease.revoke().await;
}

impl Discovery for EtcdDiscovery {
    fn name(&self) -> &'static str {
        BACKEND
    }

    fn register(&self, instance: Instance) -> BoxFuture<'_, Result<Registration, DiscoveryError>> {
        Box::pin(self.register_one(instance))
    }

    fn watch(&self) -> BoxFuture<'_, Result<View, DiscoveryError>> {
        Box::pin(self.watch_all_wanted())
    }

    fn want(&self, endpoint: &EndpointName) {
        let mut wanted = self.shared.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted.all || wanted.each.contains(endpoint) {
            return;
        }
        if wanted.each.len() >= MAX_WANTED {
            drop(wanted);
            return self.want_all();
        }
        wanted.each.insert(endpoint.clone());
        let prefix = format!("{}/{endpoint}/", record::BUCKET);
        self.shared.follow(prefix, wanted.stop_each.clone(), || ());
    }

    fn want_all(&self) {
        let mut wanted = self.shared.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut wanted.all, true) {
            return;
        }
        let prefix = format!("{}/", record::BUCKET);
        let (board, stop_each) = (Arc::clone(&self.shared.board), wanted.stop_each.clone());
        let all = prefix.clone();
        self.shared.follow(prefix, self.shared.stop.clone(), move || {
            stop_each.cancel();
            board.keep_only(&all);
        });
    }
}

impl fmt::Debug for EtcdDiscovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EtcdDiscovery({})", self.shared.endpoints)
    }
}

impl Shared {
    /// Follows a prefix until told to stop.
    fn follow(
        &self,
        prefix: String,
        stop: CancellationToken,
        listed: impl FnOnce() + Send + 'static,
    ) {
        self.board.begin(&prefix);
        let (members, board) = (Arc::clone(&self.members), Arc::clone(&self.board));
        let follower = Follower::new(members, board, prefix, self.guard_time);
        let following = async move {
            stop.run_until_cancelled_owned(follower.run(listed)).await;
        };
        self.tasks.spawn_on(following, &self.runtime);
    }

    async fn ask<T>(
        &self,
        doing: &str,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, DiscoveryError> {
        if self.stop.is_cancelled() {
            return Err(self.has_ended());
        }
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.commands.send(command(answer)).await.map_err(|_| self.has_ended())?;
            answered.await.map_err(|_| self.has_ended())
        };
        timeout(ANSWER_LIMIT, asked).await.unwrap_or_else(|_| {
            let what = format!("{doing}: {} gave no answer in time", self.endpoints);
            Err(DiscoveryError::Unavailable { backend: BACKEND, what, source: None })
        })
    }

    fn has_ended(&self) -> DiscoveryError {
        let what = format!("the connection to {} was shut down", self.endpoints);
        DiscoveryError::Unavailable { backend: BACKEND, what, source: None }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop.cancel();
        self.board.close();
    }
}

/// What a registration takes back.
struct Taken {
    hold: Hold,
    shared: Arc<Shared>,
}

impl Withdraw for Taken {
    fn withdraw(self: Box<Self>) -> BoxFuture<'static, Result<(), DiscoveryError>> {
        Box::pin(async move {
            let token = self.hold.token;
            let command = |answer| Command::Withdraw { token, answer };
            match self.shared.ask("withdrawing", command).await {
                Ok(result) => result,
                // A shutdown takes everything back.
                Err(_) if self.shared.stop.is_cancelled() => Ok(()),
                Err(error) => Err(error),
            }
        })
    }

    fn abandon(self: Box<Self>) {
        // Dropping the hold wakes the task that keeps the claim. When this is the last handle,
        // the task ends instead, and gives the lease back.
        drop(self);
    }
}
