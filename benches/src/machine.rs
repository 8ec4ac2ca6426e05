//! On what, and when: a number without it says nothing.

use std::{
    fs,
    process::Command,
    thread,
    time::{SystemTime, UNIX_EPOCH},
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
    use std::time::Duration;

    use super::*;

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
