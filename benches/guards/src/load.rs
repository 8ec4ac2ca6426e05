//! What is counted: calls, streams and passes, in any number.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt;
use tokio::{sync::Notify, task::JoinSet};

use crate::{
    ends::{Ask, Caller, Ends},
    limits::Count,
    typed::{self, TypedEnds, TypedLoad},
};

/// Request bodies as in the benchmarks.
const UNARY_BYTES: usize = 128;
const STREAM_BYTES: usize = 512;

/// Streams and connections of the forward pass.
const LANES: usize = 256;
const PASS_CALLERS: usize = 4;

/// The longest takes 3 s under callgrind, and a minute on a machine that hardly lets it run; past
/// this it hangs.
const LIMIT: Duration = Duration::from_secs(300);

/// What is done again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Load {
    /// 128 B there and back, one after the other.
    Unary1,
    /// The same by 64 callers on one connection.
    Unary64,
    /// A request of 512 B, 256 items of 64 B back.
    Stream,
    /// One item of 64 B on each of 256 streams over four connections, each pass received before
    /// the next.
    Pass,
    /// A typed call through a router of the facade: a struct of three fields there and back.
    Typed,
    /// A typed request through the same, 256 typed items back.
    TypedItems,
    /// The typed call to an engine of the same process.
    Local,
    /// The typed items of an engine of the same process.
    LocalItems,
    /// The typed call with metrics collected and logs at `info`.
    TypedOn,
    /// The typed items with the same.
    TypedItemsOn,
}

impl Load {
    /// All of them. Telemetry cannot be switched off again, so what is counted with it is last.
    pub const ALL: [Self; 10] = [
        Self::Unary1,
        Self::Unary64,
        Self::Stream,
        Self::Pass,
        Self::Typed,
        Self::TypedItems,
        Self::Local,
        Self::LocalItems,
        Self::TypedOn,
        Self::TypedItemsOn,
    ];

    /// What is counted of it. The facade does not say how often it writes, and its discovery is
    /// among what the process sends.
    pub fn counts(self) -> &'static [Count] {
        match self.typed() {
            None => &Count::ALL,
            Some(_) => &[Count::Allocations, Count::AllocatedBytes, Count::Instructions],
        }
    }

    /// How the ends of a typed load are set up.
    pub(crate) fn typed(self) -> Option<TypedLoad> {
        let (calls, items) = (None, Some(typed::STREAM_ITEMS));
        let (items, in_process, telemetry) = match self {
            Self::Unary1 | Self::Unary64 | Self::Stream | Self::Pass => return None,
            Self::Typed => (calls, false, false),
            Self::TypedItems => (items, false, false),
            Self::Local => (calls, true, false),
            Self::LocalItems => (items, true, false),
            Self::TypedOn => (calls, false, true),
            Self::TypedItemsOn => (items, false, true),
        };
        Some(TypedLoad { items, in_process, telemetry })
    }

    /// Its name on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unary1 => "unary-1",
            Self::Unary64 => "unary-64",
            Self::Stream => "stream",
            Self::Pass => "pass",
            Self::Typed => "typed",
            Self::TypedItems => "typed-items",
            Self::Local => "local",
            Self::LocalItems => "local-items",
            Self::TypedOn => "typed-on",
            Self::TypedItemsOn => "typed-items-on",
        }
    }

    /// What is done once, and counted.
    pub fn operation(self) -> &'static str {
        match self {
            Self::Unary1 | Self::Unary64 | Self::Typed | Self::Local | Self::TypedOn => "call",
            Self::Stream | Self::TypedItems | Self::LocalItems | Self::TypedItemsOn => "stream",
            Self::Pass => "pass",
        }
    }

    /// Items that arrive with each operation.
    pub fn items(self) -> usize {
        match self {
            Self::Unary1 | Self::Unary64 | Self::Typed | Self::Local | Self::TypedOn => 1,
            Self::Stream | Self::TypedItems | Self::LocalItems | Self::TypedItemsOn => {
                Ends::STREAM_ITEMS
            }
            Self::Pass => LANES,
        }
    }

    /// Operations before buffers and tables have their size, and before credit comes in its
    /// rhythm. For the pass, one rhythm: credit is granted once per half window of 1,024 items.
    pub(crate) fn warm_up(self) -> usize {
        match self {
            Self::Unary1 | Self::Typed | Self::Local | Self::TypedOn => 1_000,
            Self::Unary64 => 6_400,
            Self::Stream | Self::TypedItems | Self::LocalItems | Self::TypedItemsOn => 100,
            Self::Pass => 512,
        }
    }

    /// Starts the load, warmed up, and hands it to `measure`. Everything runs on this thread.
    ///
    /// # Errors
    /// An exchange failed, `measure` did, or it took longer than any such load takes.
    pub fn with<T>(self, measure: impl AsyncFnOnce(&mut Running) -> Result<T>) -> Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work = async {
            let mut running = Running::start(self).await?;
            running.repeat(self.warm_up()).await?;
            measure(&mut running).await
        };
        let done = runtime.block_on(async { tokio::time::timeout(LIMIT, work).await });
        done.with_context(|| format!("{self} did not end within {} s", LIMIT.as_secs()))?
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Load {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|load| load.name() == name);
        found.with_context(|| format!("there is no load `{name}`"))
    }
}

