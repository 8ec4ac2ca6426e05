//! What a run found, for the terminal and for `docs/`.

mod call_home;
mod catalogue;
mod document;
mod header;
pub(crate) mod measures;
mod newcomer;
mod order;
pub(crate) mod targets;

use std::{fs, path::Path};

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};

pub(crate) use self::order::lines as order;
use crate::{
    Contestant, Pace, Results, Workload,
    machine::{Load, Machine},
    plot,
    variation::Variation,
};

/// The circumstances of a run.
#[derive(Debug, Clone)]
pub struct Conditions {
    /// On what and when.
    pub machine: Machine,
    /// How long each measurement took.
    pub pace: Pace,
    /// What else ran on the machine.
    pub load: Load,
    /// What was other than the standard.
    pub(crate) variation: Variation,
    /// What to type to repeat it.
    pub command: String,
}

/// Writes `benchmarks.md` and `benchmarks.svg` into `folder`.
///
/// # Errors
/// The folder or a file in it cannot be written.
pub fn write(
    folder: &Path,
    peers: &[&dyn Contestant],
    workloads: &[Workload],
    results: &Results,
    conditions: &Conditions,
) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let save = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    };
    save("benchmarks.md", document::compose(peers, workloads, results, conditions))?;
    save("benchmarks.svg", plot::draw(peers, workloads, results))
}

/// The medians of all measures, a column for each peer.
pub(crate) fn table(
    peers: &[&dyn Contestant],
    workloads: &[Workload],
    results: &Results,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    let mut header = vec!["medians".to_owned()];
    header.extend(peers.iter().map(|peer| peer.name().to_owned()));
    header.push("target".to_owned());
    table.set_header(header);
    let targets = targets::of_run(workloads);
    for measure in measures_of(workloads) {
        let mut row = vec![measure.full_title()];
        let mut verdicts = Vec::new();
        for peer in peers {
            let spread = results.spread(measure.workload, measure.metric, peer.name());
            row.push(spread.map_or("-".to_owned(), |spread| measure.with_unit(spread.median)));
            for target in targets::of(&targets, &measure, peer.name()) {
                if let Some(reached) = target.reached(results) {
                    let verdict = if reached.is_met { "met" } else { "MISSED" };
                    let reached = target.reached_text(reached);
                    verdicts.push(format!("{verdict} with {reached}: {}", target.text()));
                }
            }
        }
        row.push(verdicts.join("\n"));
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1).take(peers.len()) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// The measures that these workloads have.
fn measures_of(workloads: &[Workload]) -> impl Iterator<Item = measures::Measure> {
    workloads.iter().flat_map(measures::of)
}
