//! Policies that end, and routers that have none.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use sinew_discovery::{Discovery, StaticDiscovery};
use sinew_plane::{TransportId, Window};
use sinew_testkit::{until, within};
use sinew_transport_tcp::{TCP, UNIX};

use super::house::{House, count, endpoint, number, to};
use crate::{Client, PushRouter, RequestTransport, RouterMemory, RouterMode};

/// Calls until a new stream goes over that transport, and returns it.
async fn over(house: &House, transport: &TransportId) -> sinew_plane::ManyOut<Bytes> {
    let calls = async {
        loop {
            let (response, explanation) = house.call().await;
            if explanation.transport == *transport {
                return response;
            }
        }
    };
    within("a new stream over the transport", calls).await
}

/// The first items, each checked.
async fn read(response: &mut sinew_plane::ManyOut<Bytes>, from: u64) {
    for at in from..from + 50 {
        let item = within("an item", response.next()).await.unwrap().unwrap();
        assert_eq!(number(&item), at);
    }
}

#[tokio::test]
async fn a_policy_that_is_known_counts_for_the_first_call_already() {
    let house = House::new(count).await;
    let put = house.put(to(TCP, 100)).await;
    let (mut response, explanation) = house.call().await;
    assert_eq!(explanation.transport, TCP);
    assert_eq!(*explanation.policy.unwrap(), put);
    read(&mut response, 0).await;
    drop(response);
    house.ends();
}

#[tokio::test]
async fn after_a_policy_is_removed_running_streams_stay_and_new_ones_go_as_before() {
    let house = House::new(count).await;
    house.put(to(TCP, 100)).await;
    let mut stays = house.call().await.0;
    read(&mut stays, 0).await;
    assert!(house.discovery.remove_policy(&endpoint()).await.unwrap());
    let mut new = over(&house, &UNIX).await;
    assert_eq!((house.on(&TCP), house.on(&UNIX)), (1, 1));
    read(&mut stays, 50).await;
    read(&mut new, 0).await;
    assert_eq!(house.metric("plane_policy_share"), Some(0.0));
    // The next policy takes the new one along.
    house.put(to(TCP, 100)).await;
    within("the move", async {
        let mut at = 50;
        while house.on(&TCP) < 2 {
            read(&mut new, at).await;
            at += 50;
        }
    })
    .await;
    drop((stays, new));
    house.ends();
}

#[tokio::test]
async fn an_expired_policy_is_as_none() {
    let house = House::new(count).await;
    house.put(to(TCP, 100).lasting(Duration::ZERO)).await;
    assert_eq!(house.call().await.1.transport, UNIX);
    house.put(to(TCP, 100).lasting(Duration::from_millis(100))).await;
    let mut stays = over(&house, &TCP).await;
    let new = over(&house, &UNIX).await;
    read(&mut stays, 0).await;
    assert_eq!((house.on(&TCP), house.on(&UNIX)), (1, 1));
    drop((stays, new));
    house.ends();
}

#[tokio::test]
async fn an_instance_without_an_address_for_the_transport_is_called_as_before() {
    let house = House::with(count, |mut instance| {
        instance.addresses.retain(|it| it.scheme() == "unix");
        instance
    })
    .await;
    let mut running = house.call().await.0;
    house.put(to(TCP, 100)).await;
    let name = "plane_policy_not_followed_total{endpoint=\"test/policy/count\"}";
    within("a call under the policy", async {
        while house.metric(name) != Some(3.0) {
            assert_eq!(house.call().await.1.transport, UNIX);
        }
    })
    .await;
    until("the whole share", || house.metric("plane_policy_share") == Some(100.0)).await;
    read(&mut running, 0).await;
    assert_eq!(house.moved_to("tcp"), 0);
    drop(running);
    house.ends();
}

/// They share one list with routers that may use more.
#[tokio::test]
async fn streams_of_a_router_that_may_not_use_the_transport_stay() {
    let house = House::new(count).await;
    let client = house.router.client();
    let memory = RouterMemory::new();
    let of = |mode| {
        let client = client.with_transport(mode);
        PushRouter::<Bytes, Bytes>::with_memory(client, RouterMode::RoundRobin, &memory)
    };
    let (free, bound) = (of(RequestTransport::Auto), of(RequestTransport::Only(UNIX)));
    let begin = async |router: &PushRouter<_, _>| {
        let window = Window { items: 8, bytes: 1 << 16 };
        let router = router.clone().with_window(window);
        within("the start", router.generate(Bytes::new())).await.unwrap()
    };
    let (mut goes, mut stays) = (begin(&free).await, begin(&bound).await);
    house.put(to(TCP, 100)).await;
    within("the move", async {
        let mut at = 0;
        while house.moved_to("tcp") == 0 {
            read(&mut goes, at).await;
            read(&mut stays, at).await;
            at += 50;
        }
    })
    .await;
    until("the whole share", || house.metric("plane_policy_share") == Some(100.0)).await;
    let new = bound.generate_explained(Bytes::new()).await.unwrap();
    assert_eq!((new.1.transport, new.1.policy), (UNIX, None));
    assert_eq!(free.generate_explained(Bytes::new()).await.unwrap().1.transport, TCP);
    assert_eq!(house.moved_to("tcp"), 1);
}

#[tokio::test]
async fn a_router_of_a_discovery_without_policies_keeps_no_list() {
    let house = House::new(count).await;
    let client = house.router.client();
    let listed = StaticDiscovery::new(endpoint(), Vec::new());
    let without = client.with_discovery(Arc::new(listed));
    let router = PushRouter::<Bytes, Bytes>::new(without, RouterMode::RoundRobin);
    house.put(to(TCP, 100)).await;
    let mut responses = Vec::new();
    for _ in 0..3 {
        let (mut response, explanation) = router.generate_explained(Bytes::new()).await.unwrap();
        assert_eq!((explanation.transport, explanation.policy), (UNIX, None));
        read(&mut response, 0).await;
        responses.push(response);
    }
    assert!(router.shared().policies.is_none());
    // Nor has one a list whose client knows no discovery.
    let view = house.discovery.watch().await.unwrap();
    let registry = Arc::clone(client.addressed().registry());
    let (locals, here) = Default::default();
    let client = Client::new(endpoint(), view, registry, locals, here);
    let router = PushRouter::<Bytes, Bytes>::new(client, RouterMode::RoundRobin);
    assert_eq!(router.generate_explained(Bytes::new()).await.unwrap().1.transport, UNIX);
    assert!(router.shared().policies.is_none());
}
