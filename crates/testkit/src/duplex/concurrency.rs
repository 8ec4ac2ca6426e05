//! Many streams, many clients, many servers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::future::join_all;

use crate::{
    Harness, Received, Served,
    handlers::{counting, echo, spawned},
    payload::numbered,
    request, within,
};

/// All of them are open before the first one is read.
pub async fn five_hundred_streams_at_once(harness: &dyn Harness) {
    let served = harness.serve(counting()).await;
    let open = |_| served.open(request("20"));
    let streams = join_all((0..500).map(open)).await;
    let wanted: Vec<_> = (0..20).map(numbered).collect();
    for received in Received::read_all(streams).await {
        assert_eq!(received.complete(), wanted);
    }
}

/// What a stream leaves behind does not add up.
pub async fn two_thousand_streams_one_after_the_other(harness: &dyn Harness) {
    let served = harness.serve(echo()).await;
    for number in 0..2000 {
        let items = served.call(request(numbered(number))).await.complete();
        assert_eq!(items, [numbered(number)]);
    }
}

/// Twenty clients with twenty streams each, from tasks of their own.
pub async fn many_clients(harness: &dyn Harness) {
    let served = harness.serve(echo()).await;
    let clients = (0..20).map(|number: u64| {
        let client = Served {
            server: Arc::clone(&served.server),
            client: harness.client(),
            address: served.address.clone(),
        };
        tokio::spawn(async move {
            let body = |stream: usize| format!("{number}/{stream}");
            let calls = (0..20).map(|stream| client.call(request(body(stream))));
            for (stream, received) in join_all(calls).await.into_iter().enumerate() {
                assert_eq!(received.complete(), [body(stream)]);
            }
        })
    });
    for client in within("all clients", join_all(clients)).await {
        assert!(client.is_ok(), "a client failed: {client:?}");
    }
}

/// A client tells its servers apart.
pub async fn one_client_and_many_servers(harness: &dyn Harness) {
    let client = harness.client();
    let mut all = Vec::new();
    for number in 0..5_u64 {
        let handler = spawned(move |mut call| async move {
            if call.sink.send(numbered(number)).await.is_ok() {
                call.sink.complete();
            }
        });
        let served = harness.serve(handler).await;
        all.push(Served { client: Arc::clone(&client), ..served });
    }
    for _ in 0..3 {
        let calls = all.iter().map(|served| served.call(request("")));
        for (number, received) in (0..).zip(join_all(calls).await) {
            assert_eq!(received.complete(), [numbered(number)]);
        }
    }
}

/// I7: no request is delivered twice or to nobody.
pub async fn each_request_runs_once(harness: &dyn Harness) {
    let runs: Arc<Mutex<HashMap<u64, u32>>> = Arc::default();
    let counted = Arc::clone(&runs);
    let handler = spawned(move |call| {
        let mut runs = counted.lock().unwrap_or_else(PoisonError::into_inner);
        *runs.entry(call.number()).or_default() += 1;
        async move { call.sink.complete() }
    });
    let served = harness.serve(handler).await;
    let calls = (0..1000_u64).map(|number| served.call(request(numbered(number))));
    for received in join_all(calls).await {
        assert!(received.complete().is_empty());
    }
    let runs = runs.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(runs.len(), 1000);
    assert!(runs.values().all(|runs| *runs == 1), "a request ran twice");
}
