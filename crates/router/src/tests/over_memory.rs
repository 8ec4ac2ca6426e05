//! A router over a real transport: the in-process one.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use sinew_discovery::{Discovery, Instance, MemoryDiscovery, Registration};
use sinew_plane::{Code, DuplexServer, IncomingRequest, InstanceId, Outcome, ResponseSink};
use sinew_registry::{LocalEndpoints, LocalProcess, TransportRegistration, TransportRegistry};
use sinew_transport_memory::{MemoryHub, MemoryServer, MemoryTransport};
use tokio::sync::mpsc;

use crate::{Client, PushRouter, RouterMode};

const NAME: &str = "text/words/split";

/// Answers with its own number and the words of the request.
fn split(number: u64) -> impl Fn(IncomingRequest<'_>, ResponseSink) + Send + Sync + 'static {
    move |request: IncomingRequest<'_>, mut sink: ResponseSink| {
        assert_eq!((request.endpoint, request.instance), (NAME, InstanceId(number)));
        let text: String = serde_json::from_slice(&request.body).unwrap();
        tokio::spawn(async move {
            let words = std::iter::once(number.to_string());
            let words: Vec<_> = words.chain(text.split(' ').map(str::to_owned)).collect();
            for word in words {
                sink.send(serde_json::to_vec(&word).unwrap().into()).await.unwrap();
            }
            sink.complete();
        });
    }
}

async fn announce(discovery: &MemoryDiscovery, server: &MemoryServer, id: u64) -> Registration {
    let addresses = vec![server.address().clone()];
    let instance = Instance::new(NAME.parse().unwrap(), InstanceId(id), addresses);
    discovery.register(instance).await.unwrap()
}

async fn client(discovery: &MemoryDiscovery, hub: &MemoryHub) -> Client {
    let registry = Arc::new(TransportRegistry::new());
    let transport = Arc::new(MemoryTransport::new(hub.clone()));
    let registration = TransportRegistration::duplex(&*transport);
    registry.register_duplex_transport(registration, transport).unwrap();
    let view = discovery.watch().await.unwrap();
    let locals = LocalEndpoints::new();
    Client::new(NAME.parse().unwrap(), view, registry, locals, LocalProcess::default())
}

#[tokio::test]
async fn a_rolling_restart_is_not_noticed() {
    let (hub, discovery) = (MemoryHub::default(), MemoryDiscovery::new());
    let one = hub.serve("one", split(1)).unwrap();
    let two = hub.serve("two", split(2)).unwrap();
    let first = announce(&discovery, &one, 1).await;
    let _second = announce(&discovery, &two, 2).await;
    let client = client(&discovery, &hub).await;
    let router = PushRouter::<String, String>::from_client(client, RouterMode::RoundRobin);
    let router = router.await.unwrap();
    let call = async || {
        let mut response = router.generate("a b".to_owned()).await.unwrap();
        let words: Vec<_> = response.by_ref().map(Result::unwrap).collect().await;
        assert_eq!(words[1..], ["a", "b"]);
        assert!(matches!(response.outcome(), Some(Outcome::Complete { items: 3 })));
        words[0].parse::<u64>().unwrap()
    };
    let mut served = [call().await, call().await];
    served.sort_unstable();
    assert_eq!(served, [1, 2]);

    // Drained, then gone, and only then withdrawn: every order of events a router may see.
    one.drain();
    for _ in 0..4 {
        assert_eq!(call().await, 2);
    }
    one.shutdown(Duration::ZERO).await;
    drop(one);
    for _ in 0..4 {
        assert_eq!(call().await, 2);
    }
    first.withdraw().await.unwrap();
    for _ in 0..4 {
        assert_eq!(call().await, 2);
    }
}

#[tokio::test]
async fn a_dropped_response_and_a_stop_reach_the_handler() {
    let (hub, discovery) = (MemoryHub::default(), MemoryDiscovery::new());
    let (contexts, mut running) = mpsc::channel(4);
    let server = hub.serve("one", move |_: IncomingRequest<'_>, mut sink: ResponseSink| {
        sink.accept();
        contexts.try_send(sink.context().clone()).unwrap();
        tokio::spawn(async move {
            let context = sink.context().clone();
            context.stopped().await;
            sink.cancelled(context.reason().unwrap());
        });
    });
    let server = server.unwrap();
    let _registration = announce(&discovery, &server, 1).await;
    let client = client(&discovery, &hub).await;
    let router = PushRouter::<Bytes, Bytes>::from_client(client, RouterMode::RoundRobin);
    let router = router.await.unwrap();

    let mut response = router.generate(Bytes::new()).await.unwrap();
    let handler = running.recv().await.unwrap();
    response.context().stop();
    handler.stopped().await;
    assert_eq!(response.next().await.unwrap().unwrap_err().code(), Code::Cancelled);
    assert!(matches!(response.outcome(), Some(Outcome::Cancelled { .. })));

    let response = router.generate(Bytes::new()).await.unwrap();
    let handler = running.recv().await.unwrap();
    drop(response);
    handler.killed().await;
}
