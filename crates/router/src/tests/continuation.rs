//! Responses that go on at another instance.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use sinew_plane::{
    BodyEvent, CancelReason, Checkpoint, Code, Context, Continuation, Error, InstanceId, ManyOut,
    Migrated, MigrationCause, Outcome, SingleIn,
};
use tokio::time::Instant;

use super::world::{Script, World, says, texts};
use crate::{
    LoadBalancer, PushRouter, RetryBudgetConfig, RetryConfig, RouterMode, SelectionCriteria,
};

/// Chooses the first instance that may be chosen.
struct First;

impl LoadBalancer for First {
    fn select_node(&self, criteria: &SelectionCriteria<'_>) -> Option<InstanceId> {
        criteria.candidates().iter().next().map(|one| one.instance.id)
    }
}

/// Instances 1, 2, ... that declare `continuation`, and a router that asks them in this order.
async fn world(continuation: Continuation, scripts: &[Script]) -> (World, Router) {
    let world = World::new();
    for (script, id) in scripts.iter().zip(1..) {
        add(&world, id, continuation, script.clone()).await;
    }
    let router = world.router(RouterMode::RoundRobin).await.with_load_balancer(First);
    (world, router)
}

type Router = PushRouter<String, String>;

async fn add(world: &World, id: u64, continuation: Continuation, script: Script) {
    world.add_with(id, script, |one| one.continuation = continuation).await;
}

async fn call(router: &Router) -> ManyOut<String> {
    router.generate("go".to_owned()).await.unwrap()
}

/// The items, then the code of the error at the end.
async fn read(response: &mut ManyOut<String>) -> (Vec<String>, Option<Error>) {
    let (mut items, mut failed) = (Vec::new(), None);
    while let Some(next) = response.next().await {
        match next {
            Ok(item) => items.push(item),
            Err(error) => failed = Some(error),
        }
    }
    (items, failed)
}

async fn whole(response: &mut ManyOut<String>) -> Vec<String> {
    let (items, failed) = read(response).await;
    assert!(failed.is_none(), "{failed:?}");
    let complete = Outcome::Complete { items: items.len() as u64 };
    assert_eq!(format!("{:?}", response.outcome().unwrap()), format!("{complete:?}"));
    items
}

fn moved(from: u64, to: u64, at_item: u64, repeated: u64, why: MigrationCause) -> Migrated {
    Migrated::new(InstanceId(from), InstanceId(to), at_item, repeated, why)
}

fn handed_over() -> Error {
    Error::new(Code::HandedOver, "the worker drains")
}

