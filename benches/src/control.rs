//! How the measuring side talks to the process of the server: a line there, a line back.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sinew_plane::BoxFuture;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
};

use crate::contestant::Host;

/// Longest wait for a server to come up, to answer, and to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a server can be told.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Only to answer.
    Report,
    /// To start the engine.
    StartPasses {
        /// Microseconds from pass to pass; `None` for one after the other.
        every_us: Option<u64>,
    },
    /// To stop the engine.
    StopPasses,
}

/// How a server shares its connections back to callers, counted since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolCount {
    /// Connections that were made.
    pub created: u64,
    /// Responses that took one that was there.
    pub reused: u64,
}

impl PoolCount {
    /// Responses of a hundred that took a connection that was there; not a number before the
    /// first one.
    pub fn reuse_percent(self) -> f64 {
        100.0 * self.reused as f64 / (self.created + self.reused) as f64
    }
}

/// What a server answers to every command, counted since its start.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Stats {
    /// CPU time of the process.
    pub cpu_ns: u64,
    /// Its resident memory, where the system tells.
    pub resident_bytes: Option<u64>,
    /// Writes to its sockets, where the peer counts them.
    pub writes: Option<u64>,
    /// Its shared connections back, where the peer has such.
    #[serde(default)]
    pub pool: Option<PoolCount>,
    /// Streams that are kept open without an item.
    pub parked: usize,
    /// Streams that the engine feeds.
    pub lanes: usize,
    /// Passes of the engine.
    pub passes: u64,
    /// Items that the engine sent.
    pub items: u64,
}

impl Stats {
    /// Of two servers together. What one of them does not tell is not told.
    fn plus(self, other: Self) -> Self {
        let sum = |one: Option<u64>, two: Option<u64>| Some(one? + two?);
        let pools = self.pool.zip(other.pool);
        Self {
            cpu_ns: self.cpu_ns + other.cpu_ns,
            resident_bytes: sum(self.resident_bytes, other.resident_bytes),
            writes: sum(self.writes, other.writes),
            pool: pools.map(|(one, two)| PoolCount {
                created: one.created + two.created,
                reused: one.reused + two.reused,
            }),
            parked: self.parked + other.parked,
            lanes: self.lanes + other.lanes,
            passes: self.passes + other.passes,
            items: self.items + other.items,
        }
    }
}

/// Something that can be asked as a server.
pub trait Control: Send {
    /// Carries out a command and answers.
    fn command(&mut self, command: Command) -> BoxFuture<'_, Result<Stats>>;
}

impl Control for Box<dyn Host> {
    fn command(&mut self, command: Command) -> BoxFuture<'_, Result<Stats>> {
        self.execute(command)
    }
}

/// Servers of one peer, told and asked as if they were one.
pub(crate) struct Servers(Vec<ServerProcess>);

impl Servers {
    pub(crate) async fn start(peer: &str, count: usize) -> Result<Self> {
        let mut servers = Vec::with_capacity(count);
        for _ in 0..count {
            servers.push(ServerProcess::start(peer).await?);
        }
        Ok(Self(servers))
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.0.iter().map(|server| server.address.clone()).collect()
    }

    pub(crate) async fn end(self) -> Result<()> {
        for server in self.0 {
            server.end().await?;
        }
        Ok(())
    }

    async fn ask(&mut self, command: Command) -> Result<Stats> {
        let mut all = Stats::default();
        for (index, server) in self.0.iter_mut().enumerate() {
            let stats = server.ask(command).await?;
            all = if index == 0 { stats } else { all.plus(stats) };
        }
        Ok(all)
    }
}

impl Control for Servers {
    fn command(&mut self, command: Command) -> BoxFuture<'_, Result<Stats>> {
        Box::pin(self.ask(command))
    }
}

/// A server in a process of its own, which ends with this value.
struct ServerProcess {
    child: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    address: String,
}

impl ServerProcess {
    /// Starts this program again as the server of a peer.
    async fn start(peer: &str) -> Result<Self> {
        let program = std::env::current_exe().context("finding this program")?;
        let mut child = tokio::process::Command::new(program)
            .args(["serve", peer])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting the server")?;
        let commands = child.stdin.take().context("the server has no input")?;
        let output = child.stdout.take().context("the server has no output")?;
        let mut answers = BufReader::new(output).lines();
        let address = read_line(&mut answers).await?;
        Ok(Self { child, commands, answers, address })
    }

    async fn ask(&mut self, command: Command) -> Result<Stats> {
        let line = serde_json::to_string(&command)? + "\n";
        self.commands.write_all(line.as_bytes()).await.context("the server is gone")?;
        Ok(serde_json::from_str(&read_line(&mut self.answers).await?)?)
    }

    /// Ends the server and waits for it.
    async fn end(self) -> Result<()> {
        let Self { mut child, commands, .. } = self;
        // The end of its input is its signal to go.
        drop(commands);
        match tokio::time::timeout(PATIENCE, child.wait()).await {
            Ok(status) if status.as_ref().is_ok_and(|status| status.success()) => Ok(()),
            Ok(status) => bail!("the server ended with {}", status?),
            Err(_) => {
                child.kill().await?;
                bail!("the server did not end and was killed")
            }
        }
    }
}

async fn read_line(lines: &mut Lines<BufReader<ChildStdout>>) -> Result<String> {
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
    line.context("the server does not answer")??.context("the server ended early")
}

/// The other end: a server that says where it is, then answers until its input ends.
#[expect(clippy::print_stdout, reason = "standard output is the way back to the parent")]
pub(crate) async fn serve(host: &dyn Host) -> Result<()> {
    println!("{}", host.address());
    let mut commands = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = commands.next_line().await? {
        let stats = host.execute(serde_json::from_str(&line)?).await?;
        println!("{}", serde_json::to_string(&stats)?);
    }
    Ok(())
}
