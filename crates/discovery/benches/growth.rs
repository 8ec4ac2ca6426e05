//! How long it takes to announce many instances, and what they cost while nothing happens.
//!
//! ```text
//! cargo bench -p sinew-discovery --all-features --bench growth              # a folder
//! cargo bench -p sinew-discovery --all-features --bench growth -- HOST:PORT # etcd
//! ```
//!
//! The announcing process also watches, as every `Runtime` does; the watching one is a process of
//! its own. CPU time is that of the whole process, in percent of one core.

#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::{
    env,
    error::Error,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use sinew_discovery::{Discovery, FileDiscovery, Instance, View, host_id};
#[cfg(feature = "etcd")]
use sinew_discovery::{EtcdConfig, EtcdDiscovery};
use sinew_plane::{EndpointName, InstanceId, ProcessId};
use tokio::task::JoinSet;

const SIZES: [u64; 3] = [200, 2_000, 10_000];

/// Long enough for two heartbeats and four scans, whatever their moment.
const IDLE: Duration = Duration::from_secs(10);

/// What the watching process is given.
const WATCH: &str = "SINEW_BENCH_WATCH";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Result<()> {
    if let Ok(size) = env::var(WATCH) {
        let place = env::args().nth(1).ok_or("no place")?;
        return watch(open(&place).await?, size.parse()?).await;
    }
    // Cargo's own arguments begin with a dash.
    let etcd = env::args().skip(1).find(|argument| !argument.starts_with('-'));
    println!("instances  announced  each      idle   watcher  first view");
    for size in SIZES {
        let folder = Folder::new()?;
        let place = etcd
            .as_ref()
            .map_or(format!("file:{}", folder.0.display()), |members| format!("etcd:{members}"));
        row(&place, size).await?;
    }
    Ok(())
}

async fn row(place: &str, size: u64) -> Result<()> {
    let discovery = open(place).await?;
    let _view = view(&*discovery).await?;
    let begun = Instant::now();
    // As they come: whoever waits for each needs one answer of etcd for each.
    let mut under_way = JoinSet::new();
    for id in 0..size {
        let (discovery, instance) = (Arc::clone(&discovery), instance(id)?);
        under_way.spawn(async move { discovery.register(instance).await });
    }
    let mut registrations = Vec::new();
    while let Some(registered) = under_way.join_next().await {
        registrations.push(registered??);
    }
    let announced = begun.elapsed();
    settle().await;
    let idle = idle().await?;
    let watcher = Command::new(env::current_exe()?)
        .arg(place)
        .env(WATCH, size.to_string())
        .stdout(Stdio::piped())
        .spawn()?;
    let watcher = tokio::task::spawn_blocking(move || watcher.wait_with_output()).await??;
    let watcher = String::from_utf8(watcher.stdout)?;
    let each = announced.as_secs_f64() * 1e6 / size as f64;
    let announced = announced.as_secs_f64();
    println!("{size:9}  {announced:7.2} s  {each:4.0} us  {idle:6.2} %  {}", watcher.trim_end());
    let mut under_way = JoinSet::new();
    for registration in registrations {
        under_way.spawn(registration.withdraw());
    }
    while let Some(withdrawn) = under_way.join_next().await {
        withdrawn??;
    }
    discovery.shutdown().await;
    Ok(())
}

/// Sees all, and then nothing new.
async fn watch(discovery: Arc<dyn Discovery>, size: usize) -> Result<()> {
    let begun = Instant::now();
    let mut view = view(&*discovery).await?;
    while view.snapshot().len() < size {
        view.changed().await.ok_or("the view has ended")?;
    }
    let first = begun.elapsed().as_secs_f64();
    settle().await;
    let idle = idle().await?;
    println!("{idle:6.2} %  {first:8.2} s");
    Ok(())
}

async fn open(place: &str) -> Result<Arc<dyn Discovery>> {
    match place.split_once(':') {
        Some(("file", folder)) => Ok(Arc::new(FileDiscovery::open(folder)?)),
        #[cfg(feature = "etcd")]
        Some(("etcd", members)) => {
            Ok(Arc::new(EtcdDiscovery::connect(EtcdConfig::new(members.split(','))).await?))
        }
        _ => Err(format!("{place:?} is no place of this build").into()),
    }
}

async fn view(discovery: &dyn Discovery) -> Result<View> {
    let wanted = discovery.want(&endpoint()?);
    Ok(discovery.watch().await?.holding(wanted))
}

fn endpoint() -> Result<EndpointName> {
    Ok("bench/growth/work".parse()?)
}

fn instance(id: u64) -> Result<Instance> {
    let here = vec!["tcp://127.0.0.1:9001".parse()?];
    let instance = Instance::new(endpoint()?, InstanceId(id), here);
    Ok(Instance {
        host: host_id(),
        process: Some(ProcessId(std::process::id().into())),
        ..instance
    })
}

/// Lets what was just done be seen everywhere.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(2)).await;
}

/// Percent of a core that this process takes while nothing happens.
async fn idle() -> Result<f64> {
    let before = cpu_time();
    tokio::time::sleep(IDLE).await;
    let taken = cpu_time() - before;
    Ok(100.0 * taken.as_secs_f64() / IDLE.as_secs_f64())
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A folder that goes with the value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = env::temp_dir().join(format!("sinew-growth-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(Path::new(&self.0));
    }
}
