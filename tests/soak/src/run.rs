//! The run: starts the processes and the proxies in front of the workers, watches, and judges.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use sinew::Address;
use sinew_testkit::{Cut, Cuts, CuttingProxy, Listen, any_seed};
use tokio::{sync::watch, task::JoinHandle, time};

use crate::{
    caller::Told,
    content::MEAN_FRAME_BYTES,
    memory::Memory,
    part::Part,
    report::{self, Group},
};

/// The lengths of a run of five minutes; a shorter one has proportionally fewer items.
const WHOLE: Duration = Duration::from_secs(300);
/// Streams have this part of the run, so that a loss near the end finds time to be worked on.
const STREAMING: f64 = 0.75;
/// The part of the run after which all workers are replaced: early, so that the memory of the new
/// ones is seen for long.
const REPLACED_AFTER: f64 = 0.12;
/// How long a worker may take to end.
const ENDED_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks at everybody.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Between two lines of progress.
const SAY_EVERY: Duration = Duration::from_secs(5);
/// Beside the length of the run, for all that a loaded machine delays.
const PATIENCE: Duration = Duration::from_secs(60);

/// Run streams over connections that are cut, and check every item
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// About how long the run takes
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// The seed of the items and the cuts [default: another one each time]
    #[arg(long)]
    seed: Option<u64>,
}

/// Streams that share workers, callers and the way in which connections are cut.
struct Plan {
    name: &'static str,
    endpoint: &'static str,
    workers: usize,
    callers: u64,
    streams_each: u64,
    /// In a whole run.
    items: u64,
    cut_every: u64,
    ways: Vec<Cut>,
    /// Its workers are replaced during the run, and its streams are moved between transports.
    rolls: bool,
}

/// The part of the run after which all streams are moved from one transport to the other and back,
/// how often, and to which. Soon after each other: a stream whose connection is cut may go on over
/// either transport.
const FORCED_AFTER: f64 = 0.35;
const FORCED_MOVES: usize = 6;
const FORCED_TO: [&str; 2] = ["tcp", "unix"];

fn plans() -> [Plan; 2] {
    let in_turn = [Cut::Fin, Cut::Reset];
    // One in twenty: of about a thousand cuts, fifty.
    let mut ways: Vec<_> = in_turn.iter().copied().cycle().take(19).collect();
    ways.insert(9, Cut::Silence);
    [
        Plan {
            name: "many",
            endpoint: "soak/many/count",
            workers: 3,
            callers: 2,
            streams_each: 100,
            items: 10_000,
            cut_every: 2_000,
            ways,
            rolls: true,
        },
        Plan {
            name: "one",
            endpoint: "soak/one/count",
            workers: 1,
            callers: 1,
            streams_each: 1,
            items: 100_000,
            cut_every: 50,
            ways: in_turn.to_vec(),
            rolls: false,
        },
    ]
}

/// The processes of one plan.
struct Fleet {
    plan: Plan,
    seed: u64,
    folder: String,
    items: u64,
    workers: Vec<Part>,
    callers: Vec<Part>,
    told: Vec<(watch::Receiver<Told>, JoinHandle<()>)>,
    proxies: Vec<CuttingProxy>,
    cuts: Vec<Cut>,
    /// Workers that were replaced.
    replaced: usize,
    /// Moves to another transport that were asked for.
    forced: usize,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    if !(0.05..=600.0).contains(&options.minutes) {
        bail!("--minutes must be from 0.05 to 600");
    }
    let seed = options.seed.unwrap_or_else(any_seed);
    let length = Duration::from_secs_f64(options.minutes * 60.0);
    println!("seed {seed}; about {} s", length.as_secs());
    let folder = tempfile::tempdir()?;
    let begun = Instant::now();
    let mut fleets = Vec::new();
    for (number, plan) in (0..).zip(plans()) {
        let seed = seed.wrapping_add(number);
        fleets.push(Fleet::start(plan, folder.path(), seed, length).await?);
    }
    let streaming = begun.elapsed();
    let mut own = Memory::default();
    watch(&mut fleets, &mut own, begun, length).await?;
    let ran = (streaming, begun.elapsed());
    let groups: Vec<_> = fleets.iter().map(Fleet::group).collect();
    let parts = fleets.iter().flat_map(|fleet| fleet.workers.iter().chain(&fleet.callers));
    let mut memories: Vec<_> = parts.map(|part| (part.name.clone(), &part.memory)).collect();
    memories.push(("proxies".to_owned(), &own));
    let (table, mut faults) = report::table(&groups, &memories, ran);
    println!("\n{table}");
    for fleet in fleets {
        faults.extend(fleet.end().await);
    }
    if !faults.is_empty() {
        bail!("seed {seed}: {} faults\n  {}", faults.len(), faults.join("\n  "));
    }
    println!("seed {seed}: every item once and in order, every stream complete, memory flat");
    Ok(())
}

