//! `publish`: packs every publishable crate, lowest first, and compiles what was packed.

use std::fs;

use anyhow::{Result, bail};
use clap::Args;

use crate::process;
use crate::workspace::{Kind, Package, Workspace, publishable};

/// Pack every crate in the order of its dependencies and compile it as packed.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask publish --dry-run     # uploads nothing; what CI runs
  cargo xtask publish --execute     # uploads; needs a clean checkout and `cargo login`")]
pub(crate) struct Options {
    /// Pack and compile, upload nothing
    #[arg(long)]
    dry_run: bool,
    /// Upload to crates.io, which cannot be undone
    #[arg(long, conflicts_with = "dry_run")]
    execute: bool,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    if options.dry_run {
        return dry_run(workspace);
    }
    if !options.execute {
        bail!(
            "a release on crates.io cannot be taken back. Say --dry-run to pack and compile \
             without an upload, or --execute to upload"
        );
    }
    show_order(workspace)?;
    process::run(process::cargo(&workspace.root).args(["publish", "--workspace", "--locked"]))
}

/// Uploads nothing. Uncommitted changes are fine, so that it can be run before a commit.
///
/// Cargo puts what it packs into a registry below the target directory and takes the crates from
/// there again, by name and version. It keeps what it once unpacked or compiled for that registry,
/// across runs, and our versions stay the same while the code changes: with a directory used
/// before, crates would be compiled against those of an earlier run. So each run has its own.
pub(crate) fn dry_run(workspace: &Workspace) -> Result<()> {
    show_order(workspace)?;
    let parent = workspace.root.join("target");
    fs::create_dir_all(&parent)?;
    let target = tempfile::Builder::new().prefix("publish-").tempdir_in(&parent)?;
    let mut cargo = process::cargo(&workspace.root);
    cargo.args(["publish", "--workspace", "--dry-run", "--allow-dirty", "--locked"]);
    cargo.arg("--target-dir").arg(target.path());
    process::run(&mut cargo)
}

fn show_order(workspace: &Workspace) -> Result<()> {
    let packages = workspace.packages()?;
    println!("in this order:");
    for package in order(&packages)? {
        println!("  {} {}", package.name, package.version);
    }
    Ok(())
}

/// Every publishable package after those it needs on the registry.
fn order(packages: &[Package]) -> Result<Vec<&Package>> {
    let names = publishable(packages);
    let mut waiting: Vec<&Package> =
        packages.iter().filter(|package| package.publishable).collect();
    let mut ordered: Vec<&Package> = Vec::new();
    while !waiting.is_empty() {
        let is_ready = |package: &&Package| {
            needed(package).all(|name| {
                !names.contains(name) || ordered.iter().any(|earlier| earlier.name == name)
            })
        };
        let (ready, blocked): (Vec<&Package>, Vec<&Package>) =
            waiting.into_iter().partition(is_ready);
        if ready.is_empty() {
            let names: Vec<_> = blocked.iter().map(|package| package.name.as_str()).collect();
            bail!(
                "these need each other, so none can be published first: {}. A dev-dependency \
                 without a version, `{{ path = ... }}` only, is left out when publishing and \
                 breaks the ring",
                names.join(", ")
            );
        }
        ordered.extend(ready);
        waiting = blocked;
    }
    Ok(ordered)
}

/// What the registry must know before `package`; it ignores dev-dependencies without a version.
fn needed(package: &Package) -> impl Iterator<Item = &str> {
    package
        .dependencies
        .iter()
        .filter(|dependency| dependency.local)
        .filter(|dependency| dependency.kind != Kind::Dev || dependency.has_version)
        .map(|dependency| dependency.name.as_str())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::workspace::Dependency;

    fn package(name: &str, dependencies: &[(&str, Kind, bool)]) -> Package {
        Package {
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            folder: name.to_owned(),
            directory: PathBuf::from(name),
            publishable: true,
            has_library: true,
            binaries: Vec::new(),
            dependencies: dependencies
                .iter()
                .map(|&(name, kind, has_version)| Dependency {
                    name: name.to_owned(),
                    kind,
                    local: true,
                    has_version,
                })
                .collect(),
        }
    }

    #[test]
    fn a_crate_comes_after_those_it_needs() {
        let packages = [
            package("cli", &[("facade", Kind::Normal, true)]),
            package("codec", &[]),
            package("facade", &[("codec", Kind::Normal, true)]),
        ];
        let names: Vec<_> =
            order(&packages).unwrap().iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["codec", "facade", "cli"]);
    }

    #[test]
    fn a_ring_through_tests_is_fine_without_a_version_only() {
        let ring = |has_version| {
            [
                package("codec", &[("testkit", Kind::Dev, has_version)]),
                package("testkit", &[("codec", Kind::Normal, true)]),
            ]
        };
        assert_eq!(order(&ring(false)).unwrap().len(), 2);
        assert!(order(&ring(true)).unwrap_err().to_string().contains("codec, testkit"));
    }
}
