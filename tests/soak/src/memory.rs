//! How much memory a process has, and whether that is flat.

use std::{fs, time::Duration};

/// A tolerance in parts of what there was, and one in bytes: an allocator gives back what it likes.
const TOLERANCE: f64 = 0.10;
const TOLERANCE_BYTES: f64 = 8.0 * 1024.0 * 1024.0;

/// The resident memory of one process over a run.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    samples: Vec<(Duration, u64)>,
}

/// What it was on average, in bytes, over two quarters of the time in which streams ran.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quarters {
    pub(crate) second: f64,
    pub(crate) last: f64,
}

impl Quarters {
    /// True if the last quarter is no higher than the second, but for the tolerance.
    pub(crate) fn is_flat(&self) -> bool {
        self.last <= self.second * (1.0 + TOLERANCE) + TOLERANCE_BYTES
    }
}

impl Memory {
    /// Looks at the process; one that is gone has none.
    pub(crate) fn sample(&mut self, at: Duration, process: u32) {
        if let Some(bytes) = resident_bytes(process) {
            self.samples.push((at, bytes));
        }
    }

    /// Averages over the time from `begun` to `ended`, of a process that lived all that time.
    pub(crate) fn quarters(&self, begun: Duration, ended: Duration) -> Option<Quarters> {
        let quarter = ended.checked_sub(begun)? / 4;
        let mean = |from: Duration, to: Duration| {
            let within = self.samples.iter().filter(|(at, _)| (from..to).contains(at));
            let (count, sum) =
                within.fold((0_u64, 0.0), |(n, sum), (_, b)| (n + 1, sum + *b as f64));
            (count > 0).then(|| sum / count as f64)
        };
        Some(Quarters {
            second: mean(begun + quarter, begun + quarter * 2)?,
            last: mean(begun + quarter * 3, ended)?,
        })
    }
}

fn resident_bytes(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_seen_and_a_plateau_is_flat() {
        let memory = |bytes: fn(u64) -> u64| {
            let sample = |second| (Duration::from_secs(second), bytes(second) << 20);
            Memory { samples: (0..100).map(sample).collect() }
        };
        let quarters = |memory: Memory| {
            memory.quarters(Duration::ZERO, Duration::from_secs(100)).unwrap().is_flat()
        };
        assert!(quarters(memory(|_| 50)));
        assert!(quarters(memory(|second| if second < 20 { second } else { 50 })));
        assert!(!quarters(memory(|second| 50 + second)));
        assert!(Memory::default().quarters(Duration::ZERO, Duration::from_secs(4)).is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_some() {
        assert!(resident_bytes(std::process::id()).unwrap() > 1 << 20);
        assert!(resident_bytes(0).is_none());
    }
}
