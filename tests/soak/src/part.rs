//! A process of the run.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::watch,
    task::JoinHandle,
};

use crate::{
    caller::Told,
    memory::Memory,
    worker::{Left, READY},
};

/// A process that was started, and what is known of it. It ends when this is dropped.
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) memory: Memory,
    child: Child,
    /// Its end is a worker's signal to drain.
    input: Option<ChildStdin>,
}

impl Part {
    /// Starts this program with other arguments.
    pub(crate) fn start(name: String, arguments: &[String]) -> Result<Self> {
        let program = std::env::current_exe().context("finding this program")?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let input = child.stdin.take();
        Ok(Self { name, memory: Memory::default(), child, input })
    }

    pub(crate) fn process(&self) -> Option<u32> {
        self.child.id()
    }

    /// What a caller reports, from now on.
    pub(crate) fn reports(&mut self) -> Result<(watch::Receiver<Told>, JoinHandle<()>)> {
        let output = self.child.stdout.take().context("the process has no output")?;
        let (tell, told) = watch::channel(Told::default());
        let reading = tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if let Ok(report) = serde_json::from_str(&line) {
                    tell.send_replace(report);
                }
            }
        });
        Ok((told, reading))
    }

    /// Waits until a worker serves, and gives what reads its last line.
    pub(crate) async fn serving(&mut self) -> Result<JoinHandle<Left>> {
        let output = self.child.stdout.take().context("the process has no output")?;
        let mut lines = BufReader::new(output).lines();
        let first = lines.next_line().await?;
        anyhow::ensure!(first.as_deref() == Some(READY), "{} did not start", self.name);
        Ok(tokio::spawn(async move {
            let mut left = Left::default();
            while let Ok(Some(line)) = lines.next_line().await {
                left = serde_json::from_str(&line).unwrap_or(left);
            }
            left
        }))
    }

    /// Writes a line to its input.
    pub(crate) async fn say(&mut self, line: &str) -> Result<()> {
        let input = self.input.as_mut().context("its input is closed")?;
        input.write_all(format!("{line}\n").as_bytes()).await?;
        Ok(input.flush().await?)
    }

    /// Closes its input: a caller opens no more streams.
    pub(crate) fn close_input(&mut self) {
        self.input = None;
    }

    /// SIGTERM, and how long it takes to end.
    pub(crate) async fn terminate(mut self, limit: Duration) -> Result<Duration> {
        let process = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let begun = Instant::now();
        kill_process(process.context("it has ended already")?, Signal::TERM)?;
        let status = tokio::time::timeout(limit, self.child.wait()).await;
        let status = status.with_context(|| format!("{} did not end", self.name))??;
        anyhow::ensure!(status.success(), "{} ended with {status}", self.name);
        Ok(begun.elapsed())
    }

    /// True if the process has ended by itself.
    pub(crate) fn is_gone(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it: a worker drains first.
    pub(crate) async fn end(self) -> Result<()> {
        self.end_within(Duration::from_secs(20)).await
    }

    /// The same, for at most `limit`.
    pub(crate) async fn end_within(mut self, limit: Duration) -> Result<()> {
        drop(self.input.take());
        let status = tokio::time::timeout(limit, self.child.wait()).await;
        let status = status.with_context(|| format!("{} did not end", self.name))??;
        anyhow::ensure!(status.success(), "{} ended with {status}", self.name);
        Ok(())
    }
}
