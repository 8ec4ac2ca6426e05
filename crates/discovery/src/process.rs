//! Asks the kernel whether a process of this host still runs.

use std::{fs, sync::OnceLock};

use rustix::{
    io::Errno,
    process::{Pid, test_kill_process},
};

use crate::{Instance, host_id, record::Owner};

/// This process, for others to ask about. `None` where `/proc` does not tell, or tells of another
/// process-id namespace than ours.
fn own() -> Option<Owner> {
    static OWN: OnceLock<Option<Owner>> = OnceLock::new();
    *OWN.get_or_init(read_own)
}

/// This process as the owner of an instance. A process id means something only on the host that
/// the instance names.
pub(crate) fn owner_of(instance: &Instance) -> Option<Owner> {
    let is_here = instance.host.is_some() && instance.host == host_id();
    if is_here { own() } else { None }
}

fn read_own() -> Option<Owner> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let pid = std::process::id();
    let (shown, _) = stat.split_once(' ')?;
    (shown.parse() == Ok(pid)).then_some(Owner { pid, start: parse(&stat)?.start })
}

/// What the kernel says about a process of our own host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It is there, and it is the one that is meant.
    Runs,
    /// It has provably ended.
    Ended,
    /// In doubt, such as a `/proc` that hides other users' processes.
    Unknown,
}

/// Asks after a process, completely: some 10 microseconds. Only for owners whose record names our
/// own host.
pub(crate) fn state(owner: Owner) -> State {
    if is_gone(owner) {
        return State::Ended;
    }
    // Somebody has the number. Another start time tells that it is somebody else.
    let stat = fs::read_to_string(format!("/proc/{}/stat", owner.pid)).ok();
    match stat.and_then(|stat| parse(&stat)) {
        None => State::Unknown,
        Some(it) if it.is_over || it.start != owner.start => State::Ended,
        Some(_) => State::Runs,
    }
}

/// True when nobody has the process's number any more: one system call.
pub(crate) fn is_gone(owner: Owner) -> bool {
    let number = i32::try_from(owner.pid).ok().and_then(Pid::from_raw);
    number.is_some_and(|number| test_kill_process(number) == Err(Errno::SRCH))
}

/// True when the process has provably ended. Only for owners whose record names our own host.
pub(crate) fn has_ended(owner: Owner) -> bool {
    state(owner) == State::Ended
}

struct Stat {
    start: u64,
    /// Only its parent has not looked yet.
    is_over: bool,
}

/// Reads `/proc/PID/stat`, proc_pid_stat(5).
fn parse(stat: &str) -> Option<Stat> {
    // The second field is the program's name in parentheses and may hold anything.
    let (_, after_name) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    // Field 3 of the manual page is the first here.
    let (state, threads, start) = (fields.first()?, fields.get(17)?, fields.get(19)?);
    // A process whose first thread has ended looks like a zombie while others still run.
    let is_over = matches!(*state, "Z" | "X") && threads.parse::<u32>().is_ok_and(|n| n <= 1);
    Some(Stat { start: start.parse().ok()?, is_over })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn we_live_and_whoever_had_our_number_before_does_not() {
        let own = own().unwrap();
        assert!(!has_ended(own));
        assert!(has_ended(Owner { start: own.start + 1, ..own }));
        assert!(
            !has_ended(Owner { pid: 0, start: 0 }) && !has_ended(Owner { pid: u32::MAX, start: 0 })
        );
    }

    #[test]
    fn a_child_has_ended_before_and_after_its_parent_looked() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let owner = Owner { pid: child.id(), start: parse(&stat).unwrap().start };
        assert!(!has_ended(owner));
        child.kill().unwrap();
        let limit = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !has_ended(owner) {
            assert!(std::time::Instant::now() < limit, "the killed child never became a zombie");
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(has_ended(owner));
    }

    #[test]
    fn names_with_parentheses_and_threads_without_their_first() {
        let line = |state: &str, threads: u32| {
            format!("7 (a) Z (b)) {state} 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0 4711 0")
        };
        let read = |state, threads| parse(&line(state, threads)).unwrap();
        assert_eq!(read("S", 4).start, 4711);
        assert!(!read("S", 1).is_over && read("Z", 1).is_over && !read("Z", 3).is_over);
        assert!(parse("").is_none() && parse("7 (a) S 1").is_none());
    }
}
