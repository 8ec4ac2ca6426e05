//! Each workload on each peer, with few streams and for a moment: does the benchmark work?
//! Client and server share this process, so the numbers mean nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step fails the test")]

use std::{fs, process::Command, time::Duration};

use sinew_benches::{Contestant, Host, Pace, Sample, Shape, Workload, builtin};

/// Generous: the workloads below take a fraction of a second each.
const GUARD: Duration = Duration::from_secs(60);

async fn measure(peer: &dyn Contestant, shape: Shape) -> Sample {
    let workload = Workload { name: "smoke", shape };
    let pace = Pace { warm_up: Duration::from_millis(5), measured: Duration::from_millis(300) };
    let mut server: Box<dyn Host> = peer.host().await.unwrap();
    let addresses = [server.address()];
    let run = peer.measure(&workload, pace, &addresses, &mut server);
    let sample = tokio::time::timeout(GUARD, run).await.expect("it hangs").unwrap();
    drop(server);
    sample
}

async fn expect(shape: Shape, metrics: &[&str]) {
    let workload = Workload { name: "smoke", shape };
    for peer in builtin().iter().filter(|peer| peer.runs(&workload)) {
        let sample = measure(&**peer, shape).await;
        for metric in metrics {
            let value = sample.get(metric);
            assert!(value.is_some_and(|value| value > 0.0), "{} {metric}: {value:?}", peer.name());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unary_calls_are_answered() {
    expect(Shape::Unary { callers: 1, bytes: 128 }, &["p50_us", "p99_us", "per_second", "cpu_us"])
        .await;
    expect(Shape::Unary { callers: 8, bytes: 128 }, &["per_second"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_come_back_whole() {
    expect(Shape::Unary { callers: 2, bytes: 1 << 20 }, &["mib_per_second"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_bring_all_their_items() {
    // More items than a window, so that the producer has to wait for credit.
    let shape = Shape::Stream { callers: 3, items: 3000 };
    expect(shape, &["items_per_second", "first_p50_us", "cpu_ns"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_reach_every_stream_in_few_writes() {
    let every = Some(Duration::from_millis(2));
    let shape = Shape::Passes { engines: 1, callers: 2, streams: 32, every };
    expect(shape, &["items_per_second", "cpu_ns", "last_p50_us"]).await;
    for name in ["raw-mux", "raw-muxi", "sinew-tcp", "sinew-uds"] {
        let peers = builtin();
        let peer = peers.iter().find(|peer| peer.name() == name).unwrap();
        let sample = measure(&**peer, shape).await;
        assert!(sample.get("items_per_write") > Some(1.0), "{}: {sample:?}", peer.name());
    }
    expect(
        Shape::Passes { engines: 1, callers: 2, streams: 32, every: None },
        &["items_per_second"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paced_items_arrive_at_their_pace() {
    let shape = Shape::Paced { streams: 8, every: Duration::from_millis(10) };
    expect(shape, &["deviation_p99_us", "cpu_us", "items_percent"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_clients_are_answered() {
    expect(Shape::Connect, &["p50_us", "p99_us", "cpu_us"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_does_not_stop_the_fast() {
    for peer in builtin().iter().filter(|peer| peer.name().starts_with("sinew")) {
        let sample = measure(&**peer, Shape::Slow { callers: 4 }).await;
        assert!(sample.get("kept_percent") > Some(0.0), "{}: {sample:?}", peer.name());
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_streams_are_held() {
    let shape = Shape::Idle { streams: 300 };
    for peer in builtin().iter().filter(|peer| peer.runs(&Workload { name: "smoke", shape })) {
        let sample = measure(&**peer, shape).await;
        // So few streams may fit into memory that was there before.
        assert!(sample.get("client_bytes").is_some(), "{}", peer.name());
        assert!(sample.get("server_bytes").is_some(), "{}", peer.name());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pooled_call_home_shares_what_unpooled_makes_for_each_response() {
    let samples = |shape| async move {
        let peers = builtin();
        let split = |name| peers.iter().find(|peer| peer.name() == name).unwrap();
        let pooled = measure(&**split("sinew-split-pooled"), shape).await;
        (pooled, measure(&**split("sinew-split-single"), shape).await)
    };
    let (pooled, single) = samples(Shape::Unary { callers: 8, bytes: 128 }).await;
    assert!(pooled.get("pool_reuse_percent") > Some(90.0), "{pooled:?}");
    assert_eq!(pooled.get("response_connections"), Some(1.0), "{pooled:?}");
    assert_eq!(single.get("pool_reuse_percent"), None, "{single:?}");
    let (pooled, single) = samples(Shape::Idle { streams: 300 }).await;
    assert!(pooled.get("response_connections") <= Some(2.0), "{pooled:?}");
    assert!(single.get("response_connections") >= Some(300.0), "{single:?}");
}

#[test]
fn what_a_peer_cannot_carry_out_is_left_out() {
    let idle = |streams| Workload { name: "smoke", shape: Shape::Idle { streams } };
    for peer in builtin().iter().filter(|peer| peer.name() != "sinew-memory") {
        assert!(peer.runs(&idle(1_000)), "{}", peer.name());
        assert_eq!(peer.runs(&idle(10_000)), !peer.name().contains("split"), "{}", peer.name());
    }
}

/// The program itself: processes of their own, rounds, JSON, report.
#[test]
fn a_run_writes_its_samples_and_its_report() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sinew-bench"))
        .args(["--rounds", "3", "--millis", "50", "--json", "--workload", "unary-1"])
        .args(["--only", "raw-mux,sinew-tcp", "--out"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let samples: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(samples.len(), 6, "{lines}");
    assert!(samples.iter().all(|sample| sample["metrics"]["p50_us"].as_f64() > Some(0.0)));
    let report = fs::read_to_string(folder.path().join("benchmarks.md")).unwrap();
    // One target can be answered from this, and it is, whichever way.
    assert!(report.contains("at most 1.30 x raw-mux: "), "{report}");
    assert!(report.contains("--rounds 3 --millis 50 --only raw-mux,sinew-tcp"), "{report}");
    let plot = fs::read_to_string(folder.path().join("benchmarks.svg")).unwrap();
    assert!(plot.contains("sinew-tcp") && plot.ends_with("</svg>\n"));
}
