//! What is served in this very process.

use std::{
    any::Any,
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sinew_plane::{AsyncEngine, EndpointName, Error, InstanceId, RequestHandler};

/// The endpoints that this process serves, so that a call to one of them need not be serialised.
/// Clones share one table.
#[derive(Clone, Default)]
pub struct LocalEndpoints(Arc<Table>);

type Entries = HashMap<EndpointName, Vec<Entry>>;

/// Parts of the table. One is copied when an endpoint comes or goes, so a process that serves
/// thousands copies some dozens of entries for each.
const PARTS: u64 = 64;

struct Table {
    /// By the instance's id. Read on every call, written when an endpoint comes or goes: readers
    /// never wait.
    parts: [ArcSwap<Entries>; PARTS as usize],
    writer: Mutex<()>,
    next_token: AtomicU64,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            parts: std::array::from_fn(|_| ArcSwap::default()),
            writer: Mutex::default(),
            next_token: AtomicU64::default(),
        }
    }
}

#[derive(Clone)]
struct Entry {
    id: InstanceId,
    /// Tells two lives of one instance apart, so that an old guard never removes a new entry.
    token: u64,
    local: LocalEndpoint,
}

impl LocalEndpoints {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Announces an instance until the guard is dropped. Of two under the same name and id the
    /// later one counts.
    pub fn insert(
        &self,
        endpoint: &EndpointName,
        id: InstanceId,
        local: LocalEndpoint,
    ) -> LocalGuard {
        let token = self.0.next_token.fetch_add(1, Ordering::Relaxed);
        self.0.change(id, |entries| {
            let of_name = entries.entry(endpoint.clone()).or_default();
            of_name.retain(|entry| entry.id != id);
            of_name.push(Entry { id, token, local });
        });
        LocalGuard { table: Arc::clone(&self.0), endpoint: endpoint.clone(), id, token }
    }

    /// The instance of that name and id, if this process serves it. Never waits.
    pub fn get(&self, endpoint: &EndpointName, id: InstanceId) -> Option<LocalEndpoint> {
        let entries = self.0.part(id).load();
        let of_name = entries.get(endpoint)?;
        of_name.iter().find(|entry| entry.id == id).map(|entry| entry.local.clone())
    }

    /// True when that instance is served by this process.
    pub fn contains(&self, endpoint: &EndpointName, id: InstanceId) -> bool {
        let entries = self.0.part(id).load();
        entries.get(endpoint).is_some_and(|of_name| of_name.iter().any(|entry| entry.id == id))
    }
}

impl Table {
    fn part(&self, id: InstanceId) -> &ArcSwap<Entries> {
        // A rest of the division by their number.
        &self.parts[(id.0 % PARTS) as usize]
    }

    fn change(&self, id: InstanceId, change: impl FnOnce(&mut Entries)) {
        let writing = self.writer.lock();
        let part = self.part(id);
        let mut entries = Entries::clone(&part.load());
        change(&mut entries);
        let before = part.swap(Arc::new(entries));
        // Unlocked before the old engines go: one of them may own a guard of this table.
        drop(writing);
        drop(before);
    }
}

impl fmt::Debug for LocalEndpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for part in &self.0.parts {
            for (name, of_name) in part.load().iter() {
                map.entry(name, &of_name.iter().map(|entry| entry.id).collect::<Vec<_>>());
            }
        }
        map.finish()
    }
}

/// Keeps an entry of [`LocalEndpoints`]; dropping it removes the entry. Calls that have begun
/// go on.
#[must_use = "the endpoint is no longer local once the guard is dropped"]
pub struct LocalGuard {
    table: Arc<Table>,
    endpoint: EndpointName,
    id: InstanceId,
    token: u64,
}

impl Drop for LocalGuard {
    fn drop(&mut self) {
        self.table.change(self.id, |entries| {
            if let Some(of_name) = entries.get_mut(&self.endpoint) {
                of_name.retain(|entry| entry.token != self.token);
                if of_name.is_empty() {
                    entries.remove(&self.endpoint);
                }
            }
        });
    }
}

impl fmt::Debug for LocalGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalGuard({})", self.endpoint)
    }
}

/// One instance as its own process sees it: a handler for encoded requests, and the typed
/// engine behind it if there is one.
#[derive(Clone)]
pub struct LocalEndpoint {
    handler: Arc<dyn RequestHandler>,
    /// An `Arc<dyn AsyncEngine<Req, Resp>>` of whatever types the endpoint has.
    engine: Option<Arc<dyn Any + Send + Sync>>,
    gate: Option<Arc<Gate>>,
}

/// Says whether a request would be taken now, and if not, why.
type Gate = dyn Fn() -> Result<(), Error> + Send + Sync;

impl LocalEndpoint {
    /// An instance that takes encoded requests.
    pub fn new(handler: Arc<dyn RequestHandler>) -> Self {
        Self { handler, engine: None, gate: None }
    }

