//! The time without items after a cut.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures_util::StreamExt;
use sinew::{Address, ManyOut, PushRouter, Runtime};
use sinew_testkit::{Cut, Cuts, CuttingProxy, Listen, Way};
use tokio::{process::Child, sync::mpsc, task::JoinSet};

use super::{
    Row, millis_since, nanos, router,
    server::{LANES, stamp},
};

/// How long one cut may take to be over.
const PATIENCE: Duration = Duration::from_secs(20);
/// Passes between two cuts.
const PASSES_BETWEEN: u32 = 10;
/// How long before a pass the connection is cut, so that an item is due while there is none.
const BEFORE_PASS: u64 = 300_000;

/// A worker behind a proxy, and a caller's router to it.
pub(super) struct Scene {
    pub(super) router: PushRouter<Bytes, Bytes>,
    pub(super) proxy: CuttingProxy,
    pub(super) folder: tempfile::TempDir,
    _runtime: Runtime,
    _worker: Child,
    /// The proxy has a thread of its own, as another process would.
    proxying: Option<tokio::runtime::Runtime>,
}

impl Scene {
    pub(super) async fn set(pass: Duration) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let listen = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let proxying =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let target = Address::tcp(listen);
        let start = CuttingProxy::start(Listen::loopback(), target, Cuts::when_told());
        let proxy = proxying.spawn(start).await??;
        let worker = tokio::process::Command::new(std::env::current_exe()?)
            .arg("gap-serve")
            .arg(folder.path())
            .args([&listen.to_string(), proxy.address().rest(), &pass.as_micros().to_string()])
            .stdin(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting the worker")?;
        let (runtime, router) = router(folder.path(), LANES).await?;
        let proxying = Some(proxying);
        Ok(Self { router, proxy, folder, _runtime: runtime, _worker: worker, proxying })
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // It must not wait for its tasks in here, which is another runtime.
        if let Some(proxying) = self.proxying.take() {
            proxying.shutdown_background();
        }
    }
}

/// From one pass to the next.
pub(super) fn pass_of(streams: usize) -> Duration {
    // As many items a second as one engine makes for that many streams, and the processors have room.
    Duration::from_millis(if streams == 1 { 2 } else { 20 })
}

pub(super) async fn measure(streams: usize, cuts: usize, how: Cut) -> Result<Row> {
    let pass = pass_of(streams);
    let scene = Scene::set(pass).await?;
    let lanes = Lanes::open(&scene.router, streams).await?;
    let mut millis = Vec::new();
    for _ in 0..cuts {
        tokio::time::sleep(pass * PASSES_BETWEEN).await;
        millis.extend(lanes.cut(&scene.proxy, how, pass).await?);
    }
    let name = if how == Cut::Fin { "FIN" } else { "RST" };
    let s = if streams == 1 { "stream" } else { "streams" };
    Ok(Row {
        what: format!("without items after a cut by {name}, {streams} {s}"),
        events: cuts,
        millis,
        targets: (Some(5.0), 20.0),
    })
}

/// Streams that are read by a task each.
pub(super) struct Lanes {
    streams: usize,
    shared: Arc<Shared>,
    gaps: tokio::sync::Mutex<mpsc::Receiver<f64>>,
    _readers: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    /// Which cut, and when it was ordered; 0 before the first.
    cut: AtomicU64,
    cut_at: AtomicU64,
    /// When the newest item was made that any stream has.
    newest: AtomicU64,
    ended: AtomicU64,
}

impl Lanes {
    pub(super) async fn open(router: &PushRouter<Bytes, Bytes>, streams: usize) -> Result<Self> {
        let shared = Arc::<Shared>::default();
        let (tell, gaps) = mpsc::channel(streams);
        let mut readers = JoinSet::new();
        for _ in 0..streams {
            let mut lane = router.generate(Bytes::new()).await?;
            // Each stream is live before the next one is opened.
            lane.next().await.context("a stream without items")??;
            readers.spawn(read(lane, Arc::clone(&shared), tell.clone()));
        }
        let gaps = tokio::sync::Mutex::new(gaps);
        Ok(Self { streams, shared, gaps, _readers: readers })
    }

    /// Cuts the connection shortly before a pass, and returns how long each stream had no item from
    /// then on, in milliseconds.
    async fn cut(&self, proxy: &CuttingProxy, how: Cut, pass: Duration) -> Result<Vec<f64>> {
        let shared = Arc::clone(&self.shared);
        let pass = pass.as_nanos() as u64;
        // A timer of tokio is not fine enough.
        tokio::task::spawn_blocking(move || {
            let due = shared.newest.load(Ordering::Relaxed) + pass;
            let now = nanos();
            let passes = now.saturating_sub(due - BEFORE_PASS).div_ceil(pass);
            let at = due + passes * pass - BEFORE_PASS;
            thread::sleep(Duration::from_nanos(at.saturating_sub(now)));
        })
        .await?;
        self.shared.cut_at.store(nanos(), Ordering::Relaxed);
        self.shared.cut.fetch_add(1, Ordering::Release);
        proxy.cut_after(0, how);
        let mut gaps = self.gaps.lock().await;
        let mut all = Vec::with_capacity(self.streams);
        let every = async {
            while all.len() < self.streams {
                all.extend(gaps.recv().await);
            }
        };
        if tokio::time::timeout(PATIENCE, every).await.is_err() {
            let ended = self.shared.ended.load(Ordering::Relaxed);
            bail!("{} of {} streams went on after a cut, {ended} ended", all.len(), self.streams);
        }
        Ok(all)
    }
}

/// Tells for each cut how long it took until the first item came that was made behind it.
async fn read(mut lane: ManyOut<Bytes>, shared: Arc<Shared>, gaps: mpsc::Sender<f64>) {
    let mut seen = 0;
    while let Some(Ok(item)) = lane.next().await {
        let made = stamp(&item);
        shared.newest.fetch_max(made, Ordering::Relaxed);
        let cut = shared.cut.load(Ordering::Acquire);
        if cut > seen {
            let at = shared.cut_at.load(Ordering::Relaxed);
            if made >= at {
                seen = cut;
                let _ = gaps.send(millis_since(at, nanos())).await;
            }
        }
    }
    shared.ended.fetch_add(1, Ordering::Relaxed);
}
