//! Allocations, writes and packets of a load, from the counters of the process and the kernel.

use anyhow::{Result, ensure};
use stats_alloc::INSTRUMENTED_SYSTEM;

use crate::{Load, Measured, limits::Count, load::Running, packets};

/// Operations that are counted. Enough that what is not per operation (the tasks of the callers,
/// an acknowledgement that the kernel delayed) is lost in the last digit. For the pass a multiple
/// of its credit rhythm.
fn operations(load: Load) -> usize {
    match load {
        Load::Unary1 | Load::Typed | Load::Local | Load::TypedOn => 10_000,
        Load::Unary64 => 64_000,
        Load::Stream | Load::TypedItems | Load::LocalItems | Load::TypedItemsOn => 1_000,
        Load::Pass => 2_048,
    }
}

/// Counts a load, per operation or per item.
///
/// # Errors
/// The load failed, or the counters cannot be read.
pub fn count(load: Load) -> Result<Vec<Measured>> {
    let operations = operations(load);
    let (before, after) = load.with(async |running| {
        let before = Counters::read_last(running)?;
        running.repeat(operations).await?;
        Ok((before, Counters::read_first(running)?))
    })?;
    ensure!(
        after.allocations > before.allocations,
        "nothing was allocated: the counting allocator is not the one of this program"
    );
    let change = |of: fn(&Counters) -> u64| (of(&after) - of(&before)) as f64 / operations as f64;
    let counted = [
        (Count::Allocations, change(|it| it.allocations)),
        (Count::AllocatedBytes, change(|it| it.allocated_bytes)),
        (Count::ClientWrites, change(|it| it.client_writes)),
        (Count::ServerWrites, change(|it| it.server_writes)),
        (Count::Packets, change(|it| it.packets)),
    ]
    .into_iter()
    .filter(|(count, _)| load.counts().contains(count));
    Ok(counted.map(|(count, per_operation)| Measured::new(load, count, per_operation)).collect())
}

/// All counters at one moment.
struct Counters {
    allocations: u64,
    allocated_bytes: u64,
    client_writes: u64,
    server_writes: u64,
    packets: u64,
}

impl Counters {
    /// At the beginning: the allocator is asked last, because asking the kernel allocates.
    fn read_last(running: &Running) -> Result<Self> {
        let packets = Self::packets(running)?;
        Ok(Self { packets, ..Self::read_own(running) })
    }

    /// At the end: the allocator is asked first.
    fn read_first(running: &Running) -> Result<Self> {
        let own = Self::read_own(running);
        Ok(Self { packets: Self::packets(running)?, ..own })
    }

    /// Of the loads that have their own ends; the others are not asked for them.
    fn packets(running: &Running) -> Result<u64> {
        match running.counts_packets() {
            true => packets::sent(running.ends.port()?),
            false => Ok(0),
        }
    }

    fn read_own(running: &Running) -> Self {
        let (client_writes, server_writes) =
            (running.ends.client_writes(), running.ends.server_writes());
        let heap = INSTRUMENTED_SYSTEM.stats();
        Self {
            // What grows in place is asked for all the same.
            allocations: (heap.allocations + heap.reallocations) as u64,
            allocated_bytes: heap.bytes_allocated as u64,
            client_writes,
            server_writes,
            packets: 0,
        }
    }
}
