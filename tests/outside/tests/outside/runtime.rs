//! The transport in a runtime of the facade.

use std::{sync::Arc, time::Duration};

use futures_util::TryStreamExt;
use sinew::{
    DiscoverySource, DriverConfig, InstanceId, PushRouter, RouterMode, Runtime, Shutdown,
    layers::registry::TransportRegistration,
};
use sinew_outside::masked::{MASKED, masked_transport};
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
    assert_eq!(runtime.shutdown(Duration::from_secs(10)).await, Shutdown::default());
    assert_eq!(transport.connections(), 0, "it ends with the runtime");
}
