//! Instructions of a load, by running it under valgrind's callgrind.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{Load, Measured, limits::Count};

/// The program with the loads, beside the one that runs.
const PROGRAM: &str = "sinew-guards-load";

/// Operations of the shorter of two runs. Callgrind is about 50 times slower than the machine.
fn operations(load: Load) -> usize {
    match load {
        Load::Unary1 | Load::Typed | Load::Local => 1_000,
        Load::Unary64 => 6_400,
        Load::Stream | Load::TypedItems | Load::LocalItems => 100,
        // The exporter of metrics calibrates a clock at the start, which takes a few million
        // instructions more or less from run to run: that many operations make them a hundredth.
        Load::TypedOn => 8_000,
        Load::TypedItemsOn => 400,
        // One rhythm of credit.
        Load::Pass => 512,
    }
}

/// Where callgrind is, and where its profiles go.
#[derive(Debug, Clone)]
pub struct Callgrind {
    /// The program `valgrind`.
    pub valgrind: PathBuf,
    /// The folder for the profiles, which `callgrind_annotate` reads; it is made.
    pub profiles: PathBuf,
}

impl Callgrind {
    /// Counts the instructions of a load.
    ///
    /// It runs twice, the second time with twice as many operations: the difference is what the
    /// operations cost without the start, the warm-up and the end of the program.
    ///
    /// # Errors
    /// Valgrind cannot be started, or the load failed under it.
    pub fn count(&self, load: Load) -> Result<Measured> {
        fs::create_dir_all(&self.profiles)
            .with_context(|| format!("making {}", self.profiles.display()))?;
        let once = operations(load);
        let (short, long) = thread::scope(|scope| {
            let short = scope.spawn(|| self.run(load, once));
            let long = self.run(load, 2 * once);
            (short.join(), long)
        });
        let short = short.map_err(|_| anyhow::anyhow!("the thread of a run panicked"))??;
        let difference = long?.checked_sub(short).context("more operations took less")?;
        Ok(Measured::new(load, Count::Instructions, difference as f64 / once as f64))
    }

    fn run(&self, load: Load, operations: usize) -> Result<u64> {
        let program = std::env::current_exe()?.with_file_name(PROGRAM);
        ensure!(program.exists(), "{} was not built", program.display());
        let profile = self.profiles.join(format!("{load}-{operations}.callgrind"));
        let output = Command::new(&self.valgrind)
            // Neither a file of options in somebody's home, nor a debugger's pipes.
            .args(["--tool=callgrind", "--command-line-only=yes", "--vgdb=no"])
            .arg(format!("--callgrind-out-file={}", profile.display()))
            .arg(&program)
            .args([load.name(), &operations.to_string()])
            // Variables change what the loader, the allocator and valgrind do.
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("starting {}", self.valgrind.display()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{load} under callgrind ended with {}:\n{said}", output.status);
        }
        instructions(&profile)
    }
}

fn instructions(profile: &Path) -> Result<u64> {
    let text = fs::read_to_string(profile)
        .with_context(|| format!("reading the profile {}", profile.display()))?;
    total(&text).with_context(|| format!("{} has no total", profile.display()))
}

/// What a profile says about the whole program.
fn total(profile: &str) -> Option<u64> {
    profile.lines().rev().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_of_a_profile_is_found() {
        let profile = "# callgrind format\nevents: Ir\nsummary: 7\n\nfn=(1)\n0 7\n\ntotals: 42\n";
        assert_eq!(total(profile), Some(42));
        assert_eq!(total("events: Ir\n"), None);
    }

    #[test]
    fn what_cannot_be_started_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let callgrind = Callgrind {
            valgrind: folder.path().join("no-such-program"),
            profiles: folder.path().join("profiles"),
        };
        let error = format!("{:#}", callgrind.count(Load::Unary1).unwrap_err());
        assert!(error.contains("was not built") || error.contains("no-such-program"), "{error}");
    }
}
