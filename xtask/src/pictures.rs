//! `pictures`: draws the pictures in docs/, so that they cannot drift from what they show.

mod crates_to_come;
mod layer_rows;
mod overview;

use std::fs;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::layers::sentences;
use crate::workspace::Workspace;

/// Draw docs/overview.svg, docs/layers.svg and docs/crates-to-come.svg.
#[derive(Args)]
#[command(after_help = "\
docs/layers.svg shows the layer table of `cargo xtask layers`, as far as its crates exist.
docs/crates-to-come.svg shows the plan in xtask/src/layers/coming.rs, and how far the tree is.")]
pub(crate) struct Options {
    /// Write nothing; fail if a picture in docs/ is not what would be written
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    if options.check {
        return check(workspace);
    }
    for (path, text) in pictures(workspace)? {
        let file = workspace.root.join(path);
        fs::write(&file, text).with_context(|| format!("writing {path}"))?;
        println!("wrote {path}");
    }
    Ok(())
}

/// Fails if a picture in docs/ is missing or old.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    for (path, text) in pictures(workspace)? {
        if fs::read_to_string(workspace.root.join(path)).ok().as_ref() != Some(&text) {
            bail!("{path} is not current; run `cargo xtask pictures`");
        }
        println!("{path} is current");
    }
    Ok(())
}

/// Paths from the root, and what belongs there.
fn pictures(workspace: &Workspace) -> Result<[(&'static str, String); 3]> {
    let packages = workspace.packages()?;
    let has_crate = |folder: &str| packages.iter().any(|package| package.folder == folder);
    let tree = crates_to_come::Tree {
        has_crate: &has_crate,
        has_edge: &|from, to| sentences::direct(&packages, from).any(|found| found == to),
        exceptions: sentences::EXCEPTIONS.iter().map(|it| (it.from, it.to)).collect(),
    };
    Ok([
        ("docs/overview.svg", overview::draw()),
        ("docs/layers.svg", layer_rows::draw(&has_crate)),
        ("docs/crates-to-come.svg", crates_to_come::draw(&tree)),
    ])
}
