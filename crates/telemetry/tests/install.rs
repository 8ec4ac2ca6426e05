//! The recorder of the whole process: a test program of its own, as it can be installed once.

#![cfg(feature = "prometheus")]

use std::{net::SocketAddr, time::Duration};

use sinew_plane::{BindPolicy, Fault, TransportId};
use sinew_telemetry::{EndpointMetrics, Metrics, MetricsError, Side, TransportMetrics};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const GUARD: Duration = Duration::from_secs(30);

#[tokio::test]
async fn what_is_counted_after_the_installation_is_served() {
    let loopback: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let metrics = Metrics::install(loopback, BindPolicy::LoopbackOnly).await.unwrap();
    assert_ne!(metrics.address().port(), 0);

    let transport = TransportMetrics::new(&TransportId::from_static("tcp"), Side::Calling);
    let sent = transport.request();
    let _stream = transport.stream();
    transport.answered(sent);
    let endpoint = EndpointMetrics::new(&"a/b/c".parse().unwrap());
    endpoint.admitted(7).end(None);
    EndpointMetrics::unknown().refused(Fault::Resource);

    let text = get(metrics.address(), "/metrics").await.unwrap();
    for line in [
        "# HELP transport_requests_total Requests sent, or arrived",
        "# TYPE ingress_request_duration_seconds histogram",
        "transport_requests_total{transport=\"tcp\",side=\"calling\"} 1",
        "transport_request_latency_seconds_count{transport=\"tcp\",side=\"calling\"} 1",
        "transport_active_streams{transport=\"tcp\",side=\"calling\"} 1",
        "ingress_request_bytes_total{endpoint=\"a/b/c\"} 7",
        "ingress_request_duration_seconds_count{endpoint=\"a/b/c\"} 1",
        "ingress_errors_total{endpoint=\"unknown\",category=\"resource\"} 1",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} in\n{text}");
    }

    let second = Metrics::install(loopback, BindPolicy::LoopbackOnly).await;
    assert!(matches!(second, Err(MetricsError::AlreadyInstalled)));

    let address = metrics.address();
    timeout(GUARD, metrics.shutdown()).await.unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "the port is closed");
}

async fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    timeout(GUARD, stream.read_to_string(&mut answer)).await??;
    Ok(answer)
}
