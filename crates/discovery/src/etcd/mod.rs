//! Discovery through etcd: entries that end with a lease, and watches.

mod batch;
mod claims;
mod config;
mod entry;
mod lease;
mod lease_check;
mod members;
mod outage_log;
mod own_key_watch;
mod policies;
mod probe;
mod range;
mod range_watcher;
mod removed_entries;
mod snapshot_publisher;
#[cfg(test)]
mod tests;
mod watched_endpoints;

use std::{fmt, sync::Arc, time::Duration};

use etcd_client::GetOptions;
use sinew_plane::{BoxFuture, EndpointName};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::config::EtcdConfig;
#[cfg(feature = "etcd-tls")]
pub use self::config::EtcdTls;
use self::{
    claims::{Claims, Command, RegistrationHandle},
    entry::Entry,
    lease::{LeaseKeeper, Signals},
    members::{Fault, Members},
    own_key_watch::OwnKeyWatch,
    policies::PolicyWatcher,
    range_watcher::RangeWatcher,
    removed_entries::RemovalDelay,
    snapshot_publisher::SnapshotPublisher,
    watched_endpoints::{Added, WatchedEndpoints},
};
use crate::{
    Discovery, DiscoveryError, Instance, Interest, PlanePolicy, PolicyView, Registration, View,
    Withdraw,
    policy_board::PolicyBoard,
    process,
    record::{self, Record},
};

const BACKEND: &str = "etcd";

/// Commands under way: a burst of registrations at start-up. Senders wait beyond it.
const COMMANDS: usize = 64;

/// Longest time that a registration or withdrawal is waited for: three changes of leader.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Between the last withdrawal and the end of the lease: whoever sees the entry go asks whether its
/// lease lives, and would take it for one that has expired.
const REVOKE_AFTER: Duration = Duration::from_millis(200);

/// Discovery through etcd, in the layout of Dynamo: `v1/instances/{namespace}/{component}/
/// {endpoint}/{id}`, each value one [record](crate::record). Stock Dynamo peers and Sinew processes
/// can share one cluster. Clones are handles of the same backend.
///
/// **Announcing.** All entries of a process have one lease, so the entries of a killed process end
/// with its [TTL](EtcdConfig::lease_ttl) (etcd itself may take some seconds more, and more than
/// twice the TTL if its leader is lost meanwhile). If the lease is lost or revoked, an entry is
/// deleted, or etcd is restarted without its data, the process takes another lease and registers
/// again with the same key, id and incarnation; it tries that without a limit. A registration fails
/// if another process has an entry with the same key, unless that process ran on this host and has
/// provably ended.
///
/// **Watching.** Only [wanted](Discovery::want) endpoints are watched, each by its own prefix, so
/// that the traffic of a process with etcd does not grow with the whole cluster.
/// [`want_all`](Discovery::want_all), or more than 256 wanted endpoints at a time, makes the
/// process watch everything from then on. The instances of a wanted endpoint appear in every view
/// once etcd has answered, milliseconds later, as a change. [`watch`](Discovery::watch) waits for
/// the endpoints that were wanted before. After the last interest in an endpoint is dropped, it is
/// watched for another [30 s](EtcdConfig::unwatch_after), and then removed from every view.
///
/// **Policies.** A [`PlanePolicy`] stands under `sinew/policies/{namespace}/{component}/{endpoint}`,
/// with a lease that ends with it. Each endpoint whose policy is watched has a watch of its own.
/// Where etcd has users, whoever calls endpoints needs the right to read that prefix, or else goes on
/// without policies and logs a warning; whoever stores one needs the right to read and to write it.
///
/// **Losing etcd.** The last good view stays in use without a limit, and requests never wait for
/// etcd. Each query may take [2 s](EtcdConfig::request_timeout); then the next member is asked. A
/// watch that has been silent for 5 s is probed; a member without a leader ends it by itself. After
/// each interruption, and about once a minute, the prefix is listed again and compared. If etcd has
/// lost its data (its revision went back, it is another cluster, or it no longer has an entry that
/// it showed before), the missing instances stay for [30 s](EtcdConfig::reset_guard).
///
/// **Leaving.** An entry that is withdrawn while its lease exists is removed from the view at once.
/// An entry whose lease has ended stays for [1 s](EtcdConfig::expiry_grace), or until its owner has
/// registered again, because an owner that still runs does so within milliseconds. If etcd did not
/// answer for 2 s or more within the last 30 s, many processes may have lost their leases, and they
/// need time to notice that etcd answers again; the entry then stays for [30
/// s](EtcdConfig::reset_guard). So a killed process is removed from the view within the TTL of its
/// lease and 1 s, or 30 s after an outage. A stock Dynamo worker revokes its lease when it shuts
/// down, and so does a [`shutdown`](Discovery::shutdown) with registrations that were not withdrawn
/// before; these entries too stay for 1 s.
///
/// The tasks run on the runtime in which [`connect`](Self::connect) was called. They end, and the
/// lease is revoked, with [`shutdown`](Discovery::shutdown), which waits for that, or without
/// waiting when the last handle and the last registration are dropped.
#[derive(Clone)]
pub struct EtcdDiscovery {
    shared: Arc<Shared>,
}

