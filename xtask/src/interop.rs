//! `test --interop`: Sinew among unmodified Dynamo peers.

use std::env;
use std::path::PathBuf;

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{process, test};

/// Our side of the tests.
pub(crate) const PACKAGE: &str = "sinew-interop";

/// The workspace of the stock peer, whose pins are not ours.
const PEER: &str = "tests/interop-dynamo";

/// Where the tests look for the stock peer.
const VARIABLE: &str = "SINEW_TEST_DYNAMO";

/// Builds the stock peer and runs the tests with it; `arguments` go to `cargo test`.
pub(crate) fn run(workspace: &Workspace, arguments: &[&str]) -> Result<()> {
    let peer = build(workspace)?;
    let mut cargo = process::cargo(&workspace.root);
    cargo.args(["test", "-p", PACKAGE, "--all-features"]).args(arguments).env(VARIABLE, peer);
    test::with_servers(workspace, &mut cargo)
}

/// Where the stock peer is, built unless the caller has one.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(peer) = env::var_os(VARIABLE) {
        return Ok(peer.into());
    }
    let target = workspace.target().join("interop");
    let mut cargo = process::cargo(&workspace.root.join(PEER));
    process::run(cargo.args(["build", "--locked", "--target-dir"]).arg(&target))?;
    Ok(target.join("debug").join(format!("dynamo-peer{}", env::consts::EXE_SUFFIX)))
}
