//! How far the demo is: a bar on a terminal, a few lines elsewhere.

use std::{
    io::{IsTerminal, stderr},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use sinew_telemetry::console::tell;

/// Shows how many requests are done, on standard error.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    total: usize,
    concurrency: AtomicUsize,
}

impl Progress {
    pub(crate) fn new(total: usize) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total as u64);
            let template = "{wide_bar:.green/dim} {pos:>3}/{len} requests  {msg}  {elapsed}";
            let style = ProgressStyle::with_template(template);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar, total, concurrency: AtomicUsize::new(0) }
    }

    /// So many requests are sent at once from now on.
    pub(crate) fn phase(&self, concurrency: usize) {
        self.concurrency.store(concurrency, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{concurrency:>2} at once"));
        }
    }

    /// So many are done.
    pub(crate) fn done(&self, count: usize) {
        match &self.bar {
            Some(bar) => bar.set_position(count as u64),
            None if count.is_multiple_of(self.total / 4) => {
                let concurrency = self.concurrency.load(Ordering::Relaxed);
                tell(&format!("{count}/{} requests, {concurrency} at once", self.total));
            }
            None => {}
        }
    }

    /// One line beside the bar.
    pub(crate) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => tell(line),
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
