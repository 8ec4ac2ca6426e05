//! The guard's own process: it waits for its worker's end, and then ends what is left.

use std::{
    collections::HashSet,
    fs,
    io::{BufRead, stdin},
    thread::sleep,
    time::{Duration, Instant},
};

use clap::Args;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

use super::WORKER_VARIABLE;

/// How often it is looked whether something is left; doubled from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// How long SIGKILL is repeated for what forks faster than it is found.
const KILLING: Duration = Duration::from_secs(3);

/// The arguments of a guard, which its worker gives it.
#[derive(Debug, Args)]
pub(crate) struct GuardArgs {
    /// What the worker's programs carry in their environment.
    mark: String,
    /// Between SIGTERM and SIGKILL, in milliseconds.
    grace: u64,
}

/// Reads what runs until the worker ends, and then ends it. Its exit code.
pub(crate) fn run(args: &GuardArgs) -> i32 {
    // A mark that is too short would be found in processes of others.
    if args.mark.len() != 32 || !args.mark.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return 2;
    }
    // Out of the reach of the terminal. It fails for the leader of a group, which is as well.
    let _ = rustix::process::setsid();
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_name(c"serve-guard");
    let mut groups = HashSet::new();
    for line in stdin().lock().lines() {
        let Ok(line) = line else { break };
        note(&line, &mut groups);
    }
    sweep(&args.mark, groups, Duration::from_millis(args.grace));
    0
}

/// One line of the worker: `+` and a group that runs, `-` and one that has ended.
fn note(line: &str, groups: &mut HashSet<Pid>) {
    let (Some(sign), Some(number)) = (line.get(..1), line.get(1..)) else { return };
    // 1 and below are no group of a program.
    let number = number.parse().ok().filter(|number| *number > 1);
    let Some(group) = number.and_then(Pid::from_raw) else { return };
    match sign {
        "+" => groups.insert(group),
        _ => groups.remove(&group),
    };
}

/// Asks everything that is left to end, and ends it after `grace`.
fn sweep(mark: &str, groups: HashSet<Pid>, grace: Duration) {
    let marked = format!("{WORKER_VARIABLE}={mark}");
    let begun = Instant::now();
    let mut left: HashSet<Pid> = groups;
    let mut asked = HashSet::new();
    let mut pause = PAUSES.0;
    loop {
        let late = begun.elapsed() >= grace;
        let signal = if late { Signal::KILL } else { Signal::TERM };
        left.retain(|group| test_kill_process_group(*group).is_ok());
        for group in &left {
            if late || asked.insert(*group) {
                let _ = kill_process_group(*group, signal);
            }
        }
        let found =
            signal_marked(marked.as_bytes(), |pid| (late || asked.insert(pid)).then_some(signal));
        if (left.is_empty() && found == 0) || begun.elapsed() >= grace + KILLING {
            return;
        }
        sleep(pause);
        pause = (2 * pause).min(PAUSES.1);
    }
}

/// Sends each process that carries the mark the signal that `choose` names for it, if any. How
/// many there are.
#[cfg(target_os = "linux")]
fn signal_marked(mark: &[u8], mut choose: impl FnMut(Pid) -> Option<Signal>) -> usize {
    use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

    let Ok(entries) = fs::read_dir("/proc") else { return 0 };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut count = 0;
    for pid in numbers.filter_map(Pid::from_raw) {
        // Opened before it is read: the number may be given to another process meanwhile.
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        let path = format!("/proc/{}/environ", pid.as_raw_nonzero());
        let Ok(environment) = fs::read(path) else { continue };
        if !environment.split(|byte| *byte == 0).any(|variable| variable == mark) {
            continue;
        }
        count += 1;
        if let Some(signal) = choose(pid) {
            let _ = pidfd_send_signal(&process, signal);
        }
    }
    count
}

/// Where processes do not show their environment, the groups are all that is known.
#[cfg(not(target_os = "linux"))]
fn signal_marked(_: &[u8], _: impl FnMut(Pid) -> Option<Signal>) -> usize {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_noted_and_nonsense_is_not() {
        let mut groups = HashSet::new();
        for line in ["+20", "+21", "-20", "", "+", "+x", "+0", "+1", "+-5", "é", "-99"] {
            note(line, &mut groups);
        }
        assert_eq!(groups, HashSet::from([Pid::from_raw(21).unwrap()]));
    }

    #[test]
    fn a_mark_that_could_be_anyones_is_refused() {
        for mark in ["", "1", "zz345678901234567890123456789012"] {
            assert_eq!(run(&GuardArgs { mark: mark.to_owned(), grace: 0 }), 2);
        }
    }
}
