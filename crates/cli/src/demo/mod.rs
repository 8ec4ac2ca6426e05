//! `sinew demo`: three workers, 300 requests, one SIGKILL, and what became of each request; then
//! streams that outlive their connections and their workers.

mod caller;
mod cutter;
mod fleet;
mod load;
mod progress;
mod survival;
mod tally;
mod verdict;
mod words;
pub(crate) mod worker;

use std::{path::PathBuf, time::Duration};

use clap::Args;
use sinew::{Config, DiscoverySource, EndpointName};
use sinew_telemetry::console::tell;
use tokio::io::AsyncWriteExt;

use self::{
    caller::Caller,
    fleet::Fleet,
    load::{Load, REQUESTS},
    progress::Progress,
    survival::Survival,
    tally::Tally,
    words::Text,
};
use crate::{
    exit::{Exit, Failure},
    settings,
    signals::Interrupts,
    terminal,
};

/// Try it: three workers, 300 requests, and a worker that is killed half-way.
///
/// Starts three worker processes that stream the words of FILE back with their positions, and
/// sends them 300 requests, 1 to 64 at once. Half-way one worker is killed with SIGKILL: its streams
/// end as truncated. What follows goes through a router that was told three addresses and not of the
/// kill: it asks the dead worker, is refused, and fails over. Every response is compared with FILE.
///
/// In the second half 200 streams run while every connection is cut twice and all three workers are
/// replaced; their endpoint attaches checkpoints. Each half ends with a table, and the exit code is 1
/// if anything was lost silently, or a stream of the second half did not come whole.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Whose words are streamed. Default: README.md of the current folder.
    file: Option<PathBuf>,
}

/// Runs the demo.
pub(crate) async fn run(args: DemoArgs) -> Result<Exit, Failure> {
    let mut interrupts = Interrupts::new()?;
    tokio::select! {
        biased;
        result = show(args) => result,
        // Dropping the workers kills them.
        () = interrupts.next() => Ok(Exit::Cancelled),
    }
}

async fn show(args: DemoArgs) -> Result<Exit, Failure> {
    let Text { text, source } = Text::load(args.file.as_deref())?;
    let words = words::split(&text);
    let dir = tempfile::tempdir()
        .map_err(|error| Failure::new(Exit::Failed, format!("no temporary folder: {error}")))?;
    let text_file = dir.path().join("text");
    std::fs::write(&text_file, &text)
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot keep the text: {error}")))?;
    let place = dir.path().join("discovery");
    let name = EndpointName::new("demo", "words", "stream")
        .map_err(|error| Failure::caused(Exit::Failed, &error))?;

    let discovery = DiscoverySource::File(place.clone());
    let runtime = settings::start(Config { discovery, ..Config::default() }, &|_| {}).await?;
    let client = runtime.client(name.clone());
    let count = words.len();
    tell(&format!("three workers stream the {count} words of {source} with their positions"));
    let fleet = Fleet::start(&name, &place, &text_file, &client).await?;
    let (second, told) = Caller::with_addresses(&name, &client).await?;
    let callers = [Caller::discovering(client).await?, second];
    let load = Load::new(callers, words.clone(), fleet, Progress::new(REQUESTS));
    let (tally, fleet, took) = load.run().await?;
    let width = terminal::width();
    say(&format!("{}{}", tally.report(took, width), tally.meaning(width))).await;
    fleet.end().await;
    told.shutdown(Duration::from_secs(1)).await;
    runtime.shutdown(Duration::from_secs(1)).await;
    let survival = survival::run(&name, &dir.path().join("second"), &text_file, &words).await?;
    say(&survival.report()).await;
    Ok(conclude(&tally, &survival))
}

async fn say(report: &str) {
    let mut stdout = tokio::io::stdout();
    // What became of the requests does not depend on who reads of it.
    if stdout.write_all(report.as_bytes()).await.is_ok() {
        let _ = stdout.flush().await;
    }
}

fn conclude(tally: &Tally, survival: &Survival) -> Exit {
    if tally.total.lost > 0 || !survival.is_whole() { Exit::Failed } else { Exit::Complete }
}
