//! The endpoints that this process serves, for callers in the same process.

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
use sinew_plane::{
    AsyncEngine, BoxFuture, EndpointName, Error, InstanceId, ManyOut, Permit, RequestHandler,
    SingleIn,
};

/// The endpoints that this process serves, so that a call to one of them does not have to be
/// serialised. Clones share one table.
#[derive(Clone, Default)]
pub struct LocalEndpoints(Arc<Table>);

type Entries = HashMap<EndpointName, Vec<Entry>>;

/// Number of parts of the table. A change copies one part, so a process that serves thousands of
/// endpoints copies some dozens of entries for each change.
const PARTS: u64 = 64;

struct Table {
    /// The parts, by the instance's id. Every call reads one without waiting. A part is written
    /// when an endpoint is added or removed.
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
    /// Tells two registrations of one instance apart, so that an old guard never removes a new
    /// entry.
    token: u64,
    local: LocalEndpoint,
}

impl LocalEndpoints {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an instance until the guard is dropped. Of two with the same name and id, calls get the
    /// later one, and the earlier one when the guard of the later one is dropped.
    pub fn insert(
        &self,
        endpoint: &EndpointName,
        id: InstanceId,
        local: LocalEndpoint,
    ) -> LocalGuard {
        self.add(endpoint, id, local, |of_name, entry| of_name.push(entry))
    }

    /// Adds an instance until the guard is dropped. Calls get it only if there is no other one with
    /// its name and id, or after [`LocalGuard::take_over`].
    pub fn insert_beneath(
        &self,
        endpoint: &EndpointName,
        id: InstanceId,
        local: LocalEndpoint,
    ) -> LocalGuard {
        self.add(endpoint, id, local, |of_name, entry| of_name.insert(0, entry))
    }

    fn add(
        &self,
        endpoint: &EndpointName,
        id: InstanceId,
        local: LocalEndpoint,
        add: impl FnOnce(&mut Vec<Entry>, Entry),
    ) -> LocalGuard {
        let token = self.0.next_token.fetch_add(1, Ordering::Relaxed);
        self.0.change(id, |entries| {
            add(entries.entry(endpoint.clone()).or_default(), Entry { id, token, local });
        });
        LocalGuard { table: Arc::clone(&self.0), endpoint: endpoint.clone(), id, token }
    }