struct Shared {
    endpoints: String,
    delay: RemovalDelay,
    members: Arc<Members>,
    publisher: Arc<SnapshotPublisher>,
    commands: mpsc::Sender<Command>,
    wanted: Arc<WatchedEndpoints>,
    policies: Arc<PolicyBoard>,
    tasks: TaskTracker,
    runtime: Handle,
    stop: CancellationToken,
}

impl EtcdDiscovery {
    /// Connects to etcd; tries for up to [`startup_timeout`](EtcdConfig::startup_timeout).
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
        let publisher = Arc::new(SnapshotPublisher::new());
        let linger = config.unwatch_after;
        let wanted =
            Arc::new(WatchedEndpoints::new(Arc::clone(&publisher), linger, stop.child_token()));
        let shared = Shared {
            endpoints: config.endpoints.join(","),
            delay: RemovalDelay { expiry: config.expiry_grace, reset: config.reset_guard },
            members,
            publisher,
            commands,
            wanted,
            policies: Arc::default(),
            tasks,
            runtime: Handle::current(),
            stop,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    async fn end(&self) {
        self.shared.stop.cancel();
        self.shared.publisher.close();
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
        self.shared.publisher.answered().await.map_err(|fault| fault.into_error("looking"))?;
        self.shared.publisher.view().ok_or_else(|| self.shared.has_ended())
    }
}

/// Waits until a member answers, for `limit` at most.
async fn reach(members: &Members, limit: Duration) -> Result<(), DiscoveryError> {
    let until = Instant::now() + limit;
    let mut retries = lease::retries();
    let mut last = None;
    loop {
        let asked = members.call(|mut client| async move {
            let options = GetOptions::new().with_prefix().with_keys_only().with_limit(1);
            client.get(format!("{}/", record::BUCKET), Some(options)).await
        });
        let fault = match timeout_at(until, asked).await {
            Ok(Ok(_)) => return Ok(()),
            // A user who may not see all may still see enough.
            Ok(Err(fault)) if fault.is_forbidden() => return Ok(()),
            Ok(Err(fault)) => fault,
            Err(_) => {
                let names = members.endpoints().join(",");
                let silent = || Fault::of_member(format!("{names}: no answer in {limit:?}"));
                return Err(last.unwrap_or_else(silent).into_error("connecting"));
            }
        };
        let pause = retries.pause();
        if fault.is_refusal() || Instant::now() + pause > until {
            return Err(fault.into_error("connecting"));
        }
        last = Some(fault);
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
    let own_keys = Arc::new(OwnKeyWatch::default());
    let lease = LeaseKeeper::new(Arc::clone(&members), ttl_seconds, Arc::clone(&signals));
    let state = lease.state();
    let mut claims =
        Claims::new(Arc::clone(&members), commands, state, signals, Arc::clone(&own_keys));
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = lease.run() => {}
        () = own_keys.run(&members) => {}
        // Ends when nobody can ask for anything any more.
        () = claims.run() => {}
    }
    if let Some(removed) = claims.removed() {
        sleep_until(removed + REVOKE_AFTER).await;
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

    fn want(&self, endpoint: &EndpointName) -> Interest {
        let wanted = &self.shared.wanted;
        match wanted.add(endpoint) {
            Added::Watched(want) => want,
            Added::New(want, counted) => {
                let expire = Arc::clone(wanted).expire(endpoint.clone(), counted);
                let until = wanted.stop_each().run_until_cancelled_owned(expire);
                self.shared.follow(watched_endpoints::prefix_of(endpoint), until, || ());
                want
            }
            Added::TooMany => {
                self.want_all();
                Interest::default()
            }
        }
    }

    fn want_all(&self) {
        let wanted = Arc::clone(&self.shared.wanted);
        if wanted.add_all() {
            let until = self.shared.stop.clone().cancelled_owned();
            self.shared.follow(watched_endpoints::prefix_of_all(), until, move || wanted.has_all());
        }
    }

    fn put_policy(
        &self,
        policy: PlanePolicy,
    ) -> BoxFuture<'_, Result<PlanePolicy, DiscoveryError>> {
        Box::pin(async move {
            self.shared.check_open()?;
            policies::put(&self.shared.members, policy).await
        })
    }

    fn remove_policy(
        &self,
        endpoint: &EndpointName,
    ) -> BoxFuture<'_, Result<bool, DiscoveryError>> {
        let endpoint = endpoint.clone();
        Box::pin(async move {
            self.shared.check_open()?;
            policies::remove(&self.shared.members, &endpoint).await
        })
    }

