//! etcd goes away, comes back, comes late, loses its leader, or takes a lease back: requests go
//! on, and registrations come back by themselves.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use crate::{
    fleet::{Caller, Place, SHORT_LEASE, Worker, key_of},
    load::{Held, Load},
    servers::{Etcd, Nats, free_ports},
    wait::{soon, until},
};

/// The lease of stock peers that ask for a short one.
const LEASE: Duration = Duration::from_secs(10);

/// Until all is as it was, once etcd answers.
const AT_ONCE: Duration = Duration::from_secs(5);

async fn two_workers(place: &Place) -> [Worker; 2] {
    [place.worker().await, place.worker().await]
}

fn ids(workers: &[Worker]) -> Vec<sinew::InstanceId> {
    let mut ids: Vec<_> = workers.iter().map(Worker::id).collect();
    ids.sort();
    ids
}

/// A caller that has only etcd to learn from sees these workers.
async fn a_new_caller_sees(place: &Place, workers: &[Worker]) -> Caller {
    let caller = place.caller(workers.len()).await;
    assert_eq!(caller.ids(), ids(workers), "the same instances as ever");
    caller
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minute_without_etcd_fails_no_request() {
    let mut members = Etcd::cluster::<1>().await;
    let place = Place::etcd(&members, LEASE);
    let workers = two_workers(&place).await;
    let caller = place.caller(2).await;
    let vigil = caller.keeps_seeing(ids(&workers));
    let load = Load::start(&caller.router, 8);
    load.uses(&ids(&workers)).await;

    members[0].kill();
    let killed = Instant::now();
    while killed.elapsed() < Duration::from_secs(60) {
        load.completes(100).await;
    }
    load.uses(&ids(&workers)).await;

    members[0].run().await;
    let back = Instant::now();
    let newcomer = a_new_caller_sees(&place, &workers).await;
    assert!(back.elapsed() < AT_ONCE, "after {:?}", back.elapsed());
    // Both are kept again: each lease has been renewed since.
    for worker in &workers {
        let etcd = &members[0];
        let lease = etcd.entry(&key_of(worker.id())).await.unwrap().lease;
        let mut before = etcd.seconds_left(lease).await;
        until("the lease to be renewed", async || {
            let now = etcd.seconds_left(lease).await;
            now > std::mem::replace(&mut before, now)
        })
        .await;
    }
    let both = Load::start(&newcomer.router, 2);
    both.uses(&ids(&workers)).await;
    both.ends_without_failure().await;
    load.ends_without_failure().await;
    vigil.end().await;
}

/// A member that hangs for longer than the leases last lets them run out when it goes on, and has
/// no entry for a moment. No caller ever sees that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_that_ran_out_in_an_outage_are_replaced_at_once() {
    let members = Etcd::cluster::<1>().await;
    let place = Place::etcd(&members, SHORT_LEASE);
    let workers = two_workers(&place).await;
    let mut before = Vec::new();
    for worker in &workers {
        before.push(members[0].entry(&key_of(worker.id())).await.unwrap());
    }
    let caller = place.caller(2).await;
    let vigil = caller.keeps_seeing(ids(&workers));
    let load = Load::start(&caller.router, 8);
    load.uses(&ids(&workers)).await;
    let held = Held::begin(&caller.router, 50, workers[0].id()).await;

    members[0].hang();
    let hung = Instant::now();
    while hung.elapsed() < SHORT_LEASE * 4 {
        load.completes(100).await;
    }
    members[0].go_on();
    let back = Instant::now();
    for (worker, before) in workers.iter().zip(before) {
        until("the worker to stand under another lease", async || {
            let now = members[0].entry(&key_of(worker.id())).await;
            now.is_some_and(|now| now.lease != before.lease && now.value == before.value)
        })
        .await;
    }
    a_new_caller_sees(&place, &workers).await;
    caller.sees(2).await;
    assert!(back.elapsed() < AT_ONCE, "after {:?}", back.elapsed());
    load.uses(&ids(&workers)).await;
    place.shop.open_gate();
    held.complete().await;
    load.ends_without_failure().await;
    vigil.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_killed_fails_no_request_and_loses_no_instance() {
    let mut members = Etcd::cluster::<3>().await;
    let place = Place::etcd(&members, LEASE);
    let workers = two_workers(&place).await;
    let caller = place.caller(2).await;
    let vigil = caller.keeps_seeing(ids(&workers));
    let load = Load::start(&caller.router, 8);
    load.uses(&ids(&workers)).await;

    let mut leader = None;
    for (at, member) in members.iter().enumerate() {
        if member.is_leader().await {
            leader = Some(at);
        }
    }
    let leader = leader.expect("a cluster that works has a leader");
    members[leader].kill();
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    until("another member to lead", async || {
        members[others[0]].is_leader().await || members[others[1]].is_leader().await
    })
    .await;
    load.completes(200).await;
    a_new_caller_sees(&place, &workers).await;
    // The two that are left take registrations, and those who watched before see them.
    let third = place.worker().await;
    caller.sees(3).await;
    load.uses(&[third.id()]).await;
    load.ends_without_failure().await;
    vigil.end().await;
}

async fn a_lease_is_revoked(place: Place, etcd: &Etcd) {
    let workers = two_workers(&place).await;
    let caller = place.caller(2).await;
    let vigil = caller.keeps_seeing(ids(&workers));
    let load = Load::start(&caller.router, 8);
    load.uses(&ids(&workers)).await;
    let held = Held::begin(&caller.router, 50, workers[0].id()).await;

    let key = key_of(workers[0].id());
    // Again and again, so that requests are on their way at every stage of it.
    for _ in 0..5 {
        let before = etcd.entry(&key).await.unwrap();
        etcd.ctl(&["lease", "revoke", &format!("{:x}", before.lease)]).await;
        until("the worker to be registered again", async || {
            let now = etcd.entry(&key).await;
            now.is_some_and(|now| now.lease != before.lease && now.value == before.value)
        })
        .await;
        load.uses(&ids(&workers)).await;
    }
    place.shop.open_gate();
    held.complete().await;
    load.ends_without_failure().await;
    vigil.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lease_of_the_only_worker_revoked_fails_no_request() {
    let members = Etcd::cluster::<1>().await;
    let place = Place::etcd(&members, LEASE);
    let worker = [place.worker().await];
    let caller = place.caller(1).await;
    let vigil = caller.keeps_seeing(ids(&worker));
    let load = Load::start(&caller.router, 8);
    let key = key_of(worker[0].id());
    for _ in 0..10 {
        load.uses(&ids(&worker)).await;
        let before = members[0].entry(&key).await.unwrap();
        members[0].ctl(&["lease", "revoke", &format!("{:x}", before.lease)]).await;
        until("the worker to be registered again", async || {
            let now = members[0].entry(&key).await;
            now.is_some_and(|now| now.lease != before.lease && now.value == before.value)
        })
        .await;
    }
    load.uses(&ids(&worker)).await;
    load.ends_without_failure().await;
    vigil.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_revoked_under_fifty_streams_ends_none_of_them() {
    let members = Etcd::cluster::<1>().await;
    a_lease_is_revoked(Place::etcd(&members, LEASE), &members[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_revoked_under_fifty_streams_over_nats_ends_none_of_them() {
    let (members, nats) = (Etcd::cluster::<1>().await, Nats::start().await);
    a_lease_is_revoked(Place::etcd(&members, LEASE).over(&nats), &members[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runtimes_that_start_before_etcd_wait_for_it() {
    let [port] = free_ports();
    // Somebody who takes connections and says nothing shows when both have begun to try.
    let nobody = TcpListener::bind(("127.0.0.1", port)).unwrap();
    nobody.set_nonblocking(true).unwrap();
    let nobody = tokio::net::TcpListener::from_std(nobody).unwrap();
    let mut members = Etcd::stopped([port]);
    let place = Place::etcd(&members, LEASE);
    let worker = tokio::spawn({
        let place = place.clone();
        async move { place.worker().await }
    });
    let caller = tokio::spawn({
        let place = place.clone();
        async move { place.caller(1).await }
    });
    for _ in 0..2 {
        drop(soon("a runtime to try", nobody.accept()).await.unwrap());
    }
    drop(nobody);
    assert!(!worker.is_finished() && !caller.is_finished());
    members[0].run().await;
    let worker = soon("the worker to be ready", worker).await.unwrap();
    let caller = soon("the caller to be ready", caller).await.unwrap();
    let load = Load::start(&caller.router, 2);
    load.uses(&[worker.id()]).await;
    load.ends_without_failure().await;
}
