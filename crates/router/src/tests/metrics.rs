//! What is counted of requests over a transport.

use futures_util::StreamExt;
use metrics_exporter_prometheus::PrometheusBuilder;
use sinew_plane::{Code, Continuation, InstanceId};

use super::world::{Script, World, refuses, says};
use crate::RouterMode;

#[tokio::test]
async fn each_transport_counts_requests_latency_errors_and_streams() {
    let recorder = PrometheusBuilder::new().build_recorder();
    sinew_telemetry::enable_timing();
    let world = metrics::with_local_recorder(&recorder, World::new);
    world.add(1, says(&["one"])).await;
    world.add(2, Script::FailOpen(Code::ConnectFailed)).await;
    world.add(3, refuses(Code::Draining)).await;
    let router = world.router(RouterMode::RoundRobin).await;
    let shows = |line: &str| {
        let text = recorder.handle().render();
        assert!(text.lines().any(|shown| shown == line), "{line} in\n{text}");
    };

    let retry = crate::RetryConfig::none();
    let once = router.clone().with_retry(retry);
    for id in [2, 3] {
        assert!(once.direct("hi".to_owned(), InstanceId(id)).await.is_err());
    }
    let mut response = router.direct("hi".to_owned(), InstanceId(1)).await.unwrap();
    shows("transport_requests_total{transport=\"fake\",side=\"calling\"} 3");
    shows("transport_request_latency_seconds_count{transport=\"fake\",side=\"calling\"} 2");
    shows("transport_errors_total{transport=\"fake\",side=\"calling\",category=\"transport\"} 1");
    shows("transport_errors_total{transport=\"fake\",side=\"calling\",category=\"resource\"} 1");
    shows("transport_active_streams{transport=\"fake\",side=\"calling\"} 1");
    assert_eq!(response.by_ref().count().await, 1);
    shows("transport_active_streams{transport=\"fake\",side=\"calling\"} 0");

    // What ends a stream midway counts as well.
    world.script(1, Script::Break(vec!["\"a\"".into()]));
    let broken = router.direct("hi".to_owned(), InstanceId(1)).await.unwrap();
    assert_eq!(broken.count().await, 2);
    shows("transport_errors_total{transport=\"fake\",side=\"calling\",category=\"transport\"} 2");
}

#[tokio::test]
async fn a_response_that_goes_on_elsewhere_is_counted_with_the_reason() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let world = World::new();
    let add = async |id, script| {
        world.add_with(id, script, |one| one.continuation = Continuation::Replayable).await;
    };
    add(1, Script::Break(vec!["\"a\"".into()])).await;
    let router = world.router(RouterMode::RoundRobin).await;
    let mut response = router.generate("hi".to_owned()).await.unwrap();
    assert_eq!(response.next().await.unwrap().unwrap(), "a");
    add(2, says(&["a", "b"])).await;
    assert_eq!(response.next().await.unwrap().unwrap(), "b");
    let text = recorder.handle().render();
    let line = "streams_continued_total{why=\"lost\"} 1";
    assert!(text.lines().any(|shown| shown == line), "{text}");
}
