//! A rolling restart under load: all workers of an endpoint are replaced, one after the other, while
//! callers open streams at an even rate.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use sinew_testkit::any_seed;
use tokio::{sync::watch, task::JoinHandle, time};

use crate::{caller::Told, check::Faults, part::Part, worker::Left};

const ENDPOINT: &str = "soak/roll/count";
const CALLERS: u64 = 2;
/// From one item of a stream to the next.
const PACE: Duration = Duration::from_millis(300);
/// A worker has so long for what nobody continues, and is gone within the limit.
const GRACE: Duration = Duration::from_secs(8);
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// Beside the length of two streams, for those that begin again at another worker.
const PATIENCE: Duration = Duration::from_secs(60);

/// Replace all workers, one after the other, under load
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[arg(long, default_value_t = 8)]
    workers: usize,
    /// Streams that are opened in a second
    #[arg(long, default_value_t = 100)]
    rate: u64,
    /// How long a stream is
    #[arg(long, default_value_t = 30)]
    stream_seconds: u64,
}

/// What came of one run.
struct Rolled {
    told: Told,
    left: Left,
    /// How long each worker took to end.
    ends: Vec<Duration>,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let seed = any_seed();
    let Options { workers, rate, stream_seconds } = options;
    println!("{workers} workers, {rate} streams of {stream_seconds} s a second, seed {seed}\n");
    println!(
        "{:11} {:>8} {:>9} {:>9} {:>6} {:>11} {:>5} {:>10} {:>13} {:>12}",
        "contract",
        "streams",
        "complete",
        "truncated",
        "errors",
        "handed over",
        "cut",
        "moves",
        "longest wait",
        "last to end"
    );
    let mut faults = Vec::new();
    for contract in ["checkpoint", "replayable", "none"] {
        let rolled = roll(options, contract, seed).await?;
        println!("{}", rolled.line(contract));
        faults.extend(rolled.faults(contract == "none").map(|it| format!("{contract}: {it}")));
    }
    if !faults.is_empty() {
        bail!("seed {seed}: {} faults\n  {}", faults.len(), faults.join("\n  "));
    }
    println!("\nno error that a contract rules out, and every worker gone in time");
    Ok(())
}

type Reading = (watch::Receiver<Told>, JoinHandle<()>);

async fn roll(options: &Options, contract: &str, seed: u64) -> Result<Rolled> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path().display().to_string();
    let mut workers = Vec::new();
    for number in 0..options.workers {
        workers.push(worker(&folder, contract, number).await?);
    }
    let mut callers = Vec::new();
    for number in 0..CALLERS {
        callers.push(caller(options, &folder, number, seed)?);
    }
    let length = Duration::from_secs(options.stream_seconds);
    // From then on as many streams run as ever will.
    time::sleep(length).await;
    let (mut left, mut ends) = (Left::default(), Vec::new());
    for number in 0..options.workers {
        workers.push(worker(&folder, contract, options.workers + number).await?);
        let (old, last) = workers.remove(0);
        ends.push(old.terminate(GONE_WITHIN * 2).await?);
        let one = last.await?;
        left.finished += one.finished;
        left.handed_over += one.handed_over;
        left.cut += one.cut;
    }
    callers.iter_mut().for_each(|(part, _)| part.close_input());
    let told = gather(callers, length * 2 + PATIENCE).await?;
    for (worker, _) in workers {
        worker.end().await?;
    }
    Ok(Rolled { told, left, ends })
}

async fn worker(folder: &str, contract: &str, number: usize) -> Result<(Part, JoinHandle<Left>)> {
    let grace = GRACE.as_millis().to_string();
    let arguments = [
        ["--folder", folder],
        ["--endpoint", ENDPOINT],
        ["--continuation", contract],
        ["--grace-millis", &grace],
    ];
    let mut part = start(format!("worker {number}"), "worker", &arguments)?;
    let last = part.serving().await?;
    Ok((part, last))
}

