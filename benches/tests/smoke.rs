//! Each workload on each peer, with few streams and for a moment: does the benchmark work?
//! Client and server share this process, so the numbers mean nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step fails the test")]

use std::{collections::BTreeSet, fs, process::Command, time::Duration};

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
    let shape = Shape::Stream { callers: 3, items: 3000, item_bytes: 64 };
    expect(shape, &["items_per_second", "first_p50_us", "cpu_ns"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_reach_every_stream_in_few_writes() {
    let every = Some(Duration::from_millis(2));
    let shape = Shape::Passes { engines: 1, callers: 2, streams: 32, every, item_bytes: 64 };
    expect(shape, &["items_per_second", "cpu_ns", "last_p50_us"]).await;
    for name in ["raw-mux", "raw-muxi", "sinew-tcp", "sinew-uds"] {
        let peers = builtin();
        let peer = peers.iter().find(|peer| peer.name() == name).unwrap();
        let sample = measure(&**peer, shape).await;
        assert!(sample.get("items_per_write") > Some(1.0), "{}: {sample:?}", peer.name());
    }
    let shape = Shape::Passes { engines: 1, callers: 2, streams: 32, every: None, item_bytes: 64 };
    expect(shape, &["items_per_second"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn items_of_other_sizes_arrive_and_say_when_unless_they_are_too_short() {
    let every = Some(Duration::from_millis(2));
    for (item_bytes, is_timed) in [(1, false), (16, true), (4096, true)] {
        expect(Shape::Unary { callers: 2, bytes: item_bytes as usize }, &["per_second"]).await;
        expect(Shape::Stream { callers: 2, items: 256, item_bytes }, &["items_per_second"]).await;
        let shape = Shape::Passes { engines: 1, callers: 2, streams: 8, every, item_bytes };
        for peer in builtin().iter().filter(|it| it.runs(&Workload { name: "smoke", shape })) {
            let sample = measure(&**peer, shape).await;
            assert!(sample.get("items_per_second") > Some(0.0), "{}: {sample:?}", peer.name());
            let last = sample.get("last_p50_us");
            assert_eq!(last.is_some(), is_timed, "{} with {item_bytes} B", peer.name());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paced_items_arrive_at_their_pace() {
    let shape = Shape::Paced { streams: 8, every: Duration::from_millis(10), item_bytes: 64 };
    expect(shape, &["deviation_p99_us", "cpu_us", "items_percent"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_clients_are_answered() {
    expect(Shape::Connect, &["p50_us", "p99_us", "cpu_us"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_does_not_stop_the_fast() {
    for peer in builtin().iter().filter(|peer| peer.name().starts_with("sinew")) {
        let sample = measure(&**peer, Shape::Slow { callers: 4, item_bytes: 64 }).await;
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
    let special = ["sinew-memory", "sinew-local", "sinew-tcp-checked"];
    let is_special = |name: &str| special.contains(&name);
    for peer in builtin().iter().filter(|peer| !is_special(peer.name())) {
        assert!(peer.runs(&idle(1_000)), "{}", peer.name());
        assert_eq!(peer.runs(&idle(10_000)), !peer.name().contains("split"), "{}", peer.name());
    }
}

/// The program itself: processes of their own, rounds, JSON, report. Returns its samples and the
/// report.
fn run(arguments: &[&str]) -> (Vec<serde_json::Value>, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sinew-bench"))
        .args(["--rounds", "3", "--millis", "50", "--json", "--only", "raw-mux,sinew-tcp"])
        .args(arguments)
        .arg("--out")
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let samples = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let plot = fs::read_to_string(folder.path().join("benchmarks.svg")).unwrap();
    assert!(plot.contains("sinew-tcp") && plot.ends_with("</svg>\n"));
    (samples, fs::read_to_string(folder.path().join("benchmarks.md")).unwrap())
}

#[test]
fn a_run_writes_its_samples_and_its_report() {
    let (samples, report) = run(&["--workload", "unary-1"]);
    assert_eq!(samples.len(), 6, "{samples:?}");
    assert!(samples.iter().all(|sample| sample["metrics"]["p50_us"].as_f64() > Some(0.0)));
    // One target can be answered from this, and it is, whichever way.
    assert!(report.contains("at most 1.15 x raw-mux: "), "{report}");
    assert!(report.contains("others had "), "how busy the machine was: {report}");
    assert!(report.contains("--rounds 3 --millis 50 --only raw-mux,sinew-tcp"), "{report}");
    assert!(report.contains("On in every measured Sinew configuration"), "{report}");
}

#[test]
fn other_sizes_and_callers_have_an_order_and_no_targets() {
    let options = ["--item-bytes", "16", "--callers", "4", "--workload", "unary,stream"];
    let (samples, report) = run(&options);
    let names: BTreeSet<_> =
        samples.iter().map(|sample| sample["workload"].as_str().unwrap()).collect();
    assert_eq!(names, BTreeSet::from(["unary-4", "stream-4"]));
    assert!(report.contains("--item-bytes 16 --callers 4"), "{report}");
    assert!(report.contains("items of 16 B, bodies of unary calls of 16 B"), "{report}");
    assert!(report.contains("| Unary calls: 4 callers, requests per second | "), "{report}");
    assert!(!report.contains(": met") && !report.contains("missed"), "{report}");
}

#[test]
fn callers_of_a_forward_pass_are_processes_whose_figures_are_one() {
    let (samples, report) = run(&["--workload", "passes-two-paced"]);
    assert_eq!(samples.len(), 6, "{samples:?}");
    for sample in &samples {
        let metric = |name: &str| sample["metrics"][name].as_f64();
        // 256 items per 5 ms in all; what came late may add to it, another process may not.
        assert!(metric("items_per_second") < Some(256.0 * 200.0 * 3.0), "{sample}");
        assert!(metric("items_per_second") > Some(0.0), "{sample}");
        assert!(metric("last_p99_us") >= metric("last_p50_us"), "{sample}");
        assert!(metric("last_p50_us") > Some(0.0) && metric("cpu_ns") > Some(0.0), "{sample}");
        assert!(metric("client_writes_per_pass").is_some(), "of all clients: {sample}");
    }
    assert!(report.contains("Two engines paced, median time to the last item"), "{report}");
}
