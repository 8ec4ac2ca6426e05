//! On what, and when: a number without it says nothing.

use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Where a run took place.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Day in UTC, `YYYY-MM-DD`.
    pub date: String,
    /// Operating system and its version.
    pub system: String,
    /// The processor's own words.
    pub processor: String,
    /// Hardware threads that a process gets.
    pub cpus: usize,
    /// The compiler's version.
    pub compiler: String,
    /// The commit, and `-dirty` when the tree had changes.
    pub revision: String,
}

impl Machine {
    /// This one, now. What cannot be found out is called unknown.
    pub fn look() -> Self {
        let unknown = || "unknown".to_owned();
        Self {
            date: date(SystemTime::now()),
            system: system(),
            processor: processor().unwrap_or_else(unknown),
            cpus: thread::available_parallelism().map_or(1, usize::from),
            compiler: output("rustc", &["--version"]).unwrap_or_else(unknown),
            revision: output("git", &["describe", "--always", "--dirty"]).unwrap_or_else(unknown),
        }
    }
}

/// What ran on the machine beside the benchmark.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Share of the hardware threads that were busy before the run, of 1.
    pub before: Option<f64>,
    /// Share of them that others than the benchmark kept busy during the run.
    pub others: Option<f64>,
    /// The system's load average over a minute, before the run.
    pub average: Option<f64>,
}

/// Up to this share of the hardware threads a machine counts as idle: what a system does by itself.
const IDLE_SHARE: f64 = 0.05;

/// During a run some of the kernel's work for the benchmark is nobody's, so more is allowed.
const IDLE_SHARE_BESIDE: f64 = 0.15;

impl Load {
    /// Whether the machine was idle but for the benchmark; `None` where the system does not tell.
    pub fn is_idle(&self) -> Option<bool> {
        Some(self.before? <= IDLE_SHARE && self.others.unwrap_or(0.0) <= IDLE_SHARE_BESIDE)
    }

    /// The same in words, with what was measured.
    pub fn sentence(&self) -> String {
        let percent = |share: Option<f64>| {
            share.map_or("an unknown share".to_owned(), |it| format!("{:.0} %", it * 100.0))
        };
        let verdict = match self.is_idle() {
            Some(true) => "the machine was idle",
            Some(false) => "the machine was busy",
            None => "this system does not say how busy it was",
        };
        format!(
            "{verdict}: others had {} of its processors before the run and {} during it",
            percent(self.before),
            percent(self.others)
        )
    }
}

/// Looks at what runs beside the benchmark, from here on.
pub(crate) struct LoadWatch {
    before: Option<f64>,
    average: Option<f64>,
    begun: Option<Times>,
}

/// Times in the kernel's ticks: of all processors together, and of the children of this process
/// that have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    busy: u64,
    all: u64,
    children: u64,
}

impl LoadWatch {
    /// Watches for a while, in which the benchmark does nothing.
    pub(crate) fn start(quiet: Duration) -> Self {
        let (average, first) = (load_average(), Times::now());
        thread::sleep(quiet);
        let begun = Times::now();
        let before = first.zip(begun).and_then(|(first, begun)| begun.share_of_others(first));
        Self { before, average, begun }
    }

    /// What there was until now.
    pub(crate) fn end(self) -> Load {
        let others = self.begun.zip(Times::now());
        let others = others.and_then(|(begun, now)| now.share_of_others(begun));
        Load { before: self.before, others, average: self.average }
    }
}

impl Times {
    fn now() -> Option<Self> {
        let (busy, all) = processors(&fs::read_to_string("/proc/stat").ok()?)?;
        let children = children(&fs::read_to_string("/proc/self/stat").ok()?)?;
        Some(Self { busy, all, children })
    }

    /// What others had of the processors since; the benchmark is its children.
    fn share_of_others(self, since: Self) -> Option<f64> {
        let all = self.all.checked_sub(since.all).filter(|all| *all > 0)?;
        let own = self.children.saturating_sub(since.children);
        let others = self.busy.saturating_sub(since.busy).saturating_sub(own);
        Some(others as f64 / all as f64)
    }
}

/// Busy ticks and all ticks of all processors: what is neither idle nor waiting for a disk is busy,
/// and so is what the host took away.
fn processors(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // user, nice, system, idle, iowait, irq, softirq, steal; what follows is in the first two.
    let ticks: Vec<u64> =
        line.split_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let all: u64 = ticks.iter().sum();
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some((all - idle, all))
}

/// User and system ticks of children that were waited for, and of theirs.
fn children(stat: &str) -> Option<u64> {
    // The name in parentheses may hold spaces.
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<_> = rest.split(' ').collect();
    let (user, system) = (fields.get(13)?, fields.get(14)?);
    Some(user.parse::<u64>().ok()? + system.parse::<u64>().ok()?)
}

/// Processes that could run, averaged over the last minute, where the system tells.
pub(crate) fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

fn system() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // What a distributor appends says nothing to others.
    let version = release.trim().split('-').next().unwrap_or_default();
    format!("{} {version}", std::env::consts::OS).trim_end().to_owned()
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(": ")?.1.trim().to_owned())
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}

/// The Gregorian day, by counting years from the first of March: leap days are at their ends.
fn date(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // Days since 0000-03-01; 1970-01-01 is day 719,468.
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_do_is_told_from_what_the_benchmark_does() {
        let stat = "cpu  100 0 50 800 50 0 10 40 7 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(processors(stat), Some((200, 1_050)));
        assert_eq!(processors("intr 1 2\n"), None);
        let own = "42 (a) b) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 70 30 20 0 1 0 9 9";
        assert_eq!(children(own), Some(100), "the fields behind the name");

        let since = Times { busy: 100, all: 1_000, children: 50 };
        let now = Times { busy: 300, all: 2_000, children: 230 };
        assert_eq!(now.share_of_others(since), Some(0.02));
        assert_eq!(since.share_of_others(since), None, "no time has passed");
    }

    #[test]
    fn a_machine_is_idle_when_others_had_little_of_it() {
        let load = |before, others| Load { before, others, average: None };
        assert_eq!(load(Some(0.01), Some(0.02)).is_idle(), Some(true));
        assert_eq!(load(Some(0.40), Some(0.02)).is_idle(), Some(false));
        assert_eq!(load(Some(0.01), Some(0.40)).is_idle(), Some(false));
        assert_eq!(load(None, None).is_idle(), None);
        let busy = load(Some(0.404), Some(0.02)).sentence();
        assert!(busy.contains("was busy") && busy.contains("40 % of its processors"), "{busy}");
    }

    /// The children of the test program are the benchmark, as in a run.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_time_of_ended_children_is_found() {
        let before = Times::now().unwrap();
        let spin = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
        assert!(Command::new("sh").args(["-c", spin]).status().unwrap().success());
        let now = Times::now().unwrap();
        assert!(now.children > before.children && now.all > before.all);
    }

    #[test]
    fn days_are_right_around_leap_days_and_years() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (19_722, "2023-12-31"),
            (19_723, "2024-01-01"),
            (20_778, "2026-11-21"),
        ] {
            let time = UNIX_EPOCH + Duration::from_secs(days * 86_400 + 40_000);
            assert_eq!(date(time), expected);
        }
    }

    #[test]
    fn what_is_unknown_is_said_so() {
        assert_eq!(output("no-such-program-here", &[]), None);
        assert!(!Machine::look().revision.is_empty());
    }
}