impl Fleet {
    async fn start(plan: Plan, folder: &Path, seed: u64, length: Duration) -> Result<Self> {
        let part = length.as_secs_f64() / WHOLE.as_secs_f64();
        let items = ((plan.items as f64 * part) as u64).max(plan.cut_every);
        let pace = length.mul_f64(STREAMING) / u32::try_from(items)?;
        let folder = folder.display().to_string();
        let (callers, told) = (Vec::new(), Vec::new());
        let (workers, proxies, cuts) = (Vec::new(), Vec::new(), Vec::new());
        let mut fleet = Self {
            plan,
            seed,
            folder,
            items,
            workers,
            callers,
            told,
            proxies,
            cuts,
            replaced: 0,
            forced: 0,
        };
        for number in 0..fleet.plan.workers {
            fleet.add_worker(number).await?;
        }
        fleet.add_callers(pace)?;
        Ok(fleet)
    }

    /// Starts a worker, and the proxies in front of it.
    async fn add_worker(&mut self, number: usize) -> Result<()> {
        let Self { plan, seed, folder, .. } = &*self;
        let (name, endpoint) = (plan.name, plan.endpoint);
        let listen = free_address()?;
        let cuts = Cuts {
            seed: seed.wrapping_add(number as u64),
            mean_bytes: Some(plan.cut_every * MEAN_FRAME_BYTES),
            ways: plan.ways.clone(),
        };
        let target = Address::tcp(listen);
        let proxy = CuttingProxy::start(Listen::loopback(), target.clone(), cuts.clone()).await?;
        let listen = listen.to_string();
        let mut options = vec![
            ("--folder", folder.as_str()),
            ("--endpoint", endpoint),
            ("--listen", &listen),
            ("--advertise", proxy.address().rest()),
        ];
        let over_unix = match plan.rolls {
            true => {
                let listen = Listen::Unix(Path::new(folder).join(format!("{name}-{number}.sock")));
                Some(CuttingProxy::start(listen, target, cuts).await?)
            }
            false => None,
        };
        options.extend(over_unix.iter().map(|proxy| ("--also", proxy.address().as_str())));
        let options = options.into_iter().flat_map(|(name, value)| [name, value]);
        let arguments: Vec<_> =
            std::iter::once("worker").chain(options).map(str::to_owned).collect();
        let mut worker = Part::start(format!("worker {name} {number}"), &arguments)?;
        // What replaces another one serves before that one ends.
        worker.serving().await?;
        self.workers.push(worker);
        self.proxies.push(proxy);
        self.proxies.extend(over_unix);
        Ok(())
    }

    /// Replaces all workers, one after the other: the new one starts first, and the old one hands its
    /// streams over.
    async fn roll(&mut self) -> Result<()> {
        let count = self.plan.workers;
        for number in 0..count {
            self.add_worker(count + number).await?;
            let old = self.workers.remove(0);
            old.end_within(ENDED_WITHIN).await?;
            self.replaced += 1;
        }
        Ok(())
    }

    /// Moves all streams to the next transport, if it is time.
    async fn force_moves(&mut self, part: f64) -> Result<()> {
        if self.plan.rolls && part > FORCED_AFTER && self.forced < FORCED_MOVES {
            let to = FORCED_TO[self.forced % FORCED_TO.len()];
            for caller in &mut self.callers {
                caller.say(to).await?;
            }
            self.forced += 1;
        }
        Ok(())
    }

