//! `test --interop`: Sinew among unmodified Dynamo peers.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::ahead::Ahead;
use crate::workspace::Workspace;
use crate::{process, test};

/// Our side of the tests.
pub(crate) const PACKAGE: &str = "sinew-interop";

/// Which tests they are, named as no other member names its own, and the program that they start. The
/// whole workspace is asked for, because its features are those of the other tests: asked for alone,
/// the package would have fewer, and most of what those have compiled would be compiled again.
const TARGETS: [&str; 4] = ["--bin", "sinew-peer", "--test", "peers"];

/// The workspace of the stock peer, whose pins are not ours.
const PEER: &str = "tests/interop-dynamo";

/// Where the tests look for the stock peer.
const VARIABLE: &str = "SINEW_TEST_DYNAMO";

/// Builds the stock peer and runs the tests with it; `arguments` go to `cargo test`.
pub(crate) fn run(workspace: &Workspace, arguments: &[&str]) -> Result<()> {
    let peer = build(workspace)?;
    let mut cargo = process::cargo(&workspace.root);
    cargo.args(["test", "--workspace", "--all-features"]).args(TARGETS).args(arguments);
    cargo.env(VARIABLE, peer);
    test::run_with_servers(workspace, &mut cargo)
}

/// Begins to build the stock peer in the background, unless the caller has one.
pub(crate) fn ahead(workspace: &Workspace) -> Result<Option<Ahead>> {
    if env::var_os(VARIABLE).is_some() {
        return Ok(None);
    }
    Ahead::begin(&cargo_build(workspace), &target(workspace).join("build.log")).map(Some)
}

/// Where the stock peer is, built unless the caller has one.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(peer) = env::var_os(VARIABLE) {
        return Ok(peer.into());
    }
    process::run(&mut cargo_build(workspace))?;
    let name = format!("dynamo-peer{}", env::consts::EXE_SUFFIX);
    Ok(target(workspace).join("debug").join(name))
}

fn cargo_build(workspace: &Workspace) -> Command {
    let mut cargo = process::cargo(&workspace.root.join(PEER));
    cargo.args(["build", "--locked", "--target-dir"]).arg(target(workspace));
    cargo
}

fn target(workspace: &Workspace) -> PathBuf {
    workspace.target().join("interop")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A second target of the same name would run without its peer, or with a server too few.
    #[test]
    fn the_tests_with_stock_peers_are_the_only_ones_of_their_name() {
        let workspace = Workspace::find().unwrap();
        let packages = workspace.packages().unwrap();
        let holds = |kind: &str, name: &str| -> Vec<_> {
            let place = |package: &&crate::workspace::Package| package.directory.join(kind);
            let is_there = |folder: PathBuf| {
                folder.join(name).is_dir() || fs::exists(folder.join(format!("{name}.rs"))).unwrap()
            };
            let users = packages.iter().filter(|package| is_there(place(package)));
            users.map(|package| package.name.as_str()).collect()
        };
        assert_eq!(holds("tests", TARGETS[3]), [PACKAGE]);
        let programs = packages.iter().flat_map(|package| &package.binaries);
        assert_eq!(programs.filter(|name| *name == TARGETS[1]).count(), 1);
    }
}
