//! `outside`: what a user writes in a crate of its own compiles and works.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use toml::Table;

use crate::process;
use crate::workspace::Workspace;

/// The workspace of what a user writes.
const FOLDER: &str = "tests/outside";

/// Its tests, named as no member of our workspace names its own.
const TARGETS: [&str; 2] = ["--test", "outside"];

/// Test what a user of Sinew writes: a transport and a discovery, in a workspace of their own.
#[derive(Args)]
#[command(after_help = "\
What they are is in tests/outside/README.md. Words behind `--` go to the test program:
  cargo xtask outside
  cargo xtask outside -- lines")]
pub(crate) struct Options {
    /// Passed on to the test program
    #[arg(last = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    test(workspace, &options.arguments)
}

/// As part of `ci`.
pub(crate) fn all(workspace: &Workspace) -> Result<()> {
    test(workspace, &[])
}

/// Looks at the workspace as it is, and runs its tests as those of one more member of ours.
///
/// Cargo knows a crate by its path below the root of its workspace, and by its features. In a
/// workspace of its own each of our crates is another one, and of what we depend on much has fewer
/// features: most would be compiled once more, which takes a minute. As members, and with the features
/// of all, they are what the other tests have compiled.
fn test(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let folder = workspace.root.join(FOLDER);
    let mut metadata = process::cargo(&folder);
    // Says what a dependency lacks, and whether the lock file is current.
    process::output(metadata.args(["metadata", "--format-version=1", "--locked"]))?;
    let joined = join(&workspace.root, &workspace.target().join("outside"))?;
    let mut cargo = process::cargo(&joined);
    cargo.args(["test", "--offline", "--workspace", "--all-features"]).args(TARGETS);
    cargo.arg("--target-dir").arg(workspace.target());
    process::run(cargo.arg("--").args(arguments))
}

/// Makes `place` the root of a workspace that has the members of ours, through links, and this one.
fn join(root: &Path, place: &Path) -> Result<PathBuf> {
    if place.exists() {
        fs::remove_dir_all(place)?;
    }
    let member = place.join("outside");
    fs::create_dir_all(&member)?;
    let ours = fs::read_to_string(root.join("Cargo.toml"))?;
    for folder in folders(&ours)? {
        symlink(root.join(&folder), place.join(&folder))?;
    }
    fs::write(place.join("Cargo.toml"), with_member(&ours))?;
    // Cargo adds the one more package, which brings in nothing that ours do not.
    fs::copy(root.join("Cargo.lock"), place.join("Cargo.lock"))?;
    let folder = root.join(FOLDER);
    let manifest = fs::read_to_string(folder.join("Cargo.toml"))?;
    fs::write(member.join("Cargo.toml"), as_member(&manifest))?;
    for part in ["src", "tests"] {
        symlink(folder.join(part), member.join(part))?;
    }
    Ok(place.to_owned())
}

/// The folders of the root that the members of a workspace are in.
fn folders(manifest: &str) -> Result<Vec<String>> {
    let manifest: Table = manifest.parse()?;
    let members = manifest["workspace"].get("members").and_then(toml::Value::as_array);
    let members = members.context("the root manifest has no workspace.members")?;
    let paths = members.iter().filter_map(toml::Value::as_str);
    let mut folders: Vec<_> =
        paths.filter_map(|path| path.split('/').next()).map(str::to_owned).collect();
    folders.sort();
    folders.dedup();
    Ok(folders)
}

/// The root manifest with a member more.
fn with_member(manifest: &str) -> String {
    manifest.replacen("\nmembers = [", "\nmembers = [\"outside\", ", 1)
}

/// The manifest of a package that is no root any more, and one folder below it.
fn as_member(manifest: &str) -> String {
    manifest.replacen("\n[workspace]\n", "\n", 1).replace("\"../../crates/", "\"../crates/")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both manifests are rewritten as text, so a change of their form shows here.
    #[test]
    fn the_package_joins_our_workspace() {
        let root = Workspace::find().unwrap().root;
        let place = tempfile::tempdir().unwrap();
        let joined = join(&root, &place.path().join("outside")).unwrap();
        let read = |path: &str| -> Table {
            fs::read_to_string(joined.join(path)).unwrap().parse().unwrap()
        };
        let members = read("Cargo.toml")["workspace"]["members"].clone();
        let ours: Table = fs::read_to_string(root.join("Cargo.toml")).unwrap().parse().unwrap();
        let expected = ours["workspace"]["members"].as_array().unwrap().iter().cloned();
        let expected = std::iter::once("outside".into()).chain(expected).collect();
        assert_eq!(members, toml::Value::Array(expected));

        let package = read("outside/Cargo.toml");
        assert!(!package.contains_key("workspace"));
        let path = package["dependencies"]["sinew-net"]["path"].as_str().unwrap();
        assert!(joined.join("outside").join(path).join("Cargo.toml").exists(), "{path}");
        assert!(joined.join("outside/tests").join(TARGETS[1]).join("main.rs").exists());
    }

    /// A second target of the same name would be run as well.
    #[test]
    fn its_tests_are_the_only_ones_of_their_name() {
        for package in Workspace::find().unwrap().packages().unwrap() {
            let tests = package.directory.join("tests");
            let name = TARGETS[1];
            let is_there = tests.join(name).exists() || tests.join(format!("{name}.rs")).exists();
            assert!(!is_there, "{} has tests named `{name}`", package.name);
        }
    }
}
