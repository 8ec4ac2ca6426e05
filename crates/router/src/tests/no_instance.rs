//! Nobody within reach, and nobody at all.

use std::{sync::Arc, time::Duration};

use sinew_discovery::{
    Discovery, DiscoveryError, Instance, Obstacle, Registration, Unreachable, View,
};
use sinew_plane::{BoxFuture, Code, Executed, InstanceId};

use super::world::*;
use crate::RouterMode;

fn far(one: &mut Instance) {
    let address = "tcp://127.0.0.1:9000".parse().unwrap();
    one.addresses.clear();
    one.unreachable = vec![Unreachable { address, obstacle: Obstacle::ForeignLoopback }];
}

#[tokio::test]
async fn who_cannot_be_reached_is_named_and_never_asked() {
    let world = World::new();
    world.add_with(0x2a, says(&[]), far).await;
    let router = world.router(RouterMode::RoundRobin).await;
    let client = router.client();
    assert!(client.instances().is_empty());
    assert_eq!(client.unreachable()[0].id, InstanceId(0x2a));
    for error in [
        router.generate("hi".to_owned()).await.unwrap_err(),
        router.direct("hi".to_owned(), InstanceId(0x2a)).await.unwrap_err(),
        client.wait_for_instances(Duration::ZERO).await.unwrap_err(),
    ] {
        assert_eq!((error.code(), error.executed()), (Code::NoTransport, Executed::No));
        let said = "2a at tcp://127.0.0.1:9000, which is loopback of another machine";
        assert!(error.message().contains(said), "{error}");
    }
    // Beside one that can, nobody speaks of it.
    world.add(1, says(&["hi"])).await;
    assert!(client.wait_for_instances(Duration::from_secs(5)).await.is_ok());
    for _ in 0..4 {
        router.generate("hi".to_owned()).await.unwrap();
    }
    assert_eq!(world.asked(), [1; 4]);
    let other = router.direct("hi".to_owned(), InstanceId(7)).await.unwrap_err();
    assert_eq!(other.code(), Code::NoInstances);
    assert!(other.message().contains("registered are 1."), "{other}");
}

/// A discovery that says what is wrong with it.
struct Troubled;

impl Discovery for Troubled {
    fn name(&self) -> &'static str {
        "troubled"
    }

    fn register(&self, _: Instance) -> BoxFuture<'_, Result<Registration, DiscoveryError>> {
        Box::pin(async { Err(DiscoveryError::ReadOnly { backend: "troubled" }) })
    }

    fn watch(&self) -> BoxFuture<'_, Result<View, DiscoveryError>> {
        Box::pin(async { Err(DiscoveryError::ReadOnly { backend: "troubled" }) })
    }

    fn trouble(&self) -> Option<String> {
        Some("pool.example does not exist (NXDOMAIN)".to_owned())
    }
}

#[tokio::test]
async fn nobody_at_all_comes_with_what_the_discovery_says() {
    let world = World::new();
    let client = world.router(RouterMode::RoundRobin).await.client().clone();
    let plain = client.wait_for_instances(Duration::ZERO).await.unwrap_err();
    assert!(plain.message().contains("nothing is registered"), "{plain}");
    let client = client.with_discovery(Arc::new(Troubled));
    let error = client.wait_for_instances(Duration::ZERO).await.unwrap_err();
    assert_eq!(error.code(), Code::NoInstances);
    assert!(
        error.message().ends_with("for a/b/c: pool.example does not exist (NXDOMAIN)"),
        "{error}"
    );
}
