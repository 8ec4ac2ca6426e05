//! What the measuring side tells the processes of the servers and hears from them.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use sinew_plane::BoxFuture;

use crate::{
    contestant::Host,
    subprocess::{self, Subprocess},
};

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
        /// How long each item is.
        item_bytes: u32,
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

/// Servers of one peer in processes of their own, told and asked as if they were one.
pub(crate) struct Servers {
    processes: Vec<Subprocess>,
    addresses: Vec<String>,
}

impl Servers {
    pub(crate) async fn start(peer: &str, count: usize) -> Result<Self> {
        let mut servers = Self { processes: Vec::new(), addresses: Vec::new() };
        for _ in 0..count {
            let (process, address) = Subprocess::start(&["serve", peer]).await?;
            servers.processes.push(process);
            servers.addresses.push(address);
        }
        Ok(servers)
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.addresses.clone()
    }

    pub(crate) async fn end(self) -> Result<()> {
        for process in self.processes {
            process.end().await?;
        }
        Ok(())
    }

    async fn ask(&mut self, command: Command) -> Result<Stats> {
        let mut all = Stats::default();
        for (index, server) in self.processes.iter_mut().enumerate() {
            let stats = server.ask(&command).await?;
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

/// The other end: a server that says where it is, then answers until its input ends.
pub(crate) async fn serve(host: &dyn Host) -> Result<()> {
    subprocess::answer(&host.address(), async |command| host.execute(command).await).await
}