fn caller(options: &Options, folder: &str, number: u64, seed: u64) -> Result<(Part, Reading)> {
    let Options { rate, stream_seconds, .. } = options;
    let every = Duration::from_secs(CALLERS) / u32::try_from(*rate)?.max(1);
    let items = Duration::from_secs(*stream_seconds).as_millis() / PACE.as_millis();
    let number_of = |number: u128| number.to_string();
    let arguments = [
        ["--folder", folder],
        ["--endpoint", ENDPOINT],
        ["--first", &number_of(u128::from(number) << 32)],
        ["--every-micros", &number_of(every.as_micros())],
        ["--items", &number_of(items)],
        ["--pace-micros", &number_of(PACE.as_micros())],
        ["--seed", &seed.to_string()],
    ];
    let mut part = start(format!("caller {number}"), "load", &arguments)?;
    let reading = part.reports()?;
    Ok((part, reading))
}

fn start(name: String, what: &str, arguments: &[[&str; 2]]) -> Result<Part> {
    let arguments = std::iter::once(what).chain(arguments.iter().flatten().copied());
    let arguments: Vec<_> = arguments.map(str::to_owned).collect();
    Part::start(name, &arguments)
}

/// Waits for the callers to end, and puts together what they say.
async fn gather(callers: Vec<(Part, Reading)>, limit: Duration) -> Result<Told> {
    let until = Instant::now() + limit;
    let mut all = Told { is_over: true, ..Told::default() };
    for (part, (told, reading)) in callers {
        let name = part.name.clone();
        if time::timeout_at(until.into(), reading).await.is_err() {
            bail!("{name}: not over in time: {:?}", *told.borrow());
        }
        part.end().await?;
        let told = told.borrow();
        all.is_over &= told.is_over;
        all.ended += told.ended;
        all.truncated += told.truncated;
        all.moves += told.moves;
        all.longest_wait_millis = all.longest_wait_millis.max(told.longest_wait_millis);
        all.faults += told.faults;
        all.endings.extend(told.endings.iter().cloned());
    }
    Ok(all)
}

impl Rolled {
    /// Streams that ended neither as complete nor as truncated.
    fn errors(&self) -> u64 {
        self.told.faults.broken - self.told.truncated
    }

    fn line(&self, contract: &str) -> String {
        let Self { told, left, ends } = self;
        let errors = self.errors();
        let complete = told.ended - told.faults.broken;
        let last = ends.iter().max().copied().unwrap_or_default();
        format!(
            "{contract:11} {:>8} {complete:>9} {:>9} {errors:>6} {:>11} {:>5} {:>10} {:>10} ms {:>10.1} s",
            told.ended,
            told.truncated,
            left.handed_over,
            left.cut,
            told.moves,
            told.longest_wait_millis,
            last.as_secs_f64(),
        )
    }

    /// What the contract rules out, in words.
    fn faults(&self, may_truncate: bool) -> impl Iterator<Item = String> {
        let Self { told, left, ends } = self;
        let mut faults = Vec::new();
        if !told.is_over || told.ended == 0 {
            faults.push("not every stream has ended".to_owned());
        }
        let Faults { doubled, swapped, damaged, .. } = told.faults;
        if doubled + swapped + damaged > 0 {
            faults.push(format!("{:?}", told.faults));
        }
        if self.errors() > 0 {
            faults.push(format!("{} streams ended by an error", self.errors()));
        }
        if may_truncate && told.truncated != left.cut as u64 {
            let (truncated, cut) = (told.truncated, left.cut);
            faults.push(format!("{truncated} streams were truncated, and {cut} counted as cut"));
        }
        if !may_truncate && (told.truncated > 0 || left.cut > 0) {
            faults.push(format!("{} streams were truncated", told.truncated));
        }
        if !may_truncate && (told.faults.lost > 0 || told.moves == 0) {
            faults.push(format!("{} items lost, {} moves", told.faults.lost, told.moves));
        }
        if !faults.is_empty() {
            faults.extend(told.endings.iter().take(5).cloned());
        }
        let late = ends.iter().filter(|end| **end > GONE_WITHIN);
        faults.extend(late.map(|end| format!("a worker took {:.1} s to end", end.as_secs_f64())));
        faults.into_iter()
    }
}