    fn watch_policy(&self, endpoint: &EndpointName) -> Result<Option<PolicyView>, DiscoveryError> {
        self.shared.check_open()?;
        let (view, is_first) = self.shared.policies.view(endpoint);
        if is_first {
            self.shared.follow_policy(endpoint);
        }
        Ok(Some(view))
    }

    fn trouble(&self) -> Option<String> {
        self.shared.members.trouble().or_else(|| self.shared.publisher.trouble())
    }

    /// Gives the lease back, and with it every registration; without etcd they end with it. Others
    /// see them for [1 s](EtcdConfig::expiry_grace) longer, unless they were withdrawn before.
    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.end())
    }
}

impl fmt::Debug for EtcdDiscovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EtcdDiscovery({})", self.shared.endpoints)
    }
}

impl Shared {
    /// Follows a prefix, which is on the board.
    fn follow<T>(
        &self,
        prefix: String,
        until: impl Future<Output = T> + Send + 'static,
        listed: impl FnOnce() + Send + 'static,
    ) {
        let (members, publisher) = (Arc::clone(&self.members), Arc::clone(&self.publisher));
        let follower = RangeWatcher::new(members, publisher, prefix, self.delay);
        let following = async move {
            tokio::select! {
                biased;
                _ = until => {}
                () = follower.run(listed) => {}
            }
        };
        self.tasks.spawn_on(following, &self.runtime);
    }

    /// Follows the policy of an endpoint, which is on the board.
    fn follow_policy(&self, endpoint: &EndpointName) {
        let (members, board) = (Arc::clone(&self.members), Arc::clone(&self.policies));
        let watcher = PolicyWatcher::new(members, board, endpoint.clone());
        let following = self.stop.clone().run_until_cancelled_owned(watcher.run());
        self.tasks.spawn_on(following, &self.runtime);
    }

    fn check_open(&self) -> Result<(), DiscoveryError> {
        if self.stop.is_cancelled() { Err(self.has_ended()) } else { Ok(()) }
    }

    async fn ask<T>(
        &self,
        doing: &str,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, DiscoveryError> {
        self.check_open()?;
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
        self.publisher.close();
    }
}

/// What a registration takes back.
struct Taken {
    hold: RegistrationHandle,
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
