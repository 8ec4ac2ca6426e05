//! A client in another language, written from docs/protocol.md alone, resumes over cut connections.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io,
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use bytes::Bytes;
use sinew::{
    Address, Context, DiscoverySource, EndpointName, ResponseSink, Runtime, Served, push_engine_fn,
};
use sinew_testkit::{Cut, Cuts, CuttingProxy, Listen, Way, payload::patterned, until, within};
use tokio::{process::Command, sync::mpsc, task::JoinHandle};

/// Longer than the wait for one event: some hundred cuts are made meanwhile.
const LIMIT: Duration = Duration::from_secs(60);

fn name() -> EndpointName {
    "tests/python/count".parse().unwrap()
}

/// Every hundredth is longer than a frame can be, some are empty.
fn item(number: u64) -> Bytes {
    let length = if number % 100 == 50 { 70_000 + number } else { number * 37 % 300 };
    patterned(length as usize, number)
}

/// A client that runs, and is ended with the test.
type Client = JoinHandle<io::Result<Output>>;

/// A worker that hands each request and its sink to the test.
struct Worker {
    calls: mpsc::Receiver<(Bytes, Context, ResponseSink)>,
    served: Served,
    runtime: Runtime,
    _folder: tempfile::TempDir,
}

impl Worker {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = DiscoverySource::File(folder.path().to_path_buf());
        let only_tcp = |config: &mut sinew::Config| config.unix = false;
        let runtime =
            Runtime::builder().discovery(source).configure(only_tcp).build().await.unwrap();
        let (give, calls) = mpsc::channel(16);
        let engine = push_engine_fn(move |request, sink| {
            let (body, context) = request.into_parts();
            give.try_send((body, context, sink)).map_err(|refused| {
                let error = sinew::Error::new(sinew::Code::Overloaded, "the test takes no more");
                Box::new((error, refused.into_inner().2))
            })
        });
        let served = runtime.serve_named(name()).push_engine(engine).await.unwrap();
        Self { calls, served, runtime, _folder: folder }
    }

    async fn call(&mut self) -> (Bytes, Context, ResponseSink) {
        within("the request", self.calls.recv()).await.unwrap()
    }

    /// A way to it that is cut.
    async fn proxy(&self, cuts: Cuts) -> CuttingProxy {
        let client = self.runtime.client(name());
        client.wait_for_instances(Duration::from_secs(20)).await.unwrap();
        let addresses = client.instances().remove(0).addresses.clone();
        let is_tcp = |address: &&Address| address.scheme() == "tcp";
        let target = addresses.iter().find(is_tcp).unwrap().clone();
        CuttingProxy::start(Listen::loopback(), target, cuts).await.unwrap()
    }

    /// The client, which asks for the items that its body names.
    fn ask(&self, proxy: &CuttingProxy, body: &str, options: &[&str]) -> Client {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/resuming_client.py");
        let client = Command::new("python3")
            .arg(script)
            .args([proxy.address().rest(), name().as_str()])
            .args([&self.served.instance().to_string(), body])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{error}: python3 is needed; `cargo xtask test` installs it or says how")
            });
        // Read from the beginning, because the client waits when nobody takes what it prints.
        tokio::spawn(client.wait_with_output())
    }
}

/// Sends the items of these numbers.
async fn send(sink: &mut ResponseSink, numbers: std::ops::Range<u64>) {
    for number in numbers {
        tokio::time::timeout(LIMIT, sink.send(item(number))).await.unwrap().unwrap();
    }
}

/// What the client has printed, and what it says of the stream.
struct Told {
    items: Vec<Bytes>,
    end: serde_json::Value,
}

async fn ended(client: Client) -> Told {
    let output = tokio::time::timeout(LIMIT, client).await.unwrap().unwrap();
    let Output { stdout, stderr, .. } = output.unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    let last = stderr.lines().last().unwrap_or_default();
    let end = serde_json::from_str(last).unwrap_or_else(|_| panic!("the client failed: {stderr}"));
    Told { items: stdout.lines().map(from_hex).collect(), end }
}

