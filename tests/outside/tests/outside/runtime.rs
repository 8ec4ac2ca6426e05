//! The transport in a runtime of the facade.

use std::{sync::Arc, time::Duration};

use futures_util::{TryStreamExt, stream};
use sinew::{
    Address, DiscoverySource, DriverConfig, Error, InstanceId, PushRouter, RouterMode, Runtime,
    SingleIn, engine_fn,
    layers::{registry::TransportRegistration, router::RequestTransport},
};
use sinew_outside::{
    masked::{MASKED, masked_transport},
    masked_runtime::{MaskedListener, MaskedTransports},
};
use sinew_testkit::within;

use crate::fixture::{Worker, endpoint};

#[tokio::test]
async fn a_runtime_calls_over_a_transport_that_is_added() {
    let worker = Worker::start(InstanceId(7)).await;
    let source = DiscoverySource::Static(vec![worker.server.masked_address()]);
    let runtime = Runtime::builder().discovery(source).build().await.unwrap();

    let budget = Some(Arc::clone(runtime.budget()));
    let config = DriverConfig { budget, ..DriverConfig::default() }.checked().unwrap();
    let transport = Arc::new(masked_transport(config));
    let registration = TransportRegistration::duplex(&*transport);
    runtime.transports().register_duplex_transport(registration, transport.clone()).unwrap();

    let client = runtime.client(endpoint());
    let router = PushRouter::<String, String>::from_client(client, RouterMode::RoundRobin);
    let router = router.await.unwrap();
    let call = router.generate_explained("one two".to_owned());
    let (words, explanation) = within("a response", call).await.unwrap();
    assert_eq!(explanation.transport, MASKED);
    let words: Vec<_> = within("its end", words.try_collect()).await.unwrap();
    assert_eq!(words, ["one", "two"]);

    assert_eq!(transport.connections(), 1);
    assert!(runtime.shutdown(Duration::from_secs(10)).await.is_clean());
    assert_eq!(transport.connections(), 0, "it ends with the runtime");
}

#[tokio::test]
async fn a_runtime_serves_over_a_listener_that_is_added() {
    let folder = tempfile::tempdir().unwrap();
    let source = || DiscoverySource::File(folder.path().to_owned());
    let worker = Runtime::builder().discovery(source()).listener(MaskedListener::default());
    let worker = worker.build().await.unwrap();
    let split = engine_fn(|request: SingleIn<String>| async move {
        let words: Vec<_> = request.data().split(' ').map(|word| Ok(word.to_owned())).collect();
        Ok::<_, Error>(stream::iter(words))
    });
    let served = worker.serve_named(endpoint()).engine(split).await.unwrap();
    let masked = |address: &&Address| address.scheme() == MASKED.as_str();
    assert_eq!(served.addresses().iter().filter(masked).count(), 1, "{:?}", served.addresses());
    assert!(worker.health().listeners.contains(&(MASKED.as_str().to_owned(), true)));

    let caller = Runtime::builder().discovery(source()).transport_factory(MaskedTransports);
    let caller = caller.build().await.unwrap();
    let client = caller.client(endpoint()).with_transport(RequestTransport::Only(MASKED));
    client.wait_for_instances(Duration::from_secs(30)).await.unwrap();
    let router = PushRouter::<String, String>::from_client(client, RouterMode::RoundRobin);
    let router = router.await.unwrap();
    let call = router.generate_explained("one two".to_owned());
    let (words, explanation) = within("a response", call).await.unwrap();
    assert_eq!(explanation.transport, MASKED);
    let words: Vec<_> = within("its end", words.try_collect()).await.unwrap();
    assert_eq!(words, ["one", "two"]);

    assert!(caller.shutdown(Duration::from_secs(10)).await.is_clean());
    assert!(worker.shutdown(Duration::from_secs(10)).await.is_clean());
    assert!(worker.addresses().is_empty(), "the listener has ended with the runtime");
}
