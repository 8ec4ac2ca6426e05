//! The demo's counts, and the table they end in.

use std::{fmt::Write, time::Duration};

use comfy_table::{Cell, CellAlignment, Table, TableStyle, presets};
use hdrhistogram::Histogram;

use super::{load::VICTIM, verdict::Verdict};
use crate::text_layout::wrapped;

/// What became of requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) complete: usize,
    pub(crate) truncated: usize,
    pub(crate) unknown: usize,
    pub(crate) lost: usize,
    pub(crate) items: u64,
}

impl Counts {
    /// All of them.
    pub(crate) fn requests(&self) -> usize {
        self.complete + self.truncated + self.unknown + self.lost
    }

    fn add(&mut self, items: u64, verdict: Verdict) {
        self.items += items;
        *match verdict {
            Verdict::Complete => &mut self.complete,
            Verdict::Truncated => &mut self.truncated,
            Verdict::Unknown => &mut self.unknown,
            Verdict::Lost => &mut self.lost,
        } += 1;
    }
}

/// Counts by worker, and over all.
#[derive(Debug)]
pub(crate) struct Tally {
    workers: Vec<Counts>,
    /// Requests that no worker answered.
    nobody: Counts,
    pub(crate) total: Counts,
    /// Requests that another worker served after the first could not.
    pub(crate) failed_over: usize,
    /// Microseconds from sending a request to its first item.
    first_items: Option<Histogram<u64>>,
}

impl Tally {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            workers: vec![Counts::default(); workers],
            nobody: Counts::default(),
            total: Counts::default(),
            failed_over: 0,
            // A minute is beyond every limit of the demo; three digits are what is shown.
            first_items: Histogram::new_with_max(60_000_000, 3).ok(),
        }
    }

    /// A first item came.
    pub(crate) fn first_item(&mut self, after: Duration) {
        if let Some(first_items) = &mut self.first_items {
            let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
            first_items.saturating_record(micros);
        }
    }

    /// A request ended.
    pub(crate) fn end(&mut self, worker: Option<usize>, items: u64, verdict: Verdict) {
        let worker = worker.and_then(|number| self.workers.get_mut(number));
        worker.unwrap_or(&mut self.nobody).add(items, verdict);
        self.total.add(items, verdict);
    }

    /// The table and the measurements, for people with lines of `width` characters.
    pub(crate) fn report(&self, took: Duration, width: Option<usize>) -> String {
        let mut table = self.table(presets::UTF8_FULL_CONDENSED);
        let needs = table.lines().map(|line| line.chars().count()).max().unwrap_or_default();
        if width.is_some_and(|width| width < needs) {
            table = self.table(presets::NOTHING);
            table.column_iter_mut().for_each(|column| {
                column.set_padding((0, 1));
            });
        }
        let lines = table.lines().map(|line| format!("{}\n", line.trim_end()));
        let mut text: String = lines.collect();
        let per_second = self.total.items as f64 / took.as_secs_f64();
        // Writing to a string does not fail.
        let (p50, p99) = (self.first_item_at(0.50), self.first_item_at(0.99));
        let (failed_over, seconds) = (self.failed_over, took.as_secs_f64());
        let requests = if failed_over == 1 { "request" } else { "requests" };
        let _ = writeln!(text, "failed over  {failed_over} {requests} to another worker");
        let _ = writeln!(text, "first item   p50 {p50}, p99 {p99}");
        let _ = writeln!(text, "throughput   {per_second:.0} items/s over {seconds:.1} s");
        text
    }

    fn table(&self, style: TableStyle) -> Table {
        let mut table = Table::new();
        table.load_style(style);
        let header = ["worker", "requests", "complete", "truncated", "unknown", "lost", "items"];
        table.set_header(header);
        for (number, counts) in self.workers.iter().enumerate() {
            let killed = if number == VICTIM { " (killed)" } else { "" };
            table.add_row(row(format!("{}{killed}", number + 1), counts));
        }
        if self.nobody.requests() > 0 {
            table.add_row(row("no answer".to_owned(), &self.nobody));
        }
        table.add_row(row("all".to_owned(), &self.total));
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    fn first_item_at(&self, quantile: f64) -> String {
        let micros = self.first_items.as_ref().map_or(0, |all| all.value_at_quantile(quantile));
        format!("{:.2} ms", micros as f64 / 1_000.0)
    }

    /// What the table means.
    pub(crate) fn meaning(&self, width: Option<usize>) -> String {
        let Counts { complete, truncated, unknown, lost, .. } = self.total;
        let requests = self.total.requests();
        let verdict = match lost {
            0 => "Nothing is lost silently".to_owned(),
            _ => {
                format!("{lost} requests are LOST: not begun and not completed, or silently wrong")
            }
        };
        let meaning = format!(
            "{verdict}. {requests} requests = {complete} complete, checked word by word\n  \
             + {truncated} truncated: midway on the killed worker, and their streams say so\n  \
             + {unknown} unknown: the killed worker may have begun them, so they were not sent again\n  \
             + {lost} lost."
        );
        wrapped(&meaning, width.unwrap_or(usize::MAX))
    }
}

fn row(name: String, counts: &Counts) -> Vec<Cell> {
    let Counts { complete, truncated, unknown, lost, items } = counts;
    let mut cells = vec![Cell::new(name)];
    cells.extend([counts.requests(), *complete, *truncated, *unknown, *lost].map(Cell::new));
    cells.push(Cell::new(items));
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_adds_up() {
        let mut tally = Tally::new(3);
        for n in 0..30 {
            tally.first_item(Duration::from_millis(n));
            tally.end(Some(n as usize % 3), 10, Verdict::Complete);
        }
        tally.end(Some(1), 4, Verdict::Truncated);
        tally.end(None, 0, Verdict::Unknown);
        assert_eq!(tally.total.requests(), 32);
        assert_eq!(tally.total.items, 304);
        let rows = tally.workers.iter().chain([&tally.nobody]);
        assert_eq!(rows.map(Counts::requests).sum::<usize>(), tally.total.requests());
        let report = tally.report(Duration::from_secs(2), None);
        assert!(report.contains("2 (killed)") && report.contains("no answer"), "{report}");
        assert!(report.contains("152 items/s"), "{report}");
        assert!(report.contains("p50 14.0") && report.contains("p99 29.0"), "{report}");
        let meaning = tally.meaning(None);
        assert!(meaning.starts_with("Nothing is lost silently. 32 requests = 30"), "{meaning}");
        for text in [tally.report(Duration::from_secs(2), Some(60)), tally.meaning(Some(60))] {
            assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
        }
        tally.end(None, 0, Verdict::Lost);
        assert!(tally.meaning(None).starts_with("1 requests are LOST"), "{}", tally.meaning(None));
    }
}
