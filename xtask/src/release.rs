//! How `ci` compiles what runs as released: the command, the guards and the soak, from one set of
//! libraries.
//!
//! Cargo compiles a library once for each set of features that it is asked for. Asked for alone, the
//! guards want fewer than the command, and nearly everything would be optimised twice. Asked for with
//! the command beside them, the guards measure the code that the command has, and the command is what
//! it is alone: what the guards bring to shared libraries are derive macros that it does not use, and
//! the soak brings nothing.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::ahead::Ahead;
use crate::process;
use crate::workspace::Workspace;

/// Whose features are on: those of the command as it is installed, of the guards, and of the soak.
pub(crate) const PACKAGES: [&str; 3] = ["sinew-cli", "sinew-guards", "sinew-soak"];

/// All that the steps of `ci` want, one after another.
const PROGRAMS: [&str; 4] = ["sinew", "sinew-guards", "sinew-guards-load", "sinew-soak"];

/// Begins to compile in the background what `guards`, `demo` and `soak` run: they compile nothing then.
pub(crate) fn ahead(workspace: &Workspace) -> Result<Option<Ahead>> {
    let mut cargo = process::cargo(&workspace.root);
    cargo.args(arguments("release", &PROGRAMS)).arg("--locked");
    Ahead::begin(&cargo, &workspace.target().join("release-build.log")).map(Some)
}

/// Compiles `programs` with `profile`; `extra` goes to cargo.
pub(crate) fn build(
    workspace: &Workspace,
    profile: &str,
    programs: &[&str],
    extra: &[&str],
) -> Result<()> {
    let mut cargo = process::cargo(&workspace.root);
    process::run(cargo.args(arguments(profile, programs)).args(extra))
}

/// Where `program` is once it has been built with `profile`.
pub(crate) fn program(workspace: &Workspace, profile: &str, program: &str) -> PathBuf {
    workspace.target().join(profile).join(format!("{program}{}", env::consts::EXE_SUFFIX))
}

fn arguments<'a>(profile: &'a str, programs: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["build", "--profile", profile];
    arguments.extend(PACKAGES.iter().flat_map(|package| ["--package", package]));
    arguments.extend(programs.iter().flat_map(|program| ["--bin", program]));
    arguments
}

/// The program that was built, to be run at the root.
pub(crate) fn command(workspace: &Workspace, profile: &str, name: &str) -> Command {
    let mut command = Command::new(program(workspace, profile, name));
    command.current_dir(&workspace.root);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_packages_are_asked_for_whichever_program_is_wanted() {
        assert_eq!(
            arguments("release", &["sinew"]).join(" "),
            "build --profile release --package sinew-cli --package sinew-guards --package sinew-soak \
             --bin sinew"
        );
        let guards = arguments("profiling", &["sinew-guards", "sinew-guards-load"]);
        let wanted = "--bin sinew-guards --bin sinew-guards-load";
        assert!(guards.join(" ").ends_with(wanted), "{guards:?}");
        assert_eq!(&guards[3..9], &arguments("release", &["sinew"])[3..9]);
    }

    /// What the others switch on in a library of the command must not change the command: each name
    /// is a feature of a library that both use, and only the others want.
    #[test]
    fn neither_the_guards_nor_the_soak_add_anything_to_the_command() {
        let workspace = Workspace::find().unwrap();
        let features = |packages: &[&str]| {
            let mut cargo = process::cargo(&workspace.root);
            // Somebody may have told cargo to take the features of the whole workspace always.
            cargo.env_remove("CARGO_RESOLVER_FEATURE_UNIFICATION");
            cargo.args(["tree", "--locked", "--edges", "normal,no-proc-macro", "--no-dedupe"]);
            cargo.args(["--prefix", "none", "--format", "{p} [{f}]"]);
            cargo.args(packages.iter().flat_map(|package| ["--package", package]));
            process::output(&mut cargo).unwrap()
        };
        let alone = features(&PACKAGES[..1]);
        let together = features(&PACKAGES);
        let mut changed: Vec<_> = alone
            .lines()
            .filter(|line| !together.lines().any(|other| other == *line))
            .filter_map(|line| line.split(' ').next())
            .collect();
        changed.sort_unstable();
        changed.dedup();
        // `derive` alone; what is derived is code of the guards.
        assert_eq!(changed, ["zerocopy"]);
    }
}
