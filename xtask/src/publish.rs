//! `publish`: packs every publishable crate, lowest first, and compiles what was packed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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
/// Cargo itself would compile each packed crate in a workspace of its own, with features of its own,
/// and so build most of what we depend on once for each of them. Here the packed crates are one
/// workspace, which shares what other steps have built; that each crate has all features that it
/// needs is the step `alone`.
pub(crate) fn dry_run(workspace: &Workspace) -> Result<()> {
    show_order(workspace)?;
    let target = workspace.root.join("target/publish");
    // Cargo keeps what it packed before, by name and version, and our versions stay the same.
    if target.exists() {
        fs::remove_dir_all(&target)?;
    }
    let mut cargo = process::cargo(&workspace.root);
    cargo.args(["package", "--no-verify", "--allow-dirty", "--locked"]);
    let packages = workspace.packages()?;
    for package in order(&packages)? {
        cargo.args(["--package", &package.name]);
    }
    process::run(cargo.arg("--target-dir").arg(&target))?;
    let packed = unpack(&packages, &workspace.root, &target)?;
    let mut cargo = process::cargo(&packed);
    cargo.args(["check", "--workspace", "--all-features", "--target-dir"]);
    process::run(cargo.arg(workspace.target()))
}

/// Unpacks what was packed, and makes one workspace of it in which the crates find each other.
fn unpack(packages: &[Package], root: &Path, target: &Path) -> Result<PathBuf> {
    let folder = target.join("unpacked");
    fs::create_dir_all(&folder)?;
    let names: Vec<_> = order(packages)?
        .iter()
        .map(|package| (package.name.as_str(), format!("{}-{}", package.name, package.version)))
        .collect();
    for (_, name) in &names {
        let archive = target.join("package").join(format!("{name}.crate"));
        // Every file in the archive has the same old time, and cargo goes by times.
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--gzip", "--touch", "--directory"]).arg(&folder);
        process::run(tar.arg("--file").arg(archive))?;
    }
    fs::write(folder.join("Cargo.toml"), manifest(&names))?;
    fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock"))?;
    Ok(folder)
}

/// The manifest of a workspace of packed crates, each a name and a folder. Its profile is that of
/// our workspace, so that what was compiled for that is not compiled again.
fn manifest(names: &[(&str, String)]) -> String {
    let mut text = "[workspace]\nresolver = \"3\"\nmembers = [\"*-*\"]\n\n\
                    [profile.dev]\ndebug = \"line-tables-only\"\n\n\
                    [profile.dev.package.\"*\"]\ndebug = false\n\n[patch.crates-io]\n"
        .to_owned();
    for (name, folder) in names {
        text.push_str(&format!("{name} = {{ path = \"{folder}\" }}\n"));
    }
    text
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
pub(crate) fn order(packages: &[Package]) -> Result<Vec<&Package>> {
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
    fn packed_crates_find_each_other() {
        let text = manifest(&[("codec", "codec-0.1.0".to_owned())]);
        let table: toml::Table = text.parse().unwrap();
        let path = &table["patch"]["crates-io"]["codec"]["path"];
        assert_eq!(path.as_str(), Some("codec-0.1.0"));
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