fn from_hex(line: &str) -> Bytes {
    let byte = |at| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
    (0..line.len()).step_by(2).map(byte).collect()
}

impl Told {
    /// The items are those of 0 to `count`, each once and in order.
    fn check(&self, outcome: &str, count: u64) {
        assert_eq!(self.end["outcome"], outcome, "{}", self.end);
        assert_eq!(self.end["items"], count, "{}", self.end);
        assert_eq!(self.items.len() as u64, count);
        for (number, got) in (0..).zip(&self.items) {
            assert!(*got == item(number), "item {number} is another one");
        }
    }

    fn attaches(&self) -> u64 {
        self.end["attaches"].as_u64().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_has_every_item_once_although_its_connections_are_cut() {
    let mut worker = Worker::start().await;
    let seed = sinew_testkit::any_seed();
    println!("seed {seed}");
    // Each connection may pass the largest item, and about every second one does not.
    let proxy = worker.proxy(Cuts::every(50_000, seed)).await;
    let client = worker.ask(&proxy, "please", &[]);
    let (body, _, mut sink) = worker.call().await;
    assert_eq!(body, "please");
    send(&mut sink, 0..3_000).await;
    sink.complete();
    let told = ended(client).await;
    told.check("complete", 3_000);
    assert!(told.attaches() >= 20, "only {} attaches", told.attaches());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_finds_a_connection_that_has_fallen_silent() {
    let mut worker = Worker::start().await;
    let proxy = worker.proxy(Cuts::when_told()).await;
    proxy.cut_next_after(5_000, Cut::Silence);
    let client = worker.ask(&proxy, "", &[]);
    let (_, _, mut sink) = worker.call().await;
    send(&mut sink, 0..100).await;
    sink.complete();
    let told = ended(client).await;
    told.check("complete", 100);
    assert_eq!(told.attaches(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_while_it_is_away_is_told_when_it_is_back() {
    let mut worker = Worker::start().await;
    let proxy = worker.proxy(Cuts::when_told()).await;
    let client = worker.ask(&proxy, "", &[]);
    let (_, _, mut sink) = worker.call().await;
    send(&mut sink, 0..10).await;
    let made = proxy.made();
    proxy.hold();
    proxy.cut_after(0, Cut::Fin);
    until("the client to come back", || proxy.made() > made).await;
    send(&mut sink, 10..40).await;
    sink.fail(sinew::Error::new(sinew::Code::HandlerFailed, "on purpose"));
    proxy.release();
    let told = ended(client).await;
    told.check("failed", 40);
    assert_eq!(told.end["code"], 301);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_cancel_reaches_the_handler() {
    let mut worker = Worker::start().await;
    let proxy = worker.proxy(Cuts::every(2_000, 5)).await;
    let client = worker.ask(&proxy, "", &["--cancel-after", "30"]);
    let (_, context, mut sink) = worker.call().await;
    send(&mut sink, 0..30).await;
    within("the cancel", context.killed()).await;
    drop(sink);
    ended(client).await.check("cancelled", 30);
}

/// Another process at the address has none of the streams: what came is a true prefix, and is called
/// that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_gone_leaves_it_with_a_prefix() {
    let (mut first, second) = (Worker::start().await, Worker::start().await);
    let proxy = first.proxy(Cuts::when_told()).await;
    let client = first.ask(&proxy, "", &[]);
    let (_, _, mut sink) = first.call().await;
    send(&mut sink, 0..20).await;
    // Behind its last byte, so that what it has is known.
    until("its items to arrive", || proxy.passed() > (0..20).map(|n| item(n).len() as u64).sum())
        .await;
    let other = second.proxy(Cuts::when_told()).await;
    proxy.retarget(other.address().clone());
    proxy.cut_after(0, Cut::Fin);
    let told = ended(client).await;
    told.check("truncated", 20);
    assert_eq!(told.end["received"], 20);
}
