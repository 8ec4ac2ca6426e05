//! Checks of `ci` that are a few cargo commands each.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;
use crate::{process, release};

/// Crates that promise to stay small, and how many others each may bring in. A user of one layer
/// must not pay for the layers above; raise a number only with a reason in the commit.
const SIZE_LIMITS: &[(&str, usize)] = &[("sinew-codec", 12), ("sinew-mux", 20)];

/// Features that users choose, where they are neither none nor all. Each of these has to compile,
/// with its tests.
const COMBINATIONS: &[(&str, &str)] =
    &[("sinew", "dynamo"), ("sinew", "nats"), ("sinew", "dynamo,nats"), ("sinew-cli", "nats")];

/// Its tests pass in a build without default features too, which does not speak Dynamo.
const WITHOUT_DYNAMO: &str = "sinew";

/// What a plain `cargo run` at the root starts.
const COMMAND: &str = "sinew";

/// What the README promises of the command with its default features, built for release.
const COMMAND_LIMIT_BYTES: u64 = 15_000_000;

/// The demo ends by itself within seconds; a loaded machine gets much more.
const DEMO_LIMIT: Duration = Duration::from_secs(180);

/// Workspaces of their own in this repository, whose code is formatted as ours.
const OTHERS: &[&str] =
    &["benches/peers", "benches/peers/dynamo", "fuzz", "tests/interop-dynamo", "tests/outside"];

pub(crate) fn fmt(workspace: &Workspace) -> Result<()> {
    process::run(process::cargo(&workspace.root).args(["fmt", "--all", "--check"]))?;
    for folder in OTHERS {
        let mut cargo = process::cargo(&workspace.root.join(folder));
        process::run(cargo.args(["fmt", "--check"]))?;
    }
    Ok(())
}

/// With the same features as the tests, so that both look at the same code.
pub(crate) fn clippy(workspace: &Workspace) -> Result<()> {
    let mut cargo = process::cargo(&workspace.root);
    cargo.args(["clippy", "--locked", "--workspace", "--all-targets", "--all-features"]);
    process::run(cargo.args(["--", "-D", "warnings"]))
}

/// Libraries and programs as a plain `cargo doc` has them, and examples: with these, cargo takes the
/// features that tests want of what we depend on, and so what `clippy` has looked at already.
pub(crate) fn docs(workspace: &Workspace) -> Result<()> {
    let mut cargo = process::cargo(&workspace.root);
    cargo.args(["doc", "--locked", "--workspace", "--all-features", "--no-deps"]);
    cargo.args(["--lib", "--examples"]);
    for program in workspace.documented_programs()? {
        cargo.args(["--bin", &program]);
    }
    process::run(cargo.env("RUSTDOCFLAGS", "-D warnings"))
}

/// In the whole workspace, one member's features are on for all; alone, a missing one shows.
pub(crate) fn alone(workspace: &Workspace) -> Result<()> {
    let run = |command: &str, package: &str, arguments: &[&str]| {
        let mut cargo = process::cargo_apart(&workspace.root);
        cargo.args([command, "--quiet", "--locked", "--package", package]);
        process::run(cargo.arg("--no-default-features").args(arguments))
    };
    for package in workspace.packages()?.iter().filter(|package| package.has_library) {
        run("check", &package.name, &["--lib"])?;
    }
    for (package, features) in COMBINATIONS {
        run("check", package, &["--all-targets", "--features", features])?;
    }
    run("test", WITHOUT_DYNAMO, &["--lib"])
}

pub(crate) fn size(workspace: &Workspace) -> Result<()> {
    let mut failed = false;
    for (package, limit) in SIZE_LIMITS {
        let mut cargo = process::cargo(&workspace.root);
        cargo.args(["tree", "--locked", "--edges", "normal", "--prefix", "none"]);
        let tree = process::output(cargo.args(["--package", package]))?;
        let names = crates_in(&tree, package);
        println!("{package} brings in {} crates, at most {limit} are allowed", names.len());
        if names.len() > *limit {
            failed = true;
            println!("  {}", names.into_iter().collect::<Vec<_>>().join(" "));
        }
    }
    if failed {
        bail!(
            "a small crate has grown; find out why with `cargo tree -p CRATE -e normal`, and put \
             what is optional behind a feature"
        );
    }
    Ok(())
}

