//! Merging, with providers that can be told to fail.

use std::sync::atomic::{AtomicBool, Ordering};

use sinew_plane::{Address, Incarnation, InstanceId};
use tokio::time::timeout;

use super::*;
use crate::{Change, MemoryDiscovery, Snapshot, StaticDiscovery};

/// A provider that works or does not.
struct Fickle {
    inside: MemoryDiscovery,
    works: AtomicBool,
}

impl Fickle {
    fn new(works: bool) -> Arc<Self> {
        Arc::new(Self { inside: MemoryDiscovery::new(), works: AtomicBool::new(works) })
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
    all.want(&instance(0).endpoint);
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
    let of = |process| Instance { process: Some(process), ..instance(1) };
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

#[test]
fn a_source_is_no_part_of_what_an_instance_is() {
    let one = instance(1);
    let told = Instance { source: Some("etcd".into()), ..one.clone() };
    assert_eq!(one, told);
    let elsewhere: Address = "tcp://h:2".parse().unwrap();
    assert_ne!(one, Instance { addresses: vec![elsewhere], ..one.clone() });
}
