//! One workload on one peer in one round: client processes and server processes.

use std::{
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tokio::runtime::{Builder, Runtime};

use crate::{
    Contestant, Pace, Sample, Shape, Workload,
    consumers::{self, ConsumerProcesses},
    control::{self, Servers},
    workload::passes,
};

/// Worker threads of each process.
pub(crate) const WORKERS: usize = 2;

/// Longest time that a cell may take beside what it measures, for all that can wait in it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Status of a cell that did not come to its end in time.
const TOO_LATE: i32 = 3;

/// Runs a cell in a process of its own, so that neither memory nor threads of an earlier one are
/// left, and returns what it measured.
pub(crate) fn spawn(peer: &dyn Contestant, workload: &Workload, pace: Pace) -> Result<Sample> {
    let program = match peer.program() {
        Some(program) => program.to_owned(),
        None => std::env::current_exe().context("finding this program")?,
    };
    let peer = peer.name();
    let output = Command::new(program)
        .args(["cell", peer])
        .args([serde_json::to_string(workload)?, serde_json::to_string(&pace)?])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("starting the client")?;
    let cell = format!("{} on {peer}", workload.name);
    ensure!(output.status.success(), "{cell} failed: {}", output.status);
    serde_json::from_slice(&output.stdout).with_context(|| format!("the result of {cell}"))
}

/// The client side of a cell, in this process; the callers of a forward pass have processes of
/// their own, and this one tells them and the engines what to do.
pub(crate) fn run(peer: &dyn Contestant, workload: &Workload, pace: Pace) -> Result<Sample> {
    thread::spawn(move || {
        thread::sleep(PATIENCE + pace.warm_up + pace.measured);
        // The input of the others ends with this process, and with it they.
        std::process::exit(TOO_LATE);
    });
    runtime()?.block_on(async {
        let mut servers = Servers::start(peer.name(), workload.shape.engines()).await?;
        let addresses = servers.addresses();
        let sample = match workload.shape {
            Shape::Passes { callers, streams, .. } => {
                let name = peer.name();
                let mut consumers =
                    ConsumerProcesses::start(name, callers, streams, &addresses).await?;
                let sample =
                    passes::run(&mut consumers, &workload.shape, pace, &mut servers).await?;
                consumers.end().await?;
                sample
            }
            _ => peer.measure(workload, pace, &addresses, &mut servers).await?,
        };
        servers.end().await?;
        Ok(sample)
    })
}

/// The server side of a cell, in this process, until its input ends.
pub(crate) fn serve(peer: &dyn Contestant) -> Result<()> {
    until_input_ends(async { control::serve(&*peer.host().await?).await })
}

/// A caller of a forward pass, in this process, until its input ends.
pub(crate) fn consume(peer: &dyn Contestant, streams: usize, addresses: &[String]) -> Result<()> {
    until_input_ends(consumers::consume(peer, streams, addresses))
}

fn until_input_ends(work: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = runtime()?;
    runtime.block_on(work)?;
    // A read from standard input is still under way in a thread of the runtime.
    runtime.shutdown_background();
    Ok(())
}

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?)
}
