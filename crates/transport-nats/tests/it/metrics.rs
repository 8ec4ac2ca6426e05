//! What the recorder of the process sees.

use std::time::Duration;

use futures_util::{FutureExt, future::join_all};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use sinew_transport_nats::{NatsConfig, metrics as names};

use crate::{
    handler::{Recorder, SUBJECT, send, serve},
    server::{GUARD, Server, connect, until},
};

fn shows(recorder: &PrometheusRecorder, line: &str) -> bool {
    recorder.handle().render().lines().any(|it| it == line)
}

#[tokio::test]
async fn breaks_of_the_connection_are_counted() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _local = metrics::set_default_local_recorder(&recorder);
    let mut server = Server::start();
    let connection = server.connect().await;
    for line in ["nats_disconnects_total 0", "nats_reconnects_total 0"] {
        assert!(shows(&recorder, line), "{line} in\n{}", recorder.handle().render());
    }
    for breaks in 1..=2 {
        server.kill();
        until("the break is noticed", async || !connection.is_connected()).await;
        server.run();
        until("it is counted", async || {
            shows(&recorder, &format!("nats_disconnects_total {breaks}"))
                && shows(&recorder, &format!("nats_reconnects_total {breaks}"))
        })
        .await;
    }
    let text = recorder.handle().render();
    assert!(text.contains("# HELP nats_reconnects_total Times"), "{text}");
}

#[tokio::test]
async fn refusals_and_the_queue_are_counted_for_each_endpoint() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _local = metrics::set_default_local_recorder(&recorder);
    let label = "{endpoint=\"ns1/backend/generate\"}";
    let server = Server::start();
    let connection = connect(NatsConfig { queue_limit: 1, ..server.config() }).await;
    // Asks in the midst of handing on what the queue holds.
    let handle = recorder.handle();
    let handler = Recorder::answering(move |_| {
        let queued = format!("{}{label} ", names::NATS_QUEUED);
        assert!(handle.render().contains(&queued));
        Ok(())
    });
    let endpoint = serve(&connection, &handler).await;
    assert!(shows(&recorder, &format!("nats_refusals_total{label} 0")));

    // One runtime thread: all fifty are sent before the endpoint runs.
    let answers = join_all((0..50).map(|_| send(&connection, "x"))).await;
    let refused = answers.iter().filter(|answer| answer.is_err()).count();
    assert!(refused > 0, "some did not fit a queue of one");
    assert!(shows(&recorder, &format!("nats_refusals_total{label} {refused}")));
    assert!(shows(&recorder, &format!("nats_queued_requests{label} 0")));

    // While it leaves, it refuses too.
    let mut draining = std::pin::pin!(endpoint.drain(GUARD));
    assert!(draining.as_mut().now_or_never().is_none());
    let late = send(&connection, "late");
    let (late, drained) = tokio::join!(late, draining);
    assert_eq!(drained, sinew_plane::Shutdown::default());
    late.unwrap_err();
    assert!(shows(&recorder, &format!("nats_refusals_total{label} {}", refused + 1)));

    // Nobody to answer.
    let (stranger, _) = server.listener("nobody").await;
    let endpoint = serve(&connection, &handler).await;
    stranger.publish(SUBJECT, "x".into()).await.unwrap();
    until("it is dropped", async || shows(&recorder, "nats_dropped_messages_total 1")).await;
    endpoint.drain(Duration::from_secs(5)).await;
}
