//! A build that begins before its step: it takes what of the processors other steps leave, as these
//! often wait.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::{self, KillOnDrop};
use crate::steps::seconds;

/// The lowest priority, with which it costs other programs next to nothing.
const NICENESS: &str = "19";

/// One that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(3_600);

/// A build in the background. Dropping it ends the command; what that has started may go on for a
/// moment.
pub(crate) struct Ahead {
    child: KillOnDrop,
    shown: String,
    begun: Instant,
    /// The file with what it prints.
    log: PathBuf,
}

impl Ahead {
    /// Begins with `command`, which prints into the file `log`.
    pub(crate) fn begin(command: &Command, log: &Path) -> Result<Self> {
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder)?;
        }
        let output = File::create(log).with_context(|| log.display().to_string())?;
        let shown = process::show(command);
        println!("in the background: $ {shown}");
        let mut nice = at_low_priority(command);
        nice.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = nice.spawn().with_context(|| format!("could not start `{shown}`"))?;
        let (child, begun) = (KillOnDrop::new(child), Instant::now());
        Ok(Self { child, shown, begun, log: log.to_owned() })
    }

    /// Waits for its end, shows what it has printed, and fails if it has failed.
    pub(crate) fn finish(mut self) -> Result<()> {
        let waited = Instant::now();
        let mut status = None;
        process::wait_until(LIMIT, || {
            status = self.child.try_wait()?;
            Ok(status.is_some())
        })?;
        println!("$ {}   # began {} ago", self.shown, seconds(self.begun.elapsed()));
        let output = fs::read(&self.log)?;
        println!("{}", String::from_utf8_lossy(output.trim_ascii()));
        println!("it was waited for {}", seconds(waited.elapsed()));
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("`{}` ended with {status}", self.shown),
            None => bail!("`{}` did not end within {}", self.shown, seconds(LIMIT)),
        }
    }
}

/// The same command, which leaves the processors to all others and ends with us.
fn at_low_priority(command: &Command) -> Command {
    let mut nice = process::with_us(Path::new("nice"));
    nice.args([OsStr::new("-n"), OsStr::new(NICENESS), command.get_program()]);
    nice.args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        nice.current_dir(directory);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => nice.env(name, value),
            None => nice.env_remove(name),
        };
    }
    nice
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn it_runs_where_and_as_the_command_says_behind_all_others() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("logs/log");
        let mut command = shell("echo \"$(pwd) $GIVEN ${HOME-none} $(nice)\"");
        command.current_dir(folder.path()).env("GIVEN", "given").env_remove("HOME");
        Ahead::begin(&command, &log).unwrap().finish().unwrap();
        let place = fs::canonicalize(folder.path()).unwrap();
        let expected = format!("{} given none {NICENESS}\n", place.display());
        assert_eq!(fs::read_to_string(log).unwrap(), expected);
    }

    #[test]
    fn a_failure_shows_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let ahead = Ahead::begin(&shell("exit 7"), &folder.path().join("log")).unwrap();
        let error = ahead.finish().unwrap_err().to_string();
        assert!(error.contains("exit status: 7"), "{error}");
    }

    /// It holds the other end of a pipe, which is closed when it is gone.
    #[test]
    fn it_ends_when_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let script = format!("exec sleep 600 > {}", pipe.display());
        let ahead = Ahead::begin(&shell(&script), &folder.path().join("log")).unwrap();
        // Open as soon as it has opened its own end.
        let reader = File::open(&pipe).unwrap();
        drop(ahead);
        assert_eq!(io::read_to_string(reader).unwrap(), "");
    }
}
