//! Merging, with providers that can be told to fail.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use sinew_plane::{Address, Incarnation, InstanceId, ProcessId};
use tokio::{sync::watch, task::yield_now, time::timeout};

use super::*;
use crate::{Change, MemoryDiscovery, Obstacle, Snapshot, StaticDiscovery, Unreachable};

/// A provider that works or does not.
struct Fickle {
    inside: MemoryDiscovery,
    works: AtomicBool,
    has_ended: AtomicBool,
}

impl Fickle {
    fn new(works: bool) -> Arc<Self> {
        let (inside, works) = (MemoryDiscovery::new(), AtomicBool::new(works));
        Arc::new(Self { inside, works, has_ended: AtomicBool::default() })
    }

    fn check(&self) -> Result<(), DiscoveryError> {
        if self.works.load(Ordering::Relaxed) {
            return Ok(());
        }
        let what = "out of order".to_owned();
        Err(DiscoveryError::Unavailable { backend: "fickle", what, source: None })
    }
}

impl Discovery for Fickle {
    fn name(&self) -> &'static str {
        "fickle"
    }

    fn register(&self, one: Instance) -> BoxFuture<'_, Result<Registration, DiscoveryError>> {
        Box::pin(async move {
            self.check()?;
            self.inside.register(one).await
        })
    }

    fn watch(&self) -> BoxFuture<'_, Result<View, DiscoveryError>> {
        Box::pin(async move {
            self.check()?;
            self.inside.watch().await
        })
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            yield_now().await;
            self.has_ended.store(true, Ordering::Relaxed);
        })
    }
}

/// A provider that has to ask before it shows something, and asks only for what was wanted.
#[derive(Default)]
struct Shy {
    inside: MemoryDiscovery,
    shown: watch::Sender<Snapshot>,
    wants_all: AtomicBool,
    wants: Arc<AtomicUsize>,
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Discovery for Shy {
    fn name(&self) -> &'static str {
        "shy"
    }

    fn register(&self, one: Instance) -> BoxFuture<'_, Result<Registration, DiscoveryError>> {
        self.inside.register(one)
    }

    fn watch(&self) -> BoxFuture<'_, Result<View, DiscoveryError>> {
        Box::pin(async {
            // The answer comes while others get their turn.
            yield_now().await;
            if self.wants_all.load(Ordering::Relaxed) {
                self.shown.send_replace(self.inside.watch().await?.snapshot());
            }
            Ok(View::new(self.shown.subscribe()))
        })
    }

    fn want(&self, _: &EndpointName) -> Interest {
        self.wants.fetch_add(1, Ordering::Relaxed);
        Interest::new(Counted(Arc::clone(&self.wants)))
    }

    fn want_all(&self) {
        self.wants_all.store(true, Ordering::Relaxed);
    }
}

fn instance(id: u64) -> Instance {
    Instance::new("a/b/c".parse().unwrap(), InstanceId(id), vec!["tcp://h:1".parse().unwrap()])
}

fn merged(providers: impl IntoIterator<Item = Arc<dyn Discovery>>) -> MergedDiscovery {
    MergedDiscovery::new(providers).unwrap()
}

async fn until(view: &mut View, is_so: impl Fn(&Snapshot) -> bool) {
    while !is_so(&view.snapshot()) {
        let changed = timeout(Duration::from_secs(30), view.changed()).await;
        changed.unwrap().unwrap();
    }
}

fn source(view: &View, id: u64) -> String {
    let snapshot = view.snapshot();
    snapshot.get(&instance(id).key()).unwrap().source.as_deref().unwrap().to_owned()
}