    /// The same instance with a typed engine. Callers use it directly, past the handler: what
    /// the handler does before it calls the engine (admission, counting, deadlines) has to be
    /// done by the engine given here as well.
    #[must_use]
    pub fn with_engine<Req: 'static, Resp: 'static>(
        mut self,
        engine: Arc<dyn AsyncEngine<Req, Resp>>,
    ) -> Self {
        self.engine = Some(Arc::new(engine));
        self
    }

    /// The same instance with a question to ask before a typed request is handed over. An engine
    /// that refuses cannot give the request back, so without it a refusal (draining, overloaded)
    /// ends a request that another instance could have served.
    #[must_use]
    pub fn with_gate(
        mut self,
        gate: impl Fn() -> Result<(), Error> + Send + Sync + 'static,
    ) -> Self {
        self.gate = Some(Arc::new(gate));
        self
    }

    /// Whether the engine would take a request now. Advice: it may have changed its mind when
    /// the request comes.
    ///
    /// # Errors
    /// Why it would refuse.
    pub fn admits(&self) -> Result<(), Error> {
        self.gate.as_ref().map_or(Ok(()), |gate| gate())
    }

    /// The handler for encoded requests.
    pub fn handler(&self) -> &Arc<dyn RequestHandler> {
        &self.handler
    }

    /// The engine, if it has exactly these types.
    pub fn engine<Req: 'static, Resp: 'static>(&self) -> Option<Arc<dyn AsyncEngine<Req, Resp>>> {
        self.engine.as_ref()?.downcast_ref::<Arc<dyn AsyncEngine<Req, Resp>>>().cloned()
    }
}

impl fmt::Debug for LocalEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalEndpoint").field("typed", &self.engine.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use sinew_plane::{BoxStream, IncomingRequest, ResponseSink, SingleIn, engine_fn};

    use super::*;

    fn endpoint() -> LocalEndpoint {
        LocalEndpoint::new(Arc::new(|_: IncomingRequest<'_>, _: ResponseSink| {}))
    }

    #[test]
    fn the_engine_comes_back_only_under_its_own_types() {
        let engine = engine_fn(|_: SingleIn<u32>| async {
            Err::<BoxStream<'static, Result<String, Error>>, _>(Error::handler("unused"))
        });
        let local = endpoint().with_engine::<u32, String>(Arc::new(engine));
        assert!(local.engine::<u32, String>().is_some());
        assert!(local.engine::<u64, String>().is_none());
        assert!(local.engine::<u32, u32>().is_none());
        assert!(endpoint().engine::<u32, String>().is_none());
    }

    #[test]
    fn a_gate_is_asked_each_time_and_none_means_open() {
        assert!(endpoint().admits().is_ok());
        let open = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let asked = Arc::clone(&open);
        let local = endpoint().with_gate(move || match asked.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err(Error::draining("going away")),
        });
        assert!(local.admits().is_ok());
        open.store(false, Ordering::Relaxed);
        assert!(local.admits().unwrap_err().is_safe_to_resend());
    }

    #[test]
    fn entries_live_as_long_as_their_guard() {
        let table = LocalEndpoints::new();
        let name: EndpointName = "a/b/c".parse().unwrap();
        let one = table.insert(&name, InstanceId(1), endpoint());
        let two = table.insert(&name, InstanceId(2), endpoint());
        assert!(table.contains(&name, InstanceId(1)) && table.contains(&name, InstanceId(2)));
        drop(one);
        assert!(table.get(&name, InstanceId(1)).is_none());
        assert!(table.get(&name, InstanceId(2)).is_some());
        drop(two);
        assert!(table.0.parts.iter().all(|part| part.load().is_empty()));
    }

    #[test]
    fn the_many_instances_of_one_endpoint_are_spread() {
        let table = LocalEndpoints::new();
        let name: EndpointName = "a/b/c".parse().unwrap();
        let insert = |id| table.insert(&name, InstanceId(id), endpoint());
        let guards: Vec<_> = (0..64 * 30).map(insert).collect();
        // What is copied with the next one.
        let copied = |part: &ArcSwap<Entries>| part.load().values().map(Vec::len).sum::<usize>();
        assert!(table.0.parts.iter().all(|part| copied(part) == 30));
        drop(guards);
        assert!(table.0.parts.iter().all(|part| copied(part) == 0));
    }

    #[test]
    fn an_old_guard_leaves_a_newer_entry_alone() {
        let table = LocalEndpoints::new();
        let name: EndpointName = "a/b/c".parse().unwrap();
        let old = table.insert(&name, InstanceId(1), endpoint());
        let new = table.insert(&name, InstanceId(1), endpoint());
        drop(old);
        assert!(table.contains(&name, InstanceId(1)));
        drop(new);
        assert!(!table.contains(&name, InstanceId(1)));
    }
}
