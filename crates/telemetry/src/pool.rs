//! Metrics of a pool of TCP connections.

use std::sync::atomic::{AtomicUsize, Ordering};

use metrics::{Counter, Gauge, Histogram};

use crate::{Stopwatch, is_timing_enabled, names};

/// Handles of the metrics of one pool. Several pools of a process add up.
///
/// Make it after the recorder is installed; see the [crate](crate) documentation.
pub struct TcpPoolMetrics {
    created: Counter,
    reused: Counter,
    latency: Histogram,
    active: Share,
    idle: Share,
    timed: bool,
}

/// What one pool adds to a gauge.
struct Share {
    gauge: Gauge,
    count: AtomicUsize,
}

impl TcpPoolMetrics {
    /// Makes the handles.
    pub fn new() -> Self {
        Self {
            created: metrics::counter!(names::TCP_POOL_CREATED),
            reused: metrics::counter!(names::TCP_POOL_REUSED),
            latency: metrics::histogram!(names::TCP_POOL_LATENCY),
            active: Share::new(metrics::gauge!(names::TCP_POOL_ACTIVE)),
            idle: Share::new(metrics::gauge!(names::TCP_POOL_IDLE)),
            timed: is_timing_enabled(),
        }
    }

    /// Starts the time of an acquisition. Pass the result to [`acquired`](Self::acquired).
    pub fn acquire(&self) -> Stopwatch {
        Stopwatch::start(self.timed)
    }

    /// Records the time of an acquisition.
    pub fn acquired(&self, since: Stopwatch) {
        since.record(&self.latency);
    }

    /// Counts a connection that was made.
    pub fn created(&self) {
        self.created.increment(1);
    }

    /// Counts the use of an existing connection.
    pub fn reused(&self) {
        self.reused.increment(1);
    }

    /// Sets how many of the pool's connections carry streams now, and how many do not.
    pub fn connections(&self, active: usize, idle: usize) {
        self.active.set(active);
        self.idle.set(idle);
    }
}

impl Share {
    fn new(gauge: Gauge) -> Self {
        Self { gauge, count: AtomicUsize::new(0) }
    }

    fn set(&self, count: usize) {
        let before = self.count.swap(count, Ordering::Relaxed);
        // Counts of connections, far below what a float holds exactly.
        self.gauge.increment(count as f64 - before as f64);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl Default for TcpPoolMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for TcpPoolMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TcpPoolMetrics")
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn pools_add_up_and_leave_nothing_behind() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let pool = || metrics::with_local_recorder(&recorder, TcpPoolMetrics::new);
        let (one, two) = (pool(), pool());
        let shows = |line: &str| {
            let text = recorder.handle().render();
            assert!(text.lines().any(|it| it == line), "{line} in\n{text}");
        };
        one.created();
        two.reused();
        one.connections(2, 1);
        two.connections(3, 0);
        shows("tcp_pool_connections_created_total 1");
        shows("tcp_pool_connections_reused_total 1");
        shows("tcp_pool_active_connections 5");
        shows("tcp_pool_idle_connections 1");
        one.connections(0, 3);
        shows("tcp_pool_active_connections 3");
        drop(one);
        shows("tcp_pool_idle_connections 0");
        drop(two);
        shows("tcp_pool_active_connections 0");
    }
}