#[tokio::test]
async fn every_entry_has_its_source() {
    let (one, two) = (MemoryDiscovery::new(), MemoryDiscovery::new());
    let seeds = StaticDiscovery::addresses(["tcp://h:9"]).unwrap();
    let all = merged([
        Arc::new(one.clone()) as Arc<dyn Discovery>,
        Arc::new(two.clone()),
        Arc::new(seeds),
    ]);
    assert_eq!(all.sources().collect::<Vec<_>>(), ["memory", "memory#2", "static"]);
    let _wanted = all.want(&instance(0).endpoint);
    let _first = one.register(instance(1)).await.unwrap();
    let mut view = all.watch().await.unwrap();
    assert_eq!(view.snapshot().len(), 2, "what is known when it is asked for");
    let second = two.register(instance(2)).await.unwrap();
    until(&mut view, |now| now.len() == 3).await;
    assert_eq!((source(&view, 1), source(&view, 2)), ("memory".into(), "memory#2".into()));
    assert_eq!(view.snapshot().iter().filter(|one| one.any_id).count(), 1);
    drop(second);
    until(&mut view, |now| now.len() == 2).await;
    all.shutdown().await;
}

#[tokio::test]
async fn a_view_waits_for_what_was_wanted_since_the_first_one() {
    let shy = Arc::new(Shy::default());
    let _there = shy.inside.register(instance(1)).await.unwrap();
    let all = merged([Arc::new(MemoryDiscovery::new()) as Arc<dyn Discovery>, shy.clone()]);
    assert!(all.watch().await.unwrap().snapshot().is_empty(), "nothing is wanted yet");
    all.want_all();
    let view = all.watch().await.unwrap();
    assert_eq!(view.snapshot().len(), 1);
    assert_eq!(source(&view, 1), "shy");
}

