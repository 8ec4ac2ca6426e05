//! Named steps, run one after another, with a header before and a table after.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::workspace::Workspace;

/// One step of a chore.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// What is true once it has passed.
    pub(crate) about: &'static str,
    pub(crate) run: fn(&Workspace) -> Result<()>,
}

/// What became of the steps so far.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

struct Row {
    name: &'static str,
    about: &'static str,
    took: Duration,
    failure: Option<String>,
}

impl Report {
    /// Runs one step under its header. Returns whether it passed.
    pub(crate) fn run(
        &mut self,
        name: &'static str,
        about: &'static str,
        step: impl FnOnce() -> Result<()>,
    ) -> bool {
        println!("\n==== {name}: {about}");
        let start = Instant::now();
        let failure = step().err().map(|error| format!("{error:#}"));
        let took = start.elapsed();
        match &failure {
            None => println!("==== {name}: ok after {}", seconds(took)),
            Some(failure) => eprintln!("==== {name}: FAILED after {}\n{failure}", seconds(took)),
        }
        let passed = failure.is_none();
        self.rows.push(Row { name, about, took, failure });
        passed
    }

    /// Prints the table, and fails if a step failed. `skipped` is how many never ran.
    pub(crate) fn finish(self, skipped: usize) -> Result<()> {
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or_default();
        let total: Duration = self.rows.iter().map(|row| row.took).sum();
        println!();
        for row in &self.rows {
            let verdict = if row.failure.is_none() { "ok    " } else { "FAILED" };
            println!("{:width$}  {:>9}  {verdict}  {}", row.name, seconds(row.took), row.about);
        }
        println!("{:width$}  {:>9}", "total", seconds(total));
        let failed: Vec<_> =
            self.rows.iter().filter(|row| row.failure.is_some()).map(|row| row.name).collect();
        if failed.is_empty() {
            return Ok(());
        }
        match skipped {
            0 => bail!("failed: {}", failed.join(", ")),
            _ => bail!("failed: {}; {skipped} later steps did not run", failed.join(", ")),
        }
    }
}

/// A time as people read it.
pub(crate) fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs();
    if whole < 60 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} m {:02} s", whole / 60, whole % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_fails_the_report_by_name() {
        let mut report = Report::default();
        assert!(report.run("good", "passes", || Ok(())));
        assert!(!report.run("bad", "fails", || bail!("the reason")));
        let error = report.finish(3).unwrap_err().to_string();
        assert_eq!(error, "failed: bad; 3 later steps did not run");
    }

    #[test]
    fn durations_read_like_a_clock() {
        assert_eq!(seconds(Duration::from_millis(1_240)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 m 05 s");
    }
}