    fn add_callers(&mut self, pace: Duration) -> Result<()> {
        let Self { plan, seed, folder, items, .. } = &*self;
        let (mut callers, mut told) = (Vec::new(), Vec::new());
        for number in 0..plan.callers {
            let arguments = [
                ("--folder", folder.clone()),
                ("--endpoint", plan.endpoint.to_owned()),
                ("--first", (number * plan.streams_each).to_string()),
                ("--streams", plan.streams_each.to_string()),
                ("--items", items.to_string()),
                ("--pace-micros", pace.as_micros().to_string()),
                ("--seed", seed.to_string()),
            ];
            let arguments = arguments.into_iter().flat_map(|(name, value)| [name.into(), value]);
            let arguments: Vec<_> = std::iter::once("call".to_owned()).chain(arguments).collect();
            let mut caller = Part::start(format!("caller {} {number}", plan.name), &arguments)?;
            told.push(caller.reports()?);
            callers.push(caller);
        }
        (self.callers, self.told) = (callers, told);
        Ok(())
    }

    fn look(&mut self, at: Duration) -> Result<()> {
        for part in self.workers.iter_mut().chain(&mut self.callers) {
            if let Some(process) = part.process() {
                part.memory.sample(at, process);
            }
        }
        for worker in &mut self.workers {
            if worker.is_gone() {
                bail!("{} is gone", worker.name);
            }
        }
        let logs = self.proxies.iter().flat_map(CuttingProxy::take_log);
        self.cuts.extend(logs.map(|cut| cut.how));
        Ok(())
    }

    /// All callers have ended, well or not.
    fn is_over(&mut self) -> bool {
        let read = self.told.iter().all(|(_, reading)| reading.is_finished());
        read && self.callers.iter_mut().all(Part::is_gone)
    }

    fn told(&self) -> Vec<Told> {
        self.told.iter().map(|(told, _)| told.borrow().clone()).collect()
    }

    fn progress(&self) -> String {
        let told = self.told();
        let sum = |of: fn(&Told) -> u64| told.iter().map(of).sum::<u64>();
        let streams = self.plan.callers * self.plan.streams_each;
        format!(
            "{}: {}/{streams} ended, {} of {} items, {} cuts, {} workers replaced",
            self.plan.name,
            sum(|told| told.ended),
            sum(|told| told.items),
            streams * self.items,
            self.cuts.len(),
            self.replaced
        )
    }

    fn group(&self) -> Group {
        Group {
            name: self.plan.name,
            streams: self.plan.callers * self.plan.streams_each,
            items: self.items,
            cut_every: self.plan.cut_every,
            told: self.told(),
            cuts: self.cuts.clone(),
            rolls: self.plan.rolls,
            forced: if self.plan.rolls { FORCED_MOVES } else { 0 },
            replaced: self.replaced,
        }
    }

    /// Ends the workers; what went wrong with a process.
    async fn end(self) -> Vec<String> {
        let mut faults = Vec::new();
        for part in self.callers.into_iter().chain(self.workers) {
            faults.extend(part.end().await.err().map(|error| format!("{error:#}")));
        }
        faults
    }
}

/// Looks at everybody until all streams have ended.
async fn watch(
    fleets: &mut [Fleet],
    own: &mut Memory,
    begun: Instant,
    length: Duration,
) -> Result<()> {
    let limit = length + PATIENCE;
    let mut looks = time::interval(LOOK_EVERY);
    let mut said = begun;
    loop {
        looks.tick().await;
        let at = begun.elapsed();
        own.sample(at, std::process::id());
        for fleet in &mut *fleets {
            fleet.look(at)?;
        }
        for fleet in &mut *fleets {
            if fleet.plan.rolls && fleet.replaced == 0 && at > length.mul_f64(REPLACED_AFTER) {
                fleet.roll().await?;
            }
            fleet.force_moves(at.as_secs_f64() / length.as_secs_f64()).await?;
        }
        if said.elapsed() >= SAY_EVERY {
            said = Instant::now();
            let progress: Vec<_> = fleets.iter().map(Fleet::progress).collect();
            println!("{:>4} s  {}", at.as_secs(), progress.join("; "));
        }
        if fleets.iter_mut().all(Fleet::is_over) {
            return Ok(());
        }
        if at > limit {
            let progress: Vec<_> = fleets.iter().map(Fleet::progress).collect();
            bail!("not over after {} s: {}", at.as_secs(), progress.join("; "));
        }
    }
}

/// An address of loopback that is free now.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("finding a free port")?;
    Ok(listener.local_addr()?)
}
