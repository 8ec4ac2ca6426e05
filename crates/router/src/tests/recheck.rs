//! Choices that no longer hold by the time the request is ready to be sent.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::FutureExt;
use serde_core::{Serialize, Serializer};
use sinew_plane::{Code, InstanceId};

use super::world::{Script, World, refuses, says};
use crate::{PushRouter, RetryConfig, RouterMode};

/// A request during whose encoding something else happens.
struct Slow(Option<Box<dyn Fn() + Send + Sync>>);

impl Slow {
    fn meanwhile(happens: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(happens)))
    }
}

impl Serialize for Slow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(happens) = &self.0 {
            happens();
        }
        serializer.serialize_unit()
    }
}

type Router = PushRouter<Slow, String>;

/// The instance that a request was chosen for and not yet sent to.
fn chosen(router: &Router, instances: u64) -> u64 {
    (1..=instances).find(|id| router.in_flight(*id) == 1).unwrap()
}

/// Another request finds the instance overloaded, and is dropped.
fn find_overloaded(world: &World, router: &Router, id: u64) {
    world.script(id, refuses(Code::Overloaded));
    let other = router.direct(Slow(None), InstanceId(id)).now_or_never();
    assert!(other.is_none(), "it waits before it asks once more");
    world.script(id, says(&[]));
}

async fn world(instances: usize) -> Arc<World> {
    Arc::new(World::with(&vec![says(&[]); instances]).await)
}

#[tokio::test]
async fn one_found_overloaded_meanwhile_is_passed_over_without_sending() {
    for mode in [
        RouterMode::RoundRobin,
        RouterMode::Random,
        RouterMode::PowerOfTwoChoices,
        RouterMode::LeastLoaded,
    ] {
        let world = world(2).await;
        // Nothing may be sent twice, and still the request goes on: nothing was sent.
        let router = world.typed::<Slow, String>(mode).await.with_retry(RetryConfig::none());
        let observed = Arc::new(AtomicUsize::new(0));
        let (seen, around, same) = (Arc::clone(&observed), Arc::clone(&world), router.clone());
        let request = Slow::meanwhile(move || {
            let id = chosen(&same, 2);
            around.script(id, refuses(Code::Overloaded));
            let other = same.direct(Slow(None), InstanceId(id)).now_or_never();
            assert_eq!(other.unwrap().unwrap_err().code(), Code::Overloaded);
            seen.store(id as usize, Ordering::Relaxed);
        });
        let (response, explanation) = router.generate_explained(request).await.unwrap();
        let overloaded = observed.load(Ordering::Relaxed) as u64;
        let other = 3 - overloaded;
        assert_eq!(world.asked(), [overloaded, other], "{mode}: the other request's, then ours");
        assert_eq!((explanation.instance.0, explanation.attempts.len()), (other, 0));
        assert_eq!((router.in_flight(overloaded), router.in_flight(other)), (0, 1));
        drop(response);
    }
}

#[tokio::test]
async fn one_withdrawn_meanwhile_is_passed_over_without_sending() {
    let world = world(2).await;
    let router = world.typed::<Slow, String>(RouterMode::LeastLoaded).await;
    let (around, same) = (Arc::clone(&world), router.clone());
    let request = Slow::meanwhile(move || {
        around.remove(chosen(&same, 2)).now_or_never().unwrap();
    });
    let (_response, explanation) = router.generate_explained(request).await.unwrap();
    assert_eq!(router.client().instance_ids(), [explanation.instance]);
    assert_eq!(world.asked(), [explanation.instance.0]);
    assert!(explanation.attempts.is_empty());

    // A named one has no substitute.
    let last = explanation.instance;
    let around = Arc::clone(&world);
    let request = Slow::meanwhile(move || around.remove(last.0).now_or_never().unwrap());
    let error = router.direct(request, last).await.unwrap_err();
    assert_eq!(error.code(), Code::NoInstances);
    assert_eq!(world.asked().len(), 1);
}

#[tokio::test]
async fn a_named_one_is_asked_although_it_was_found_overloaded_meanwhile() {
    let world = world(2).await;
    let router = world.typed::<Slow, String>(RouterMode::RoundRobin).await;
    let (around, same) = (Arc::clone(&world), router.clone());
    let request = Slow::meanwhile(move || find_overloaded(&around, &same, 1));
    router.direct(request, InstanceId(1)).await.unwrap();
    assert_eq!(world.asked(), [1, 1]);
}

#[tokio::test]
async fn with_everybody_overloaded_meanwhile_one_is_asked_all_the_same() {
    let world = world(3).await;
    let router = world.typed::<Slow, String>(RouterMode::PowerOfTwoChoices).await;
    let (around, same) = (Arc::clone(&world), router.clone());
    let request = Slow::meanwhile(move || {
        for id in 1..=3 {
            find_overloaded(&around, &same, id);
        }
    });
    router.generate(request).await.unwrap();
    assert_eq!(world.asked().len(), 4);
}

#[tokio::test]
async fn whoever_is_asked_in_spite_of_an_ejection_is_asked_at_once() {
    let world = world(3).await;
    let router = world.typed::<Slow, String>(RouterMode::RoundRobin).await;
    for id in 1..=3 {
        find_overloaded(&world, &router, id);
        // Neither a success nor a failure, which would change who is ejected.
        world.script(id, Script::NeverStart);
    }
    for _ in 0..6 {
        assert!(router.generate(Slow(None)).now_or_never().is_none());
    }
    let asked = &world.asked()[3..];
    assert!(asked.windows(2).all(|pair| pair[1] == pair[0] % 3 + 1), "one turn each: {asked:?}");
}

#[tokio::test]
async fn choices_are_not_dropped_without_end() {
    // Formats that alternate make every choice encode anew, and each encoding finds the instance
    // overloaded that was chosen.
    let world = Arc::new(World::new());
    for id in 1..=40 {
        let codec = if id % 2 == 0 { "json" } else { "msgpack" };
        world.add_with(id, says(&[]), |one| one.codecs = vec![codec.to_owned()]).await;
    }
    let router = world.typed::<Slow, String>(RouterMode::RoundRobin).await;
    let found = Arc::new(AtomicUsize::new(0));
    let (count, around, same) = (Arc::clone(&found), Arc::clone(&world), router.clone());
    let request = Slow::meanwhile(move || {
        find_overloaded(&around, &same, chosen(&same, 40));
        count.fetch_add(1, Ordering::Relaxed);
    });
    let (_response, explanation) = router.generate_explained(request).await.unwrap();
    assert!(explanation.attempts.is_empty());
    assert_eq!(found.load(Ordering::Relaxed), 17, "sixteen choices dropped, the next one sent");
    assert_eq!(world.asked().len(), 18, "one by each of the others, and ours");
}

#[tokio::test]
async fn what_cannot_be_reached_is_said_before_the_choice_is_looked_at_again() {
    let world = World::new();
    world.add_with(1, Script::NeverStart, |one| one.addresses.clear()).await;
    let router = world.typed::<Slow, String>(RouterMode::RoundRobin).await;
    let request = Slow::meanwhile(|| unreachable!("there is no format to encode in yet"));
    assert_eq!(router.generate(request).await.unwrap_err().code(), Code::NoTransport);
}
