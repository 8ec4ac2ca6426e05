//! NATS goes away and comes back, or brings more requests than workers take.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use sinew::{Address, Code, Context, Executed, RetryConfig, SingleIn};
use sinew_testkit::{Cut, Cuts, CuttingProxy, Listen, Way};
use tokio::task::JoinSet;

use crate::{
    engine::Job,
    fleet::Place,
    load::{Failure, Held, Load, call},
    servers::{Nats, free_ports},
    wait::{soon, until},
};

/// Far more than a refusal at once takes, and less than any wait for a server.
const AT_ONCE: Duration = Duration::from_secs(3);

/// What may become of a request because NATS is away.
fn is_of_an_outage(failure: &Failure) -> bool {
    matches!(
        (failure.error.code(), failure.error.executed()),
        (Code::ConnectFailed | Code::UnknownEndpoint, Executed::No)
            | (Code::ConnectionLost, Executed::Maybe)
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_restarted_under_load_hangs_nobody_and_needs_no_new_registration() {
    let folder = tempfile::tempdir().unwrap();
    let mut nats = Nats::start().await;
    let place = Place::folder(folder.path()).over(&nats);
    let workers = [place.worker().await, place.worker().await];
    let both = workers.each_ref().map(|worker| worker.id());
    let caller = place.caller(2).await;
    let vigil = caller.keeps_seeing(both.to_vec());
    let load = Load::start(&caller.router, 16);
    load.uses(&both).await;
    let before = load.completes(100).await;
    assert!(before.failed.is_empty(), "{:#?}", before.failed);
    let held = Held::begin(&caller.router, 20, both[0]).await;

    nats.kill();
    load.until("somebody to notice", |account| {
        account.failed.iter().any(|failure| failure.error.code() == Code::ConnectFailed)
    })
    .await;
    for _ in 0..50 {
        let failure = call(&caller.router, Job::SHORT).await.unwrap_err();
        assert_eq!(failure.error.code(), Code::ConnectFailed, "{failure:?}");
        assert!(failure.error.is_safe_to_resend() && failure.took < AT_ONCE, "{failure:?}");
    }
    let short = Context::builder().timeout(Duration::from_millis(20)).build();
    let late = caller.router.generate(SingleIn::with_context(Job::SHORT, short));
    let late = soon("a deadline to pass", late).await.unwrap_err();
    assert!(matches!(late.code(), Code::ConnectFailed | Code::DeadlineExceeded), "{late:?}");
    // What was acknowledged needs NATS no more.
    place.shop.open_gate();
    held.complete().await;

    nats.run().await;
    load.uses(&both).await;
    // Until each was reached by itself, one of the two may not have been back.
    let calls = (0..200).map(|_| call(&caller.router, Job::SHORT));
    for result in futures_util::future::join_all(calls).await {
        result.unwrap();
    }
    vigil.end().await;
    let account = load.end().await;
    for failure in &account.failed {
        assert!(is_of_an_outage(failure) && failure.took < AT_ONCE, "{failure:?}");
    }
    // 20 held ones and 200 single ones beside the load. What is said not to have run has not.
    let completed = account.completed() + 220;
    let unsure = account.failed.iter().filter(|one| one.error.executed() != Executed::No).count();
    let begun = place.shop.begun();
    assert!((completed..=completed + unsure as u64).contains(&begun), "{begun} of {completed}");
}

/// The worker dials its caller again; NATS has no part in that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_requests_over_nats_outlive_the_connections_of_their_responses() {
    let folder = tempfile::tempdir().unwrap();
    let mut nats = Nats::start().await;
    let place = Place::folder(folder.path()).over(&nats);
    let workers = [place.worker().await, place.worker().await];
    let [port] = free_ports();
    let target = Address::tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let proxy = CuttingProxy::start(Listen::loopback(), target, Cuts::when_told()).await.unwrap();
    let mut behind = place.clone();
    behind.config.call_home.port = port;
    behind.config.call_home.listen.advertise = Some(proxy.address().rest().to_owned());
    let caller = behind.caller(2).await;
    let load = Load::start(&caller.router, 8);
    load.uses(&workers.each_ref().map(|worker| worker.id())).await;
    let held = Held::begin(&caller.router, 40, workers[0].id()).await;
    for how in [Cut::Reset, Cut::Fin, Cut::Reset] {
        let made = proxy.made();
        (&proxy as &dyn Way).cut(how);
        until("both workers to dial again", async || proxy.made() >= made + 2).await;
        load.completes(50).await;
    }
    let account = load.end().await;
    assert!(account.failed.is_empty(), "{:#?}", account.failed);
    nats.kill();
    let made = proxy.made();
    (&proxy as &dyn Way).cut(Cut::Reset);
    until("a worker to dial again", async || proxy.made() > made).await;
    place.shop.open_gate();
    held.complete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_too_many_over_nats_those_over_the_limit_hear_so() {
    let folder = tempfile::tempdir().unwrap();
    let nats = Nats::start().await;
    let place = Place::folder(folder.path()).over(&nats);
    let worker = place.worker_with(4).await;
    let caller = place.caller(1).await;
    let router = caller.router.clone().with_retry(RetryConfig::none());

    let mut calls = JoinSet::new();
    for _ in 0..64 {
        let router = router.clone();
        calls.spawn(async move { call(&router, Job::HELD).await });
    }
    let mut refused = 0;
    while refused < 60 {
        let end = soon("a refusal", calls.join_next()).await.unwrap().unwrap();
        let failure = end.unwrap_err();
        assert_eq!(failure.error.code(), Code::Overloaded, "{failure:?}");
        assert_eq!(failure.error.executed(), Executed::No, "{failure:?}");
        refused += 1;
    }
    // They have their places since before the refusals, and begin when the worker has dialled back.
    soon("those in time to begin", place.shop.has_begun(4)).await;
    place.shop.open_gate();
    for end in soon("those in time to end", calls.join_all()).await {
        assert_eq!(end.unwrap(), worker.id());
    }
    assert_eq!(place.shop.begun(), 4);
    let load = Load::start(&caller.router, 2);
    load.uses(&[worker.id()]).await;
    load.ends_without_failure().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_full_worker_refuses_over_nats_another_one_takes() {
    let folder = tempfile::tempdir().unwrap();
    let nats = Nats::start().await;
    let place = Place::folder(folder.path()).over(&nats);
    let (small, large) = (place.worker_with(4).await, place.worker().await);
    let caller = place.caller(2).await;

    let load = Load::start(&caller.router, 64);
    let account = load.completes(2_000).await;
    assert!(account.completed[&small.id()] > 0 && account.completed[&large.id()] > 0);
    let account = load.end().await;
    for failure in &account.failed {
        // With the budget for resends spent, a refusal is passed on.
        assert_eq!(failure.error.code(), Code::Overloaded, "{failure:?}");
        assert_eq!(failure.error.executed(), Executed::No, "{failure:?}");
    }
    assert_eq!(place.shop.begun(), account.completed(), "nothing ran twice or for nobody");
}