/// Names and versions in the output of `cargo tree --prefix none`, without `package` itself.
fn crates_in<'t>(tree: &'t str, package: &str) -> BTreeSet<&'t str> {
    tree.lines()
        .map(|line| line.split(" (").next().unwrap_or(line).trim())
        .filter(|line| !line.is_empty() && line.split(' ').next() != Some(package))
        .collect()
}

/// What the first command in the README runs has to work, and to be no larger than the README says.
pub(crate) fn demo(workspace: &Workspace) -> Result<()> {
    const PROFILE: &str = "release";
    release::build(workspace, PROFILE, &[COMMAND], &["--locked"])?;
    let program = release::program(workspace, PROFILE, COMMAND);
    let bytes = fs::metadata(&program).with_context(|| program.display().to_string())?.len();
    println!("{}", within_limit(bytes)?);
    let mut demo = release::command(workspace, PROFILE, COMMAND);
    process::run_within(demo.arg("demo"), DEMO_LIMIT)
}

/// What the size of the command is, unless it is over the limit.
fn within_limit(bytes: u64) -> Result<String> {
    let text = format!("the command has {:.1} MB", bytes as f64 / 1e6);
    if bytes >= COMMAND_LIMIT_BYTES {
        let limit = COMMAND_LIMIT_BYTES / 1_000_000;
        bail!(
            "{text}, which is not under {limit}: see what [profile.release] keeps beside the code, \
             and what has come in with `cargo tree -p sinew-cli`"
        );
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_is_too_large_is_refused() {
        assert_eq!(within_limit(13_250_000).unwrap(), "the command has 13.2 MB");
        let refusal = within_limit(54_000_000).unwrap_err().to_string();
        assert!(refusal.contains("54.0 MB, which is not under 15"), "{refusal}");
    }

    /// `cargo run --release -- demo`, as the README has it, needs a default, and only one.
    #[test]
    fn a_plain_cargo_run_starts_what_the_demo_is_run_with() {
        let workspace = Workspace::find().unwrap();
        let manifest: toml::Table =
            fs::read_to_string(workspace.root.join("Cargo.toml")).unwrap().parse().unwrap();
        let members = manifest["workspace"]["default-members"].as_array().unwrap();
        assert_eq!(members.len(), 1);
        let folder = workspace.root.join(members[0].as_str().unwrap());
        let packages = workspace.packages().unwrap();
        let package = packages.iter().find(|package| package.directory == folder).unwrap();
        assert_eq!(package.binaries, [COMMAND]);
        assert!(release::PACKAGES.contains(&package.name.as_str()), "{}", package.name);
        let readme = fs::read_to_string(workspace.root.join("README.md")).unwrap();
        assert!(readme.contains("cargo run --release -- demo"));
    }

    /// What makes a release binary large is what is kept beside the code: without line tables it is
    /// a quarter of what it is with them.
    #[test]
    fn a_release_has_no_line_tables_and_a_profile_has_them() {
        let root = crate::workspace::Workspace::find().unwrap().root;
        let manifest: toml::Table =
            fs::read_to_string(root.join("Cargo.toml")).unwrap().parse().unwrap();
        let profile = |name: &str, key: &str| manifest["profile"][name].get(key).cloned();
        assert_eq!(profile("release", "debug"), Some(false.into()));
        assert_eq!(profile("release", "strip"), Some("debuginfo".into()));
        let command = &manifest["profile"]["release"]["package"]["sinew-cli"];
        assert_eq!(command["strip"], toml::Value::from("symbols"));
        assert_eq!(profile("profiling", "inherits"), Some("release".into()));
        assert_eq!(profile("profiling", "debug"), Some("line-tables-only".into()));
    }

    #[test]
    fn a_crate_that_is_reached_twice_counts_once() {
        let tree = "a v0.1.0 (crates/a)\nserde v1.0.1\nserde_derive v1.0.1 (proc-macro)\n\
                    serde v1.0.1 (*)\n";
        let names: Vec<_> = crates_in(tree, "a").into_iter().collect();
        assert_eq!(names, ["serde v1.0.1", "serde_derive v1.0.1"]);
    }
}
