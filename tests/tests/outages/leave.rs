//! Workers leave while callers call, in the time in which callers do not know it yet.

use sinew::InstanceId;

use crate::{
    fleet::{Caller, Place, SHORT_LEASE, Worker},
    load::Load,
    servers::{Etcd, Nats, free_ports},
};

/// Each of the two workers leaves in turn, and another one takes its place.
async fn a_rolling_restart(place: &Place, caller: &Caller, mut workers: [Worker; 2]) {
    let load = Load::start(&caller.router, 8);
    for round in 0..6 {
        load.uses(&workers.each_ref().map(Worker::id)).await;
        let next = place.worker().await;
        let (is, was) = (next.id(), workers[round % 2].id());
        caller.view_is("the new worker", |ids| ids.contains(&is)).await;
        std::mem::replace(&mut workers[round % 2], next).leave().await;
        caller.view_is("the old one to be gone", |ids| !ids.contains(&was)).await;
    }
    load.uses(&workers.each_ref().map(Worker::id)).await;
    load.ends_without_failure().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_over_tcp_fails_no_request() {
    let etcd = Etcd::cluster::<1>().await;
    let place = Place::etcd(&etcd, SHORT_LEASE);
    let workers = [place.worker().await, place.worker().await];
    a_rolling_restart(&place, &place.caller(2).await, workers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_over_nats_fails_no_request() {
    let (etcd, nats) = (Etcd::cluster::<1>().await, Nats::start().await);
    let place = Place::etcd(&etcd, SHORT_LEASE).over(&nats);
    let workers = [place.worker().await, place.worker().await];
    a_rolling_restart(&place, &place.caller(2).await, workers).await;
}

/// One of two addresses is left by its worker and taken by the next one, in turn. The caller, who
/// was told both once and for all, hears nothing of it.
async fn unheard_of(places: &[Place; 2], address: impl Fn(&Worker) -> String) {
    let ids = [InstanceId(0xa), InstanceId(0xb)];
    let start = async |at: usize| places[at].worker_as(ids[at], usize::MAX).await;
    let workers = [start(0).await, start(1).await];
    let knowing = places[0].knowing(&workers.each_ref().map(address));
    let mut workers = workers.map(Some);
    let caller = knowing.caller(2).await;
    let load = Load::start(&caller.router, 8);
    for round in 0..6 {
        load.uses(&ids).await;
        let at = round % 2;
        workers[at].take().unwrap().leave().await;
        // All of it falls to the other one.
        load.completes(50).await;
        workers[at] = Some(start(at).await);
    }
    load.uses(&ids).await;
    load.ends_without_failure().await;
}

/// The address of a worker in one scheme.
fn address_of(worker: &Worker, scheme: &str) -> String {
    let all = worker.served.addresses();
    let found = all.iter().find(|address| address.scheme() == scheme);
    found.unwrap_or_else(|| panic!("no {scheme} in {all:?}")).rest().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_leave_unheard_of_over_split_tcp_fail_no_request() {
    let places = free_ports::<2>().map(|port| {
        let mut place = Place::alone();
        place.config.listen = ([127, 0, 0, 1], port).into();
        place
    });
    unheard_of(&places, |worker| format!("split-tcp://{}", address_of(worker, "tcp"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_leave_unheard_of_over_nats_fail_no_request() {
    let nats = Nats::start().await;
    let place = Place::alone().over(&nats);
    let places = [place.clone(), place];
    unheard_of(&places, |worker| format!("nats://{}", address_of(worker, "nats"))).await;
}