#[tokio::test]
async fn an_interest_is_every_providers_and_lasts_as_long_as_the_last_view_that_holds_it() {
    let (one, two) = (Arc::new(Shy::default()), Arc::new(Shy::default()));
    let all = merged([one.clone() as Arc<dyn Discovery>, two.clone()]);
    let wants = || (one.wants.load(Ordering::Relaxed), two.wants.load(Ordering::Relaxed));
    let view = all.watch().await.unwrap().holding(all.want(&instance(1).endpoint));
    let clone = view.clone().holding(all.want(&instance(1).endpoint));
    assert_eq!(wants(), (2, 2));
    drop(view);
    assert_eq!(wants(), (2, 2));
    drop(clone);
    assert_eq!(wants(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_the_providers_too_and_refuses_more() {
    let (good, bad) = (Fickle::new(true), Fickle::new(false));
    let all = merged([good.clone() as Arc<dyn Discovery>, bad.clone()]);
    let registration = all.register(instance(1)).await.unwrap();
    let view = all.watch().await.unwrap();
    all.clone().shutdown().await;
    assert!(good.has_ended.load(Ordering::Relaxed) && bad.has_ended.load(Ordering::Relaxed));
    assert_eq!(view.snapshot().len(), 1, "a view keeps what it shows");
    for error in [
        all.watch().await.map(drop).unwrap_err().to_string(),
        all.register(instance(2)).await.map(drop).unwrap_err().to_string(),
    ] {
        assert!(error.contains("shut down"), "{error}");
    }
    // What could not be registered is not tried any more.
    bad.works.store(true, Ordering::Relaxed);
    let mut inside = bad.inside.watch().await.unwrap();
    assert!(timeout(Duration::from_secs(60), inside.changed()).await.is_err());
    all.shutdown().await;
    registration.withdraw().await.unwrap();
}

/// A provider that never answers.
struct Silent;

impl Discovery for Silent {
    fn name(&self) -> &'static str {
        "silent"
    }

    fn register(&self, _: Instance) -> BoxFuture<'_, Result<Registration, DiscoveryError>> {
        Box::pin(std::future::pending())
    }

    fn watch(&self) -> BoxFuture<'_, Result<View, DiscoveryError>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_wakes_who_waits_for_the_first_answer() {
    let all = merged([Arc::new(Silent) as Arc<dyn Discovery>]);
    let watching = tokio::spawn({
        let all = all.clone();
        async move { all.watch().await }
    });
    // The watch has begun to wait, and then waits in vain.
    tokio::task::yield_now().await;
    tokio::time::advance(FIRST_WAIT * 2).await;
    assert!(!watching.is_finished());
    all.shutdown().await;
    let watched = timeout(Duration::from_secs(30), watching).await.unwrap().unwrap();
    assert!(watched.unwrap_err().to_string().contains("shut down"));
}

#[tokio::test]
async fn one_that_fails_hides_none_and_comes_later() {
    let (good, bad) = (MemoryDiscovery::new(), Fickle::new(false));
    let _there = bad.inside.register(instance(2)).await.unwrap();
    let all = merged([Arc::new(good.clone()) as Arc<dyn Discovery>, bad.clone()]);
    let registration = all.register(instance(1)).await.unwrap();
    let mut view = all.watch().await.unwrap();
    assert_eq!(view.snapshot().len(), 1);
    bad.works.store(true, Ordering::Relaxed);
    until(&mut view, |now| now.len() == 2).await;
    // What could not be announced there is made up for.
    let mut inside = bad.inside.watch().await.unwrap();
    until(&mut inside, |now| now.len() == 2).await;
    registration.withdraw().await.unwrap();
    assert_eq!(inside.snapshot().len(), 1);
    assert!(good.watch().await.unwrap().snapshot().is_empty());
}

#[tokio::test]
async fn all_failing_is_a_failure_that_names_them() {
    let all = merged([Fickle::new(false) as Arc<dyn Discovery>, Fickle::new(false)]);
    for error in [
        all.watch().await.map(drop).unwrap_err().to_string(),
        all.register(instance(1)).await.map(drop).unwrap_err().to_string(),
    ] {
        assert!(error.contains("out of order"), "{error}");
    }
    let error = all.watch().await.unwrap_err().to_string();
    assert!(error.contains("fickle: ") && error.contains("fickle#2: "), "{error}");
    assert!(MergedDiscovery::new([]).is_err());
}

#[tokio::test]
async fn a_registration_goes_where_registrations_are_taken() {
    let seeds = || Arc::new(StaticDiscovery::addresses(["tcp://h:9"]).unwrap());
    let (one, two) = (MemoryDiscovery::new(), MemoryDiscovery::new());
    let all = merged([seeds() as Arc<dyn Discovery>, Arc::new(one.clone()), Arc::new(two.clone())]);
    let registration = all.register(instance(1)).await.unwrap();
    for place in [&one, &two] {
        assert_eq!(place.watch().await.unwrap().snapshot().len(), 1);
    }
    drop(registration);
    for place in [&one, &two] {
        assert!(place.watch().await.unwrap().snapshot().is_empty());
    }
    let error = merged([seeds() as Arc<dyn Discovery>]).register(instance(1)).await.unwrap_err();
    assert!(matches!(error, DiscoveryError::ReadOnly { .. }), "{error}");
}

#[tokio::test]
async fn a_key_that_is_taken_somewhere_leaves_nothing_behind() {
    let (one, two) = (MemoryDiscovery::new(), MemoryDiscovery::new());
    let of = |process| Instance { process: Some(ProcessId(process)), ..instance(1) };
    let _held = two.register(of(7)).await.unwrap();
    let all = merged([Arc::new(one.clone()) as Arc<dyn Discovery>, Arc::new(two)]);
    let error = all.register(of(8)).await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Taken { .. }), "{error}");
    assert!(one.watch().await.unwrap().snapshot().is_empty());
}

#[tokio::test]
async fn of_two_under_one_key_the_better_one_counts() {
    let (first, second) = (MemoryDiscovery::new(), MemoryDiscovery::new());
    let all = merged([Arc::new(first.clone()) as Arc<dyn Discovery>, Arc::new(second.clone())]);
    let made_up = Instance { any_id: true, ..instance(1) };
    let _made_up = first.register(made_up).await.unwrap();
    let mut view = all.watch().await.unwrap();
    assert_eq!(source(&view, 1), "memory");

    // Its own record counts more than a seed.
    let own = Instance { incarnation: Incarnation(1), ..instance(1) };
    let _own = second.register(own.clone()).await.unwrap();
    until(&mut view, |now| now.get(&own.key()).is_some_and(|one| !one.any_id)).await;
    assert_eq!(source(&view, 1), "memory#2");

    // The later life counts, wherever it is told first.
    let reborn = Instance { incarnation: Incarnation(2), ..own.clone() };
    let _reborn = first.register(reborn.clone()).await.unwrap();
    until(&mut view, |now| now.get(&own.key()) == Some(&Arc::new(reborn.clone()))).await;
    assert_eq!(source(&view, 1), "memory");

    // The same from a second provider is no change, and the first provider's counts.
    let mut second_view = view.clone();
    let same = second.register(reborn.clone()).await.unwrap();
    let other = second.register(instance(2)).await.unwrap();
    let changes = second_view.changed().await.unwrap();
    assert!(
        changes.iter().all(|one| !matches!(one, Change::Changed { new, .. } if new.id.0 == 1 && new.incarnation.0 != 2)),
        "{changes:?}"
    );
    assert_eq!(source(&view, 1), "memory");
    // And when the first provider loses it, it stays.
    drop((same, other));
}

