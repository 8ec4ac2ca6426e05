//! Runs programs side by side: what each one prints is shown whole when it has ended.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::{self, KillOnDrop};
use crate::steps::seconds;

/// One program to run.
pub(crate) struct Job {
    /// What it is called in messages.
    pub(crate) name: String,
    pub(crate) command: Command,
    /// One that takes longer is stopped, and has failed.
    pub(crate) limit: Duration,
    /// The file that gets what it prints.
    pub(crate) log: PathBuf,
}

/// How one program ended.
pub(crate) struct Ended {
    pub(crate) name: String,
    pub(crate) took: Duration,
    /// Why it failed, if it did.
    pub(crate) failure: Option<String>,
    /// The file with what it has printed.
    pub(crate) log: PathBuf,
}

/// How many programs keep all cores busy, if each of them keeps one.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Runs all, beginning with the first and at most so many at a time, also when some fail.
pub(crate) fn run(jobs: Vec<Job>, at_a_time: usize) -> Vec<Ended> {
    let waiting = Mutex::new(VecDeque::from(jobs));
    let ended = Mutex::new(Vec::new());
    // A closure, so that nothing is locked while a program runs.
    let next = || lock(&waiting).pop_front();
    // Each thread outlives the programs that it starts, which would end with it.
    thread::scope(|scope| {
        for _ in 0..at_a_time {
            scope.spawn(|| {
                while let Some(job) = next() {
                    let one = run_one(job);
                    // Shown under the lock, so that no two outputs are mixed.
                    let mut ended = lock(&ended);
                    show(&one);
                    ended.push(one);
                }
            });
        }
    });
    ended.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// What is behind a lock is whole at any time, also when a thread has panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run_one(mut job: Job) -> Ended {
    let begun = Instant::now();
    let failure = to_its_end(&mut job).err().map(|error| format!("{error:#}"));
    Ended { name: job.name, took: begun.elapsed(), failure, log: job.log }
}

fn to_its_end(job: &mut Job) -> Result<()> {
    if let Some(folder) = job.log.parent() {
        fs::create_dir_all(folder)?;
    }
    let log = File::create(&job.log).with_context(|| job.log.display().to_string())?;
    job.command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let child = job.command.spawn().context("it could not be started")?;
    let mut child = KillOnDrop::new(child);
    let mut status = None;
    process::wait_until(job.limit, || {
        status = child.try_wait()?;
        Ok(status.is_some())
    })?;
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("{status}"),
        None => bail!("it did not end within {} s and was stopped", job.limit.as_secs()),
    }
}

fn show(ended: &Ended) {
    let took = seconds(ended.took);
    let verdict = match &ended.failure {
        None => format!("ok after {took}"),
        Some(failure) => format!("FAILED after {took}: {failure}"),
    };
    let output = fs::read(&ended.log).unwrap_or_default();
    let output = String::from_utf8_lossy(output.trim_ascii());
    println!("\n---- {}: {verdict}\n{output}", ended.name);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shell that runs `script`.
    fn shell(name: &str, script: &str, folder: &std::path::Path) -> Job {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let log = folder.join("logs").join(name);
        Job { name: name.to_owned(), command, limit: Duration::from_secs(60), log }
    }

    /// One waits until the other reads.
    #[test]
    fn two_programs_run_side_by_side() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let pipe = pipe.display();
        let writes = shell("writes", &format!("echo met > {pipe}"), folder.path());
        let reads = shell("reads", &format!("[ \"$(cat {pipe})\" = met ]"), folder.path());
        let ended = run(vec![writes, reads], 2);
        assert!(ended.iter().all(|one| one.failure.is_none()));
    }

    #[test]
    fn no_more_run_at_a_time_than_are_allowed_and_the_first_begins() {
        let folder = tempfile::tempdir().unwrap();
        let lines = folder.path().join("lines");
        let work = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done";
        let says = |name: &str| {
            let lines = lines.display();
            let script = format!("echo {name} >> {lines}; {work}; echo {name} >> {lines}");
            shell(name, &script, folder.path())
        };
        run(vec![says("b"), says("a"), says("c")], 1);
        let lines = fs::read_to_string(lines).unwrap();
        assert_eq!(lines.lines().collect::<String>(), "bbaacc");
    }

    #[test]
    fn each_one_that_fails_says_how_and_the_others_run_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let mut gone = shell("gone", "exit 0", folder.path());
        gone.command.current_dir("/no/such/folder");
        let mut slow = shell("slow", "exec sleep 600", folder.path());
        slow.limit = Duration::from_millis(50);
        let killed = shell("killed", "kill -9 $$", folder.path());
        let speaks = shell("speaks", "echo one; echo two >&2; exit 3", folder.path());
        let good = shell("good", "exit 0", folder.path());
        let ended = run(vec![gone, slow, killed, speaks, good], 1);
        let failures: Vec<_> = ended.iter().map(|one| one.failure.clone()).collect();
        let [Some(gone), Some(slow), Some(killed), Some(speaks), None] = &failures[..] else {
            panic!("{failures:?}");
        };
        assert!(gone.starts_with("it could not be started"), "{gone}");
        assert!(slow.contains("did not end"), "{slow}");
        assert!(killed.starts_with("signal: 9"), "{killed}");
        assert_eq!(speaks, "exit status: 3");
        assert_eq!(fs::read_to_string(&ended[3].log).unwrap(), "one\ntwo\n");
    }
}
