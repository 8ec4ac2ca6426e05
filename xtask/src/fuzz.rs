//! `fuzz`: libFuzzer on the stable toolchain, over a scratch copy of each corpus.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;

use crate::ahead::Ahead;
use crate::process;
use crate::side_by_side::{self, Job};
use crate::tools::{self, CXX};
use crate::workspace::{self, Workspace};

/// Coverage for libFuzzer as `cargo fuzz` asks for it, spelled for a stable compiler. Only code
/// for the given `--target` gets it: build scripts would not link with it.
const INSTRUMENTED: &str = "-Cpasses=sancov-module \
                            -Cllvm-args=-sanitizer-coverage-level=4 \
                            -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                            -Cllvm-args=-sanitizer-coverage-pc-table \
                            -Cdebug-assertions \
                            --cfg fuzzing";

/// How long each target gets in `ci`, in seconds: enough to run the corpus and some mutations.
const BRIEF_SECONDS: u64 = 10;

/// On top of the wished time: reading a large corpus, and writing a report after a crash.
const OVERTIME: Duration = Duration::from_secs(60);

/// A single input that takes longer, in seconds, or more memory, in MiB, is a finding.
const INPUT_SECONDS: u32 = 10;
const MEMORY_MIB: u32 = 1024;

/// Fuzz the decoders for a bounded time; fails on a crash and says where the input is.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask fuzz                              # every target, 30 s each
  cargo xtask fuzz mux_frames --seconds 600     # one target for ten minutes

Needs g++, as libFuzzer is C++. The corpus in fuzz/corpus/TARGET is copied and not changed; an
input that crashes is left in fuzz/artifacts/TARGET.")]
pub(crate) struct Options {
    /// Name of one target; all, if left out
    target: Option<String>,
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = 30)]
    seconds: u64,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    fuzz(workspace, options.target.as_deref(), options.seconds)
}

/// As part of `ci`.
pub(crate) fn briefly(workspace: &Workspace) -> Result<()> {
    fuzz(workspace, None, BRIEF_SECONDS)
}

fn fuzz(workspace: &Workspace, target: Option<&str>, seconds: u64) -> Result<()> {
    let folder = workspace.root.join("fuzz");
    let known = targets(workspace, &folder)?;
    let chosen: Vec<String> = match target {
        None => known,
        Some(target) if known.iter().any(|name| name == target) => vec![target.to_owned()],
        Some(target) => {
            bail!("there is no target `{target}`; the targets are {}", known.join(", "))
        }
    };
    tools::ensure(&[CXX])?;
    let programs = build(workspace, &folder, &chosen)?;
    let job = |target: &String| job(workspace, &folder, &programs.join(target), target, seconds);
    let jobs: Vec<Job> = chosen.iter().map(job).collect::<Result<_>>()?;
    let failed: Vec<_> = run_all(jobs)
        .into_iter()
        .map(|(target, failure)| advice(workspace, &folder, &programs, &target, &failure))
        .collect();
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    println!("{} fuzz targets ran for {seconds} s each without a crash", chosen.len());
    Ok(())
}

fn targets(workspace: &Workspace, folder: &Path) -> Result<Vec<String>> {
    if !folder.join("Cargo.toml").exists() {
        bail!("there is no {}/Cargo.toml", workspace.relative(folder));
    }
    let mut cargo = process::cargo(folder);
    let text = process::output(cargo.args(["metadata", "--no-deps", "--format-version=1"]))?;
    let packages = workspace::packages(&serde_json::from_str(&text)?)?;
    Ok(packages.into_iter().flat_map(|package| package.binaries).collect())
}

/// Begins to build all targets in the background.
pub(crate) fn ahead(workspace: &Workspace) -> Result<Option<Ahead>> {
    let folder = workspace.root.join("fuzz");
    tools::ensure(&[CXX])?;
    let cargo = cargo_build(workspace, &folder, &targets(workspace, &folder)?)?;
    Ahead::begin(&cargo, &workspace.target().join("fuzz/build.log")).map(Some)
}

/// Returns the folder of the programs.
fn build(workspace: &Workspace, folder: &Path, targets: &[String]) -> Result<PathBuf> {
    process::run(&mut cargo_build(workspace, folder, targets)?)?;
    Ok(workspace.target().join("fuzz").join(process::host_triple()?).join("release"))
}

fn cargo_build(workspace: &Workspace, folder: &Path, targets: &[String]) -> Result<Command> {
    let host = process::host_triple()?;
    let produced = workspace.target().join("fuzz");
    let mut cargo = process::cargo(folder);
    cargo.args(["build", "--release", "--target", &host, "--target-dir"]).arg(&produced);
    for target in targets {
        cargo.args(["--bin", target]);
    }
    cargo.env("RUSTFLAGS", INSTRUMENTED).env_remove("CARGO_ENCODED_RUSTFLAGS");
    Ok(cargo)
}

fn job(
    workspace: &Workspace,
    folder: &Path,
    program: &Path,
    target: &str,
    seconds: u64,
) -> Result<Job> {
    let produced = workspace.target().join("fuzz");
    let scratch = produced.join("corpus").join(target);
    copy_corpus(&folder.join("corpus").join(target), &scratch)?;
    fs::create_dir_all(folder.join("artifacts").join(target))?;
    let mut command = process::with_us(program);
    command
        .current_dir(folder)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={INPUT_SECONDS}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
        .arg(format!("-artifact_prefix=artifacts/{target}/"))
        // Each new path found is a line of its own otherwise, thousands of them.
        .arg("-verbosity=0")
        .arg("-print_final_stats=1")
        .arg(&scratch);
    Ok(Job {
        name: target.to_owned(),
        command,
        limit: Duration::from_secs(seconds) + OVERTIME,
        log: produced.join("logs").join(target),
    })
}

/// Runs them, and returns those that failed, and how. Who fuzzes one target watches it.
fn run_all(mut jobs: Vec<Job>) -> Vec<(String, String)> {
    if let [job] = &mut jobs[..] {
        let failure = process::run_within(&mut job.command, job.limit).err();
        return failure.map(|error| (job.name.clone(), format!("{error:#}"))).into_iter().collect();
    }
    // A target keeps one core busy.
    let ended = side_by_side::run(jobs, side_by_side::cores());
    ended.into_iter().filter_map(|one| Some((one.name, one.failure?))).collect()
}

/// What to do about a target that failed.
fn advice(
    workspace: &Workspace,
    folder: &Path,
    programs: &Path,
    target: &str,
    failure: &str,
) -> String {
    format!(
        "{target} failed: {failure}; if an input did it, that input is in {}, and `{} FILE` runs it \
         again",
        workspace.relative(&folder.join("artifacts").join(target)),
        workspace.relative(&programs.join(target))
    )
}

/// libFuzzer adds to the corpus that it is given, so it is given a copy.
fn copy_corpus(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::create_dir_all(to)?;
    if from.exists() {
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_is_copied_and_what_was_found_before_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("corpus"), folder.path().join("scratch"));
        fs::create_dir_all(&from).unwrap();
        fs::create_dir_all(&to).unwrap();
        fs::write(from.join("seed"), "a").unwrap();
        fs::write(to.join("found"), "b").unwrap();

        copy_corpus(&from, &to).unwrap();

        assert!(to.join("seed").exists() && !to.join("found").exists());
    }
}
