//! Who finds what is served.

use std::{fs, time::Duration};

use futures_util::{StreamExt, stream};

use crate::{
    DiscoverySource, EndpointName, Error, InstanceId, PushRouter, RouterMode, Runtime, ServeError,
    SingleIn, engine_fn,
};

#[tokio::test]
async fn a_worker_is_announced_to_those_whom_it_serves() {
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let discovery = DiscoverySource::File(folder.path().to_owned());
        Runtime::builder().discovery(discovery).build()
    };
    let (worker, caller) = (start().await.unwrap(), start().await.unwrap());
    let endpoint = || "text/words/split".parse().unwrap();
    let engine = engine_fn(|request: SingleIn<String>| async move {
        Ok::<_, Error>(stream::iter([Ok(request.data().clone())]))
    });
    let served = worker.serve_named(endpoint()).engine(engine).await.unwrap();

    let record = format!("text%2Fwords%2Fsplit%2F{}", served.instance());
    let record = fs::read_to_string(folder.path().join("v1/instances").join(record)).unwrap();
    // Stock callers of Dynamo know `tcp`, and skip a record with another one.
    let transport = if cfg!(feature = "dynamo") { "tcp" } else { "sinew" };
    assert!(record.contains(&format!(r#""transport":{{"{transport}":""#)), "{record}");

    let client = caller.client(endpoint());
    client.wait_for_instances(Duration::from_secs(30)).await.unwrap();
    let router = PushRouter::<String, String>::from_client(client, RouterMode::RoundRobin);
    let mut response = router.await.unwrap().generate("one".to_owned()).await.unwrap();
    assert_eq!(response.next().await.unwrap().unwrap(), "one");
    assert!(response.next().await.is_none());
    caller.shutdown(Duration::from_secs(5)).await;
    worker.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn what_is_served_is_ready_until_it_is_drained_and_gone_once_it_is_dropped() {
    let runtime = Runtime::builder().discovery(DiscoverySource::Memory).build().await.unwrap();
    assert!(!runtime.health().is_ready(), "nothing is served");
    let engine = engine_fn(|request: SingleIn<String>| async move {
        Ok::<_, Error>(stream::iter([Ok(request.data().clone())]))
    });
    let name: EndpointName = "a/b/c".parse().unwrap();
    let served =
        runtime.serve_named(name.clone()).instance(InstanceId(7)).engine(engine).await.unwrap();
    let health = runtime.health();
    assert!(health.is_ready(), "{health:?}");
    assert_eq!(health.endpoints, [(name.clone(), InstanceId(7), true)]);
    assert!(health.listeners.contains(&("tcp".to_owned(), true)), "{health:?}");
    served.drain().await;
    assert_eq!(runtime.health().endpoints, [(name, InstanceId(7), false)]);
    drop(served);
    assert!(runtime.health().endpoints.is_empty());
    runtime.shutdown(Duration::ZERO).await;
    assert!(runtime.health().draining);
}

#[tokio::test]
async fn what_is_not_served_says_which_endpoint_which_listener_and_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    let runtime = Runtime::builder().discovery(DiscoverySource::Memory);
    let runtime = runtime.configure(|config| config.listen = listen).build().await.unwrap();
    let engine = || {
        engine_fn(|request: SingleIn<String>| async move {
            Ok::<_, Error>(stream::iter([Ok(request.data().clone())]))
        })
    };
    let name: EndpointName = "a/b/c".parse().unwrap();
    let error = runtime.serve_named(name.clone()).engine(engine()).await.unwrap_err();
    assert_eq!(error.to_string(), r#"a/b/c is not served: its listener "tcp" failed"#);
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains(&listen.to_string()), "{cause}");
    assert!(error.advice().contains("port 0"));
    assert!(runtime.health().endpoints.is_empty());

    drop(taken);
    let served = runtime.serve_named(name.clone()).engine(engine()).await.unwrap();
    runtime.shutdown(Duration::ZERO).await;
    let error = runtime.serve_named(name.clone()).engine(engine()).await.unwrap_err();
    assert!(matches!(error, ServeError::ShuttingDown { .. }), "{error:?}");
    assert_eq!(error.endpoint(), &name);
    drop(served);
}