/// A load with its ends, ready to be repeated.
pub struct Running {
    load: Load,
    pub(crate) ends: Ends,
    /// Of a typed load.
    typed: Option<TypedEnds>,
    /// The consumers of a pass; they run until this is dropped.
    consumers: JoinSet<Result<()>>,
    received: Arc<Received>,
}

/// Items that the consumers of a pass have, and who waits for them.
#[derive(Default)]
struct Received {
    items: AtomicUsize,
    whole_pass: Notify,
}

impl Running {
    async fn start(load: Load) -> Result<Self> {
        let callers = if load == Load::Pass { PASS_CALLERS } else { 1 };
        let mut running = Self {
            load,
            ends: Ends::new(callers)?,
            typed: match load.typed() {
                Some(typed) => Some(TypedEnds::start(typed).await?),
                None => None,
            },
            consumers: JoinSet::new(),
            received: Arc::default(),
        };
        if load == Load::Pass {
            running.open_lanes().await?;
        }
        Ok(running)
    }

    /// Whether there are connections of its own ends to be asked for packets.
    pub(crate) fn counts_packets(&self) -> bool {
        self.load.counts().contains(&Count::Packets)
    }

    async fn open_lanes(&mut self) -> Result<()> {
        for lane in 0..LANES {
            let caller = self.ends.caller(lane % PASS_CALLERS)?;
            let mut response = caller.open(Ask::Lane.body(STREAM_BYTES)).await?;
            let received = Arc::clone(&self.received);
            self.consumers.spawn(async move {
                while let Some(item) = response.next().await {
                    item?;
                    if (received.items.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(LANES) {
                        received.whole_pass.notify_one();
                    }
                }
                bail!("a lane ended")
            });
        }
        // `open` returns before the request is sent.
        while self.ends.lanes() < LANES {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Does it `times` times; with many callers, the next multiple of their number.
    ///
    /// # Errors
    /// An exchange failed, or did not bring what was asked for.
    pub async fn repeat(&mut self, times: usize) -> Result<()> {
        if let (Some(ends), Some(TypedLoad { items, .. })) = (&self.typed, self.load.typed()) {
            return ends.call(times, items).await;
        }
        match self.load {
            Load::Unary1 => self.call(1, times, Ask::Echo, UNARY_BYTES).await,
            Load::Unary64 => self.call(64, times.div_ceil(64), Ask::Echo, UNARY_BYTES).await,
            Load::Stream => self.call(1, times, Ask::Stream, STREAM_BYTES).await,
            Load::Pass => self.pass(times).await,
            // With their own ends, above.
            Load::Typed
            | Load::TypedItems
            | Load::Local
            | Load::LocalItems
            | Load::TypedOn
            | Load::TypedItemsOn => {
                bail!("a typed load without its ends")
            }
        }
    }

    async fn call(&self, callers: usize, each: usize, ask: Ask, bytes: usize) -> Result<()> {
        let body = ask.body(bytes);
        let mut tasks: JoinSet<Result<()>> = JoinSet::new();
        for _ in 0..callers {
            let (caller, body) = (self.ends.caller(0)?, body.clone());
            let items = self.load.items();
            tasks.spawn(async move {
                for _ in 0..each {
                    exchange(&caller, body.clone(), items).await?;
                }
                Ok(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.context("a caller panicked")??;
        }
        Ok(())
    }

    async fn pass(&mut self, times: usize) -> Result<()> {
        for _ in 0..times {
            self.ends.pass()?;
            tokio::select! {
                () = self.received.whole_pass.notified() => {}
                ended = self.consumers.join_next() => {
                    ended.context("there are no consumers")?.context("a consumer panicked")??;
                }
            }
        }
        Ok(())
    }
}

async fn exchange(caller: &Caller, body: bytes::Bytes, items: usize) -> Result<()> {
    let mut response = caller.open(body).await?;
    let mut received = 0;
    while let Some(item) = response.next().await {
        item?;
        received += 1;
    }
    ensure!(received == items, "{received} items came in place of {items}");
    Ok(())
}
