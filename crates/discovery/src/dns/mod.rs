//! Discovery through names in DNS.

mod absence;
mod config;
mod lookup;
mod system;
mod target;

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sinew_plane::{
    Address, Backoff, BoxFuture, EndpointName, Incarnation, InstanceId, Jitter, Retries, random,
};
use tokio::{sync::watch, task::JoinSet, time::Instant};

pub use self::config::DnsConfig;
use self::{
    absence::fault,
    lookup::{Answer, FoundServer, Lookup},
    target::Target,
};
use crate::{
    Discovery, DiscoveryError, Instance, Interest, MAX_INSTANCES, Registration, Snapshot, View,
    fingerprint::fingerprint,
};

const BACKEND: &str = "dns";

/// So many answers in a row must say that nothing is there, before it is believed.
const EMPTY_ANSWERS: u32 = 3;

/// Endpoints that can be wanted. Each costs an instance per server.
const MAX_WANTED: usize = 1024;

/// Discovery through a name in DNS. Read-only.
///
/// | text | servers |
/// |---|---|
/// | `dns://NAME:PORT` | each A and AAAA record of the name, on that port |
/// | `dns://_SERVICE._tcp.NAME` | each SRV record, with its port and weight; of several priorities the lowest number that has addresses; at most 256 records count |
///
/// With `?server=IP:PORT` at the end, that DNS server is asked instead of the system's. Every
/// server found counts as an instance of each [wanted](Discovery::want) endpoint. Its id is derived
/// from its address (or its SRV target) and is the same in every process. The worker itself has
/// another id, so these instances have [`any_id`](Instance::any_id) set.
///
/// The name is queried again when the TTL of the answer has passed, within the bounds of
/// [`DnsConfig`], and after 1 to 10 s if the answer was empty, whatever its TTL. A change of the
/// system's settings (`/etc/resolv.conf`) takes effect within 5 s. If no DNS server answers, for
/// the name or one of its targets, or the answers take more than 10 s, the last good answer stays
/// in use without a limit. An empty answer (the name does not exist, or has no such records) takes
/// effect after the third in a row, and not before [`empty_after`](DnsConfig::empty_after), because
/// DNS servers may lose a zone for a short time. An answer with fewer servers than before takes
/// effect at once.
#[derive(Clone)]
pub struct DnsDiscovery {
    shared: Arc<Shared>,
    /// Aborted with the last handle, `None` after the shutdown.
    tasks: Arc<Mutex<Option<JoinSet<()>>>>,
}

struct Shared {
    target: Target,
    config: DnsConfig,
    state: Mutex<State>,
    published: watch::Sender<Snapshot>,
    /// How the first answer was, once it is there.
    first: watch::Sender<Option<Result<(), String>>>,
}

#[derive(Default)]
struct State {
    wanted: BTreeSet<EndpointName>,
    servers: Vec<FoundServer>,
    /// Since when, and how often in a row, answers have been empty although servers are known.
    empty: Option<(Instant, u32)>,
    /// What the last question came to, when that was no server.
    trouble: Option<String>,
}

impl DnsDiscovery {
    /// Makes a discovery for `target`, in a form of the table above; `dns://` may be left out.
    /// Sends no query yet.
    ///
    /// # Errors
    /// [`DiscoveryError::Invalid`] if `target` has none of these forms.
    pub fn new(target: &str) -> Result<Self, DiscoveryError> {
        Self::with_config(target, DnsConfig::default())
    }

    /// As [`new`](Self::new), with other settings.
    ///
    /// # Errors
    /// [`DiscoveryError::Invalid`] also when a value of `config` is out of its bounds.
    pub fn with_config(target: &str, config: DnsConfig) -> Result<Self, DiscoveryError> {
        config.check()?;
        let shared = Shared {
            target: target.parse()?,
            config,
            state: Mutex::default(),
            published: watch::Sender::default(),
            first: watch::Sender::default(),
        };
        let tasks = Arc::new(Mutex::new(Some(JoinSet::new())));
        Ok(Self { shared: Arc::new(shared), tasks })
    }

    async fn end(&self) {
        let tasks = self.lock_tasks().take();
        if let Some(mut tasks) = tasks {
            tasks.shutdown().await;
        }
        // Whoever still waits for the first answer.
        let ended = Some(Err("it was shut down".to_owned()));
        self.shared.first.send_if_modified(|first| {
            let is_awaited = first.is_none();
            if is_awaited {
                *first = ended;
            }
            is_awaited
        });
    }

    /// Starts to ask, once. The runtime in which the first view is taken does the work.
    fn start(&self) -> Result<(), DiscoveryError> {
        let mut tasks = self.lock_tasks();
        let tasks = tasks.as_mut().ok_or_else(|| self.shared.unavailable("it was shut down"))?;
        if tasks.is_empty() {
            let lookup =
                Lookup::new(&self.shared.target, &self.shared.config).map_err(|error| {
                    let why = format!("the system's DNS settings cannot be used: {error}");
                    self.shared.unavailable(&why)
                })?;
            tasks.spawn(Arc::clone(&self.shared).follow(lookup));
        }
        Ok(())
    }