    /// The instance of that name and id, if this process serves it. Never waits.
    pub fn get(&self, endpoint: &EndpointName, id: InstanceId) -> Option<LocalEndpoint> {
        let entries = self.0.part(id).load();
        let of_name = entries.get(endpoint)?;
        of_name.iter().rfind(|entry| entry.id == id).map(|entry| entry.local.clone())
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
/// continue.
#[must_use = "the endpoint is no longer local once the guard is dropped"]
pub struct LocalGuard {
    table: Arc<Table>,
    endpoint: EndpointName,
    id: InstanceId,
    token: u64,
}

impl LocalGuard {
    /// From now on calls get this entry instead of any other with the same name and id.
    pub fn take_over(&self) {
        self.table.change(self.id, |entries| {
            if let Some(of_name) = entries.get_mut(&self.endpoint)
                && let Some(place) = of_name.iter().position(|entry| entry.token == self.token)
            {
                of_name[place..].rotate_left(1);
            }
        });
    }
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

/// One instance as its own process uses it: a handler for encoded requests, and its typed engine if
/// there is one.
#[derive(Clone)]
pub struct LocalEndpoint {
    handler: Arc<dyn RequestHandler>,
    /// An `Arc<dyn AsyncEngine<Req, Resp>>` of the types that the endpoint has.
    engine: Option<Arc<dyn Any + Send + Sync>>,
    /// The same engine as an `Arc<dyn AdmittingEngine<Req, Resp>>`, if it is one.
    admitting: Option<Arc<dyn Any + Send + Sync>>,
}

/// An engine that admits or refuses a request before it gets the value. If it refuses, the caller
/// still has the value and can send it to another instance.
pub trait AdmittingEngine<Req, Resp>: AsyncEngine<Req, Resp> {
    /// Reserves a place for one request.
    ///
    /// # Errors
    /// Why there is no place. The handler did not run.
    fn reserve(&self) -> Result<Permit, Error>;

    /// Begins to answer a request in a place that this engine has reserved.
    fn generate_in(
        &self,
        place: Permit,
        request: SingleIn<Req>,
    ) -> BoxFuture<'_, Result<ManyOut<Resp>, Error>>;
}

/// A call to an engine in this process, which has a reserved place or asks for one when it is made.
pub struct LocalCall<Req, Resp>(Admission<Req, Resp>);

enum Admission<Req, Resp> {
    Reserved(Arc<dyn AdmittingEngine<Req, Resp>>, Permit),
    OnArrival(Arc<dyn AsyncEngine<Req, Resp>>),
}

impl<Req, Resp> LocalCall<Req, Resp> {
    /// Sends the request.
    ///
    /// # Errors
    /// Why the engine did not begin to answer.
    pub async fn generate(self, request: SingleIn<Req>) -> Result<ManyOut<Resp>, Error> {
        match self.0 {
            Admission::Reserved(engine, place) => engine.generate_in(place, request).await,
            Admission::OnArrival(engine) => engine.generate(request).await,
        }
    }
}

impl LocalEndpoint {
    /// Makes an instance that takes encoded requests.
    pub fn new(handler: Arc<dyn RequestHandler>) -> Self {
        Self { handler, engine: None, admitting: None }
    }

    /// Adds a typed engine. Callers call this engine directly and bypass the handler, so the engine
    /// itself has to admit and count requests and enforce their deadlines. If this engine refuses a
    /// request, the router does not try another instance; add an engine that refuses requests with
    /// [`with_admitting_engine`](Self::with_admitting_engine).
    #[must_use]
    pub fn with_engine<Req: 'static, Resp: 'static>(
        mut self,
        engine: Arc<dyn AsyncEngine<Req, Resp>>,
    ) -> Self {
        self.engine = Some(Arc::new(engine));
        self.admitting = None;
        self
    }

    /// Adds a typed engine that reserves places for requests.
    #[must_use]
    pub fn with_admitting_engine<Req: 'static, Resp: 'static>(
        mut self,
        engine: Arc<dyn AdmittingEngine<Req, Resp>>,
    ) -> Self {
        let plain: Arc<dyn AsyncEngine<Req, Resp>> = Arc::clone(&engine) as _;
        self.engine = Some(Arc::new(plain));
        self.admitting = Some(Arc::new(engine));
        self
    }

    /// Reserves a place at the engine; `None` if its types are not exactly these.
    ///
    /// # Errors
    /// Why there is none. Nothing has run.
    pub fn reserve<Req: 'static, Resp: 'static>(
        &self,
    ) -> Result<Option<LocalCall<Req, Resp>>, Error> {
        let Some(admitting) = &self.admitting else {
            return Ok(self.engine().map(|engine| LocalCall(Admission::OnArrival(engine))));
        };
        let Some(engine) = admitting.downcast_ref::<Arc<dyn AdmittingEngine<Req, Resp>>>() else {
            return Ok(None);
        };
        let place = engine.reserve()?;
        Ok(Some(LocalCall(Admission::Reserved(Arc::clone(engine), place))))
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
    use sinew_plane::{BoxStream, IncomingRequest, Place, ResponseSink, engine_fn};

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

    /// Has a place while it is open, and counts those that are taken.
    struct Gate(Arc<Counts>);

    #[derive(Default)]
    struct Counts {
        is_closed: std::sync::atomic::AtomicBool,
        taken: std::sync::atomic::AtomicUsize,
    }

    impl Place for Counts {
        fn call(self: Arc<Self>, _: IncomingRequest<'_>, _: ResponseSink) {}

        fn release(&self) {
            self.taken.fetch_sub(1, Ordering::Relaxed);
        }
    }

    impl AsyncEngine<u32, u32> for Gate {
        fn generate(&self, _: SingleIn<u32>) -> BoxFuture<'_, Result<ManyOut<u32>, Error>> {
            Box::pin(async { Err(Error::handler("unused")) })
        }
    }

    impl AdmittingEngine<u32, u32> for Gate {
        fn reserve(&self) -> Result<Permit, Error> {
            if self.0.is_closed.load(Ordering::Relaxed) {
                return Err(Error::draining("going away"));
            }
            self.0.taken.fetch_add(1, Ordering::Relaxed);
            Ok(Permit::new(Arc::clone(&self.0) as _))
        }

        fn generate_in(
            &self,
            _: Permit,
            request: SingleIn<u32>,
        ) -> BoxFuture<'_, Result<ManyOut<u32>, Error>> {
            self.generate(request)
        }
    }

    #[test]
    fn a_place_is_taken_for_a_call_and_given_back_without_one() {
        assert!(endpoint().reserve::<u32, u32>().unwrap().is_none(), "it has no engine");
        let counts = Arc::new(Counts::default());
        let gate = Arc::new(Gate(Arc::clone(&counts)));
        let local = endpoint().with_admitting_engine::<u32, u32>(gate);
        assert!(local.engine::<u32, u32>().is_some());
        assert!(local.reserve::<u32, u64>().unwrap().is_none(), "another type takes no place");
        let call = local.reserve::<u32, u32>().unwrap();
        assert_eq!(counts.taken.load(Ordering::Relaxed), 1);
        drop(call);
        assert_eq!(counts.taken.load(Ordering::Relaxed), 0);
        counts.is_closed.store(true, Ordering::Relaxed);
        let refusal = local.reserve::<u32, u32>().err().unwrap();
        assert!(refusal.is_safe_to_resend());
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
    fn of_two_entries_the_later_counts_and_the_earlier_once_that_has_gone() {
        let table = LocalEndpoints::new();
        let name: EndpointName = "a/b/c".parse().unwrap();
        let (one, two) = (endpoint(), endpoint());
        let counts = |local: &LocalEndpoint| {
            let found = table.get(&name, InstanceId(1)).unwrap();
            Arc::ptr_eq(found.handler(), local.handler())
        };
        let first = table.insert(&name, InstanceId(1), one.clone());
        let second = table.insert_beneath(&name, InstanceId(1), two.clone());
        assert!(counts(&one), "the second stands beneath it");
        second.take_over();
        assert!(counts(&two));
        drop(second);
        assert!(counts(&one));
        let third = table.insert(&name, InstanceId(1), two.clone());
        assert!(counts(&two));
        drop(first);
        assert!(counts(&two));
        drop(third);
        assert!(!table.contains(&name, InstanceId(1)));
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
