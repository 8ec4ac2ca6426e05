//! Metrics of the memory budget.

use metrics::Gauge;
use sinew_plane::{Budget, BudgetUse};

use crate::names;

/// Handles of the gauge `budget_bytes`, one for each use.
///
/// Make it after the recorder is installed; see the [crate](crate) documentation.
pub struct BudgetMetrics {
    gauges: Vec<(BudgetUse, Gauge)>,
}

impl BudgetMetrics {
    /// Makes the handles.
    pub fn new() -> Self {
        let gauge = |what: &BudgetUse| {
            (*what, metrics::gauge!(names::BUDGET_BYTES, names::USE => what.as_str()))
        };
        Self { gauges: BudgetUse::ALL.iter().map(gauge).collect() }
    }

    /// Sets the gauges to the current use of `budget`.
    pub fn show(&self, budget: &Budget) {
        for (what, gauge) in &self.gauges {
            // Bytes of memory, far below what a float holds exactly.
            gauge.set(budget.used(*what) as f64);
        }
    }
}

impl Default for BudgetMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for BudgetMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BudgetMetrics")
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;
    use sinew_plane::budget::Work;

    use super::*;

    #[test]
    fn each_use_has_its_line() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let shown = metrics::with_local_recorder(&recorder, BudgetMetrics::new);
        let budget = Budget::new(16 << 20);
        let _hold = budget.open().hold(BudgetUse::Bodies, 4096, Work::New);
        shown.show(&budget);
        let text = recorder.handle().render();
        assert!(text.contains("budget_bytes{use=\"bodies\"} 4096"), "{text}");
        assert!(text.contains("budget_bytes{use=\"kept\"} 0"), "{text}");
    }
}
