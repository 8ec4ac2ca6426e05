//! What a build without a feature must not contain: a crate that is optional and not asked for is
//! absent, also through others.

use anyhow::Result;

use crate::process;
use crate::workspace::{Package, Workspace};

/// A build that somebody chooses, and crates that it must do without.
pub(super) struct Build {
    package: &'static str,
    /// Instead of its default features.
    features: &'static str,
    lacks: &'static [&'static str],
}

/// Dynamo's own parts. What stays is what a request over NATS needs between two ends of Sinew.
const DYNAMO: &[&str] = &["sinew-compat-dynamo", "sinew-plane-request-tcp"];

pub(super) const BUILDS: &[Build] = &[
    Build { package: "sinew", features: "", lacks: DYNAMO },
    Build { package: "sinew", features: "", lacks: &["sinew-transport-nats", "async-nats"] },
    Build { package: "sinew", features: "dns,etcd,nats,nats-nkeys,nats-tls", lacks: DYNAMO },
    Build { package: "sinew-cli", features: "dns,nats", lacks: DYNAMO },
];

/// A message for each crate that is in a build all the same. What is not in the workspace is not
/// built.
pub(super) fn check(workspace: &Workspace, packages: &[Package]) -> Result<Vec<String>> {
    let exists = |build: &&Build| packages.iter().any(|package| package.name == build.package);
    let mut faults = Vec::new();
    for build in BUILDS.iter().filter(exists) {
        let mut cargo = process::cargo_apart(&workspace.root);
        cargo.args(["tree", "--locked", "--edges", "normal", "--prefix", "none"]);
        cargo.args(["--package", build.package, "--no-default-features"]);
        let tree = process::output(cargo.args(["--features", build.features]))?;
        faults.extend(present(&tree, build.lacks).map(|name| fault(build, name)));
    }
    Ok(faults)
}

/// Which of these crates stand in the output of `cargo tree --prefix none`.
fn present<'n>(tree: &str, names: &'n [&'n str]) -> impl Iterator<Item = &'n str> {
    let names = names.iter().copied();
    names.filter(|name| tree.lines().any(|line| line.split(' ').next() == Some(name)))
}

fn fault(Build { package, features, .. }: &Build, name: &str) -> String {
    let features = if features.is_empty() { "any feature" } else { features };
    format!(
        "{package} with {features} brings in {name}.\n  Rule: what is behind a feature is not in \
         a build without it (BUILDS in xtask/src/layers/features.rs).\n  Do: make the dependency \
         optional, and let the feature ask for it."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_is_found_by_its_whole_name() {
        let tree =
            "sinew v0.1.0 (crates/sinew)\nsinew-compat-dynamo v0.1.0 (x) (*)\nbytes v1.0.0\n";
        let found: Vec<_> = present(tree, &["sinew-compat", "sinew-compat-dynamo"]).collect();
        assert_eq!(found, ["sinew-compat-dynamo"]);
        let message = fault(&BUILDS[0], found[0]);
        assert!(message.contains("sinew with any feature brings in sinew-compat-dynamo"));
    }

    #[test]
    fn the_builds_of_this_workspace_are_as_small_as_they_say() {
        let workspace = Workspace::find().unwrap();
        let packages = workspace.packages().unwrap();
        for build in BUILDS {
            assert!(packages.iter().any(|package| package.name == build.package));
        }
        let faults = check(&workspace, &packages).unwrap();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    /// A crate that nobody brings in would never be found.
    #[test]
    fn what_a_build_lacks_is_there_with_the_feature() {
        let workspace = Workspace::find().unwrap();
        let mut cargo = process::cargo_apart(&workspace.root);
        cargo.args(["tree", "--locked", "--edges", "normal", "--prefix", "none"]);
        let tree = process::output(cargo.args(["--package", "sinew", "--all-features"])).unwrap();
        for name in BUILDS.iter().flat_map(|build| build.lacks) {
            assert!(present(&tree, &[name]).next().is_some(), "{name}");
        }
    }
}