    async fn first_view(&self) -> Result<View, DiscoveryError> {
        self.start()?;
        let mut first = self.shared.first.subscribe();
        let answer = match first.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone().unwrap_or(Ok(())),
            Err(_) => Ok(()),
        };
        match answer {
            Ok(()) => Ok(View::new(self.shared.published.subscribe())),
            Err(error) => Err(self.shared.unavailable(&error)),
        }
    }

    fn lock_tasks(&self) -> std::sync::MutexGuard<'_, Option<JoinSet<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    async fn follow(self: Arc<Self>, mut lookup: Lookup) {
        let retries = || {
            let first = self.config.min_ttl;
            let backoff = Backoff::exponential(first, LONGEST_PAUSE.max(first));
            Retries::new(backoff.with_jitter(Jitter::Half))
        };
        let (mut retries, mut empty) = (retries(), retries());
        let mut is_failing = false;
        loop {
            let pause = match lookup.ask().await {
                Ok(answer) => {
                    if std::mem::take(&mut is_failing) {
                        tracing::info!(target = %self.target, "DNS answers again");
                    }
                    retries.reset();
                    let mut pause = self.pause(&answer);
                    if answer.servers.is_empty() {
                        // Whatever is said about how long nothing will be there.
                        pause = pause.min(empty.pause());
                    } else {
                        empty.reset();
                    }
                    self.lock().trouble = answer.absence.map(|absence| {
                        format!("{} {absence}, according to {}", self.target.name(), lookup.asked)
                    });
                    self.take(answer);
                    self.first.send_replace(Some(Ok(())));
                    pause
                }
                Err(error) => {
                    let error = format!("{} {}", lookup.asked, fault(&error));
                    let trouble = format!("{} cannot be looked up: {error}", self.target.name());
                    self.lock().trouble = Some(trouble);
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::warn!(
                            target = %self.target, %error,
                            "DNS does not answer: keeping what is known"
                        );
                    }
                    self.first.send_if_modified(|first| {
                        // Once it was good, a failure is no reason to refuse a view.
                        let is_news = !matches!(first, Some(Ok(())));
                        if is_news {
                            *first = Some(Err(error));
                        }
                        is_news
                    });
                    retries.pause()
                }
            };
            self.rest(pause, &mut lookup).await;
        }
    }

    /// Waits, and no longer than until others are to be asked.
    async fn rest(&self, pause: Duration, lookup: &mut Lookup) {
        let until = Instant::now() + pause;
        while Instant::now() < until {
            tokio::time::sleep_until(until.min(Instant::now() + SETTINGS_EVERY)).await;
            if lookup.follow_system() {
                return;
            }
        }
    }

    /// How long to believe an answer.
    fn pause(&self, answer: &Answer) -> Duration {
        // tidy-allow: clock, the resolver counts on the clock of the system
        let now = std::time::Instant::now();
        let said = answer.valid_until.map(|until| until.saturating_duration_since(now));
        let DnsConfig { min_ttl, max_ttl, .. } = self.config;
        let bounded = said.unwrap_or(max_ttl).clamp(min_ttl, max_ttl);
        // Later by up to a tenth, so that a fleet that started together does not ask together.
        bounded.mul_f64(1.0 + random::fraction() / 10.0)
    }

    fn take(&self, answer: Answer) {
        let mut state = self.lock();
        if answer.servers.is_empty() && !state.servers.is_empty() {
            let (since, times) = state.empty.unwrap_or((Instant::now(), 0));
            state.empty = Some((since, times + 1));
            if times + 1 < EMPTY_ANSWERS || since.elapsed() < self.config.empty_after {
                return;
            }
            tracing::warn!(target = %self.target, "DNS has no servers any more");
        }
        state.empty = None;
        state.servers = answer.servers;
        self.publish(&state);
    }

    fn publish(&self, state: &State) {
        let pairs = state.wanted.iter().flat_map(|endpoint| {
            state.servers.iter().map(move |server| Arc::new(instance(endpoint, server)))
        });
        let instances: Vec<_> = pairs.take(MAX_INSTANCES).collect();
        self.published.send_if_modified(|snapshot| {
            let next = Snapshot::new(snapshot.revision() + 1, instances);
            let is_changed = !snapshot.changes_to(&next).is_empty();
            if is_changed {
                *snapshot = next;
            }
            is_changed
        });
    }

    fn unavailable(&self, why: &str) -> DiscoveryError {
        let what = format!("asking for {}: {why}", self.target);
        DiscoveryError::Unavailable { backend: BACKEND, what, source: None }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Longest pause between two questions that nobody answers, or that are answered with nothing.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Between two looks at the system's settings: one system call.
const SETTINGS_EVERY: Duration = Duration::from_secs(5);

fn instance(endpoint: &EndpointName, server: &FoundServer) -> Instance {
    let number = fingerprint(&["dns", &server.name]);
    let addresses = server.addresses.iter();
    let addresses = addresses.filter_map(|one| Address::new("tcp", &one.to_string()).ok());
    Instance {
        incarnation: Incarnation(number),
        weight: server.weight,
        any_id: true,
        ..Instance::new(endpoint.clone(), InstanceId(number), addresses.collect())
    }
}

impl Discovery for DnsDiscovery {
    fn name(&self) -> &'static str {
        BACKEND
    }

    fn register(&self, _: Instance) -> BoxFuture<'_, Result<Registration, DiscoveryError>> {
        Box::pin(async { Err(DiscoveryError::ReadOnly { backend: BACKEND }) })
    }

    fn watch(&self) -> BoxFuture<'_, Result<View, DiscoveryError>> {
        Box::pin(self.first_view())
    }

    /// For good: nobody is asked for an endpoint, only for the servers of all of them.
    fn want(&self, endpoint: &EndpointName) -> Interest {
        let mut state = self.shared.lock();
        if state.wanted.len() < MAX_WANTED && state.wanted.insert(endpoint.clone()) {
            self.shared.publish(&state);
        }
        Interest::default()
    }

    /// What DNS said last, when that was no server: that the name does not exist, or that nobody
    /// answered for it.
    fn trouble(&self) -> Option<String> {
        self.shared.lock().trouble.clone()
    }

    /// Views keep what they show.
    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.end())
    }
}

impl fmt::Debug for DnsDiscovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DnsDiscovery({})", self.shared.target)
    }
}
