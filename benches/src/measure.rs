//! Clocks, counters and what one measurement is made of.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::Result;
use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// How long a measurement goes on.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Pace {
    /// Under load, but not counted: connections grow their windows, allocators their pools.
    pub warm_up: Duration,
    /// Counted.
    pub measured: Duration,
}

/// What came of one workload on one peer in one round: values by the names of their metrics.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sample(BTreeMap<String, f64>);

impl Sample {
    /// A value, if the workload has it and the peer or system could tell.
    pub fn get(&self, metric: &str) -> Option<f64> {
        self.0.get(metric).copied()
    }

    /// The same with one value more. What is not a number (nothing was counted) is left out.
    #[must_use]
    pub fn with(mut self, metric: &str, value: f64) -> Self {
        if value.is_finite() {
            self.0.insert(metric.to_owned(), value);
        }
        self
    }
}

/// Durations, in nanoseconds, to three digits.
pub(crate) type Latencies = Histogram<u64>;

/// An empty histogram, which grows with the durations it is given.
pub(crate) fn latencies() -> Result<Latencies> {
    Ok(Histogram::new(3)?)
}

/// A quantile in microseconds; not a number when nothing was recorded.
pub(crate) fn quantile_us(latencies: &Latencies, quantile: f64) -> f64 {
    if latencies.is_empty() {
        return f64::NAN;
    }
    latencies.value_at_quantile(quantile) as f64 / 1e3
}

/// CPU time of this process so far.
pub(crate) fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// A time that all processes of this host share.
pub(crate) fn shared_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Resident memory of this process, where the system tells.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_in_microseconds_and_nothing_has_none() {
        let mut times = latencies().unwrap();
        assert!(quantile_us(&times, 0.5).is_nan());
        for microseconds in 1..=100 {
            times.record(microseconds * 1_000).unwrap();
        }
        assert!((quantile_us(&times, 0.5) - 50.0).abs() < 0.1);
        assert!((quantile_us(&times, 0.99) - 99.0).abs() < 0.1);
    }

    #[test]
    fn cpu_time_grows_with_work() {
        let before = cpu_ns();
        let mut sum = 0u64;
        while cpu_ns() < before + 1_000_000 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(sum > 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_grows_with_use() {
        let before = resident_bytes().unwrap();
        let block = std::hint::black_box(vec![1u8; 32 << 20]);
        assert!(resident_bytes().unwrap() >= before + (16 << 20));
        drop(block);
    }

    #[test]
    fn what_was_not_counted_is_left_out() {
        let sample = Sample::default().with("a", 1.0).with("b", 1.0 / 0.0).with("c", f64::NAN);
        assert_eq!((sample.get("a"), sample.get("b"), sample.get("c")), (Some(1.0), None, None));
        let line = serde_json::to_string(&sample).unwrap();
        assert_eq!(serde_json::from_str::<Sample>(&line).unwrap(), sample);
    }
}