#[tokio::test(start_paused = true)]
async fn a_replayable_response_goes_on_without_a_gap_or_a_double() {
    let scripts = [Script::Break(texts(&["a", "b"])), says(&["a", "b", "c"])];
    let (world, router) = world(Continuation::Replayable, &scripts).await;
    let mut events = call(&router).await.events();
    let mut all = Vec::new();
    while let Some(event) = events.next().await.transpose().unwrap() {
        all.push(event);
    }
    let item = |item: &str| BodyEvent::Item(item.to_owned());
    let between = BodyEvent::Migrated(moved(1, 2, 2, 2, MigrationCause::Lost));
    assert_eq!(all, [item("a"), item("b"), between, item("c")]);
    assert!(matches!(events.body().outcome(), Some(Outcome::Complete { items: 3 })));
    let seen = world.seen();
    assert_eq!((seen[0].request.attempt, seen[1].request.attempt), (0, 1));
    assert_eq!(seen[0].request.body, seen[1].request.body);
    assert_eq!(seen[1].request.headers.get("continue-at"), None, "it is run as if it were new");
    assert_ne!(seen[0].request.context.id(), seen[1].request.context.id());
    assert_eq!((router.in_flight(1_u64), router.in_flight(2_u64)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn without_a_declaration_it_is_truncated() {
    // Also when a worker that shuts down has cut it.
    for end in [Script::Break(texts(&["a"])), Script::Cut(texts(&["a"]), CancelReason::Shutdown)] {
        let (world, router) = world(Continuation::None, &[end, says(&["a", "b"])]).await;
        let mut response = call(&router).await;
        let (items, error) = read(&mut response).await;
        assert_eq!((items.len(), error.unwrap().code()), (1, Code::Truncated));
        assert!(matches!(response.outcome(), Some(Outcome::Truncated { received: 1 })));
        assert_eq!((world.asked(), response.migrations()), (vec![1], vec![]));
    }
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_where_the_same_is_declared_and_the_same_format_is_read() {
    let (world, router) = world(Continuation::Replayable, &[Script::Break(texts(&["a"]))]).await;
    add(&world, 2, Continuation::None, says(&["x"])).await;
    world
        .add_with(3, says(&["y"]), |one| {
            one.continuation = Continuation::Replayable;
            one.codecs = vec!["msgpack".to_owned()];
        })
        .await;
    add(&world, 4, Continuation::Checkpoint, says(&["a", "b"])).await;
    let mut response = call(&router).await;
    assert_eq!(whole(&mut response).await, ["a", "b"]);
    assert_eq!(world.asked(), [1, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_differs_is_not_spliced() {
    for (other, at) in [(&["a", "x", "c"][..], 1), (&["x", "b", "c"], 0), (&["a"], 1)] {
        let scripts = [Script::Break(texts(&["a", "b"])), says(other)];
        let (world, router) = world(Continuation::Replayable, &scripts).await;
        let mut response = call(&router).await;
        let (items, error) = read(&mut response).await;
        assert_eq!(items, ["a", "b"]);
        let error = error.unwrap();
        assert_eq!((error.code(), error.diverged_at()), (Code::Diverged, Some(at)));
        assert!(matches!(response.outcome(), Some(Outcome::Failed { .. })));
        assert_eq!((world.asked().len(), world.abandoned()), (2, 2));
        assert_eq!((router.in_flight(1_u64), router.in_flight(2_u64)), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_says_where_the_next_handler_begins() {
    let checkpoint = Checkpoint { items: 2, state: Bytes::from_static(b"after b") };
    let first = Script::BreakBehind(texts(&["a", "b", "c"]), checkpoint);
    // The checkpoint of a run counts its own items.
    let again = Checkpoint { items: 2, state: Bytes::from_static(b"after d") };
    let second = Script::BreakBehind(texts(&["c", "d"]), again);
    let scripts = [first, second, says(&["e"])];
    let (world, router) = world(Continuation::Checkpoint, &scripts).await;
    let mut response = call(&router).await;
    assert_eq!(whole(&mut response).await, ["a", "b", "c", "d", "e"]);
    let lost = MigrationCause::Lost;
    assert_eq!(response.migrations(), [moved(1, 2, 3, 1, lost), moved(2, 3, 4, 0, lost)]);
    let seen = world.seen();
    let sent = |at: usize| {
        let request = &seen[at].request;
        (request.headers.get("continue-at").map(str::to_owned), request.body.clone())
    };
    assert_eq!(sent(0), (None, "\"go\"".into()));
    assert_eq!(sent(1), (Some("2;checkpoint=7".to_owned()), "after b\"go\"".into()));
    assert_eq!(sent(2), (Some("4;checkpoint=7".to_owned()), "after d\"go\"".into()));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_goes_on_from_a_checkpoint_is_compared_too() {
    let checkpoint = Checkpoint { items: 1, state: Bytes::from_static(b"s") };
    let scripts = [Script::BreakBehind(texts(&["a", "b"]), checkpoint), says(&["x", "c"])];
    let (_world, router) = world(Continuation::Checkpoint, &scripts).await;
    let (items, error) = read(&mut call(&router).await).await;
    assert_eq!((items.len(), error.unwrap().diverged_at()), (2, Some(1)));
}

#[tokio::test(start_paused = true)]
async fn without_a_checkpoint_it_begins_anew() {
    let scripts = [Script::Break(texts(&["a"])), says(&["a", "b"])];
    let (world, router) = world(Continuation::Checkpoint, &scripts).await;
    assert_eq!(whole(&mut call(&router).await).await, ["a", "b"]);
    assert_eq!(world.seen()[1].request.headers.get("continue-at"), None);
}

#[tokio::test(start_paused = true)]
async fn a_hand_over_costs_no_budget_and_ejects_nobody() {
    let scripts = [
        Script::Fail(texts(&["a"]), handed_over()),
        Script::Cut(texts(&["a", "b"]), CancelReason::Shutdown),
        says(&["a", "b", "c"]),
    ];
    let (world, router) = world(Continuation::Replayable, &scripts).await;
    let none = RetryBudgetConfig { percent: 0, per_second: 0 };
    let router = router.with_retry(RetryConfig { budget: none, ..RetryConfig::default() });
    let mut response = call(&router).await;
    assert_eq!(whole(&mut response).await, ["a", "b", "c"]);
    let why: Vec<_> = response.migrations().iter().map(|moved| moved.why).collect();
    assert_eq!(why, [MigrationCause::HandedOver, MigrationCause::ShutDown]);
    let now = sinew_plane::clock::now();
    let state = &router.shared().state;
    assert!(router.client().instances().iter().all(|one| !state.is_ejected(one, now)));
    drop(world);
}

#[tokio::test(start_paused = true)]
async fn a_hand_over_to_a_worker_that_drains_too_costs_no_budget() {
    let refusal = || Script::FailStart(Error::new(Code::Draining, "drains"));
    let scripts =
        [Script::Fail(texts(&["a"]), handed_over()), refusal(), refusal(), says(&["a", "b"])];
    let (world, router) = world(Continuation::Replayable, &scripts).await;
    let none = RetryBudgetConfig { percent: 0, per_second: 0 };
    let router = router.with_retry(RetryConfig { budget: none, ..RetryConfig::default() });
    assert_eq!(whole(&mut call(&router).await).await, ["a", "b"]);
    assert_eq!(world.asked().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_death_draws_on_the_budget_and_waits_for_it() {
    let scripts = [Script::Break(texts(&["a"])), says(&["a", "b"])];
    let (world, router) = world(Continuation::Replayable, &scripts).await;
    let none = RetryBudgetConfig { percent: 0, per_second: 0 };
    let spent = router.clone().with_retry(RetryConfig { budget: none, ..RetryConfig::default() });
    let began = Instant::now();
    let mut response = call(&spent).await;
    let (items, error) = read(&mut response).await;
    assert_eq!((items.len(), error.unwrap().code()), (1, Code::Truncated));
    assert!(matches!(response.outcome(), Some(Outcome::Truncated { received: 1 })));
    assert_eq!(began.elapsed().as_secs(), 10);
    assert_eq!(world.asked(), [1], "nothing was sent without budget");
}

#[tokio::test(start_paused = true)]
async fn a_death_ejects_the_instance() {
    let scripts = [Script::Break(texts(&["a"])), says(&["a", "b"])];
    let (_world, router) = world(Continuation::Replayable, &scripts).await;
    whole(&mut call(&router).await).await;
    let (now, state) = (sinew_plane::clock::now(), &router.shared().state);
    let instances = router.client().instances();
    let ejected: Vec<_> = instances.iter().map(|one| state.is_ejected(one, now)).collect();
    assert_eq!(ejected, [true, false]);
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_an_instance_that_comes_and_no_longer_than_the_limit() {
    let (world, router) =
        world(Continuation::Replayable, &[Script::Fail(texts(&["a"]), handed_over())]).await;
    let mut response = call(&router).await;
    assert_eq!(response.next().await.unwrap().unwrap(), "a");
    assert!(response.next().now_or_never().is_none(), "the only instance has handed it over");
    add(&world, 2, Continuation::Replayable, says(&["a", "b"])).await;
    let began = Instant::now();
    assert_eq!(response.next().await.unwrap().unwrap(), "b");
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
    assert!(response.next().await.is_none());
    drop(response);

    world.remove(2).await;
    let mut response = call(&router).await;
    let (items, error) = read(&mut response).await;
    assert_eq!((items.len(), error.unwrap().code()), (1, Code::Truncated));
    assert!(matches!(response.outcome(), Some(Outcome::Truncated { received: 1 })));
}

#[tokio::test(start_paused = true)]
async fn the_only_instance_is_asked_again_where_only_its_connection_was_lost() {
    let (world, router) = world(Continuation::Replayable, &[Script::Break(texts(&["a"]))]).await;
    let mut response = call(&router).await;
    assert_eq!(response.next().await.unwrap().unwrap(), "a");
    world.script(1, says(&["a", "b"]));
    assert_eq!(whole_rest(&mut response).await, ["b"]);
    assert_eq!(world.asked(), [1, 1]);
}

async fn whole_rest(response: &mut ManyOut<String>) -> Vec<String> {
    let (items, failed) = read(response).await;
    assert!(failed.is_none(), "{failed:?}");
    items
}

#[tokio::test(start_paused = true)]
async fn a_request_that_its_workers_die_of_reaches_three_of_them() {
    let dies = || Script::Break(texts(&["a"]));
    let scripts: Vec<_> = (0..6).map(|_| dies()).collect();
    let (world, router) = world(Continuation::Replayable, &scripts).await;
    let (items, error) = read(&mut call(&router).await).await;
    assert_eq!((items.len(), error.unwrap().code()), (1, Code::Truncated));
    // The first brought an item, and three more did not.
    assert_eq!(world.asked().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_handler_ends_it_and_so_does_one_that_declines_to_resend() {
    let scripts = [Script::Fail(texts(&["a"]), Error::handler("no")), says(&["a", "b"])];
    let (world, router) = world(Continuation::Replayable, &scripts).await;
    let (_, error) = read(&mut call(&router).await).await;
    assert_eq!((error.unwrap().code(), world.asked().len()), (Code::HandlerFailed, 1));

    world.script(1, Script::Break(texts(&["a"])));
    world.script(2, Script::Break(texts(&["a"])));
    let once = router.clone().with_retry(RetryConfig::none());
    let (_, error) = read(&mut call(&once).await).await;
    assert_eq!(error.unwrap().code(), Code::Truncated);
    let (_, error) = read(&mut router.direct("go".to_owned(), 1_u64).await.unwrap()).await;
    assert_eq!(error.unwrap().code(), Code::Truncated);
    assert_eq!(world.asked().len(), 3, "who names an instance wants that one");
}

#[tokio::test(start_paused = true)]
async fn a_cancel_or_the_deadline_ends_the_search_at_once() {
    let (_world, router) =
        world(Continuation::Replayable, &[Script::Fail(texts(&["a"]), handed_over())]).await;
    let mut response = call(&router).await;
    assert_eq!(response.next().await.unwrap().unwrap(), "a");
    assert!(response.next().now_or_never().is_none());
    response.context().stop();
    let error = response.next().now_or_never().unwrap().unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Cancelled);
    let cancelled = Some(Outcome::Cancelled { reason: CancelReason::Caller });
    assert_eq!(format!("{:?}", response.outcome().cloned()), format!("{cancelled:?}"));

    let deadline = (Instant::now() + Duration::from_millis(50)).into_std();
    let context = Context::builder().deadline(deadline).build();
    let request = SingleIn::with_context("go".to_owned(), context);
    let began = Instant::now();
    let mut response = router.generate(request).await.unwrap();
    let (_, error) = read(&mut response).await;
    assert_eq!(error.unwrap().code(), Code::DeadlineExceeded);
    assert_eq!(began.elapsed().as_millis() / 10, 5, "{:?}", began.elapsed());
    assert_eq!(router.in_flight(1_u64), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_call_is_not_continued() {
    let scripts = [Script::Break(texts(&["a"])), says(&["a", "b"])];
    let (world, router) = world(Continuation::Replayable, &scripts).await;
    let mut response = call(&router).await;
    assert_eq!(response.next().await.unwrap().unwrap(), "a");
    response.context().stop();
    assert_eq!(response.next().await.unwrap().unwrap_err().code(), Code::Truncated);
    assert_eq!(world.asked(), [1]);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_response_gives_up_the_run_that_goes_on() {
    let scripts = [Script::Break(texts(&["a", "b"])), Script::Silence(texts(&["a"]))];
    let (world, router) = world(Continuation::Replayable, &scripts).await;
    let mut response = call(&router).await;
    for item in ["a", "b"] {
        assert_eq!(response.next().await.unwrap().unwrap(), item);
    }
    let pending = tokio::time::timeout(Duration::from_secs(1), pin!(response.next())).await;
    assert!(pending.is_err(), "the second run repeats what the caller has");
    assert_eq!((router.in_flight(2_u64), world.abandoned()), (1, 1));
    drop(response);
    assert_eq!((router.in_flight(2_u64), world.abandoned()), (0, 2));
}