#[tokio::test]
async fn of_two_under_one_key_the_one_within_reach_counts() {
    let (first, second) = (MemoryDiscovery::new(), MemoryDiscovery::new());
    let all = merged([Arc::new(first.clone()) as Arc<dyn Discovery>, Arc::new(second.clone())]);
    let mut view = all.watch().await.unwrap();
    let _near = first.register(instance(1)).await.unwrap();
    let address = "tcp://127.0.0.1:1".parse().unwrap();
    let unreachable = vec![Unreachable { address, obstacle: Obstacle::ForeignLoopback }];
    let far = Instance { addresses: Vec::new(), unreachable, ..instance(1) };
    // Told later, and no better for it.
    let _far = second.register(far).await.unwrap();
    let _last = second.register(instance(2)).await.unwrap();
    until(&mut view, |now| now.len() == 2).await;
    assert!(view.snapshot().iter().all(|one| one.is_reachable()));
    assert_eq!(source(&view, 1), "memory");
}

#[test]
fn a_source_is_no_part_of_what_an_instance_is() {
    let one = instance(1);
    let told = Instance { source: Some("etcd".into()), ..one.clone() };
    assert_eq!(one, told);
    let elsewhere: Address = "tcp://h:2".parse().unwrap();
    assert_ne!(one, Instance { addresses: vec![elsewhere], ..one.clone() });
}

#[tokio::test]
async fn of_the_policies_of_all_providers_the_newest_counts() {
    let (first, second) = (Arc::new(MemoryDiscovery::new()), Arc::new(MemoryDiscovery::new()));
    let fixed = Arc::new(StaticDiscovery::addresses(["tcp://h:9"]).unwrap());
    let all: [Arc<dyn Discovery>; 3] = [fixed.clone(), first.clone(), second.clone()];
    let merged = MergedDiscovery::new(all).unwrap();
    let endpoint: EndpointName = "a/b/c".parse().unwrap();
    let policy = |percent| {
        let policy = PlanePolicy::new(endpoint.clone(), sinew_plane::TransportId::new("tcp"));
        policy.percent(percent)
    };
    let mut view = merged.watch_policy(&endpoint).unwrap().unwrap();
    let old = second.put_policy(policy(1)).await.unwrap();
    assert_eq!(next_policy(&mut view).await.as_deref(), Some(&old));
    let new = merged.put_policy(policy(2)).await.unwrap();
    assert_eq!(next_policy(&mut view).await.as_deref(), Some(&new));
    assert_eq!(first.watch_policy(&endpoint).unwrap().unwrap().borrow().as_deref(), Some(&new));
    assert!(merged.remove_policy(&endpoint).await.unwrap());
    while next_policy(&mut view).await.is_some() {}
    assert!(!merged.remove_policy(&endpoint).await.unwrap());

    let without = MergedDiscovery::new([fixed as Arc<dyn Discovery>]).unwrap();
    let error = without.put_policy(policy(3)).await.unwrap_err();
    assert!(matches!(error, DiscoveryError::NoPolicies { .. }), "{error}");
    assert!(without.remove_policy(&endpoint).await.is_err());
    assert!(without.watch_policy(&endpoint).unwrap().is_none());
}

async fn next_policy(view: &mut PolicyView) -> Option<Arc<PlanePolicy>> {
    timeout(Duration::from_secs(20), view.changed()).await.unwrap().unwrap();
    view.borrow_and_update().clone()
}
