//! What is printed in the end, and what of it is a fault.

use std::{fmt::Write, time::Duration};

use sinew_testkit::Cut;

use crate::{
    caller::Told,
    memory::{Memory, Quarters},
};

/// One group of streams and the proxies in front of its workers.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) streams: u64,
    pub(crate) items: u64,
    /// Items from one cut to the next, on average.
    pub(crate) cut_every: u64,
    pub(crate) told: Vec<Told>,
    pub(crate) cuts: Vec<Cut>,
    /// Its workers were to be replaced, and how many were.
    pub(crate) rolls: bool,
    pub(crate) replaced: usize,
    /// How many times its streams were to be moved to another transport.
    pub(crate) forced: usize,
}

impl Group {
    fn made(&self, how: Cut) -> usize {
        self.cuts.iter().filter(|cut| **cut == how).count()
    }

    /// Faults in words.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for told in &self.told {
            if !told.is_over {
                faults.push(format!("{}: not every stream has ended", self.name));
            }
            if !told.faults.is_none() {
                faults.push(format!("{}: {:?}", self.name, told.faults));
            }
            faults.extend(told.endings.iter().map(|ending| format!("{}: {ending}", self.name)));
        }
        // A run over connections that hold proves nothing.
        let expected = self.streams * self.items / self.cut_every;
        if (self.cuts.len() as u64) < expected / 2 {
            faults.push(format!(
                "{}: {} cuts where {expected} were due on average",
                self.name,
                self.cuts.len()
            ));
        }
        let moves: u64 = self.told.iter().map(|told| told.moves).sum();
        if self.rolls && (self.replaced == 0 || moves < self.streams) {
            let replaced = self.replaced;
            faults.push(format!(
                "{}: {replaced} workers were replaced, and streams moved {moves} times",
                self.name
            ));
        }
        // Moves that move nothing prove nothing. They go to and fro.
        let forced: Vec<_> = self.told.iter().map(|told| &told.forced).collect();
        let moved = |way: usize| {
            forced.iter().flat_map(|moves| moves.iter().skip(way).step_by(2)).sum::<u64>()
        };
        let are_made = forced.iter().all(|moves| moves.len() == self.forced);
        if !are_made || (self.forced > 0 && (moved(0) == 0 || moved(1) == 0)) {
            faults.push(format!("{}: {} forced moves moved {forced:?}", self.name, self.forced));
        }
        for how in Cut::ALL {
            if self.cut_every > 1_000 && self.made(how) == 0 {
                faults.push(format!("{}: no connection was cut by {how:?}", self.name));
            }
        }
        faults
    }
}

/// The table of a run, and its faults.
pub(crate) fn table(
    groups: &[Group],
    memories: &[(String, &Memory)],
    ran: (Duration, Duration),
) -> (String, Vec<String>) {
    let mut text = String::new();
    let mut faults = Vec::new();
    let mut line = |words: std::fmt::Arguments<'_>| {
        // Writing to a String cannot fail.
        let _ = text.write_fmt(format_args!("{words}\n"));
    };
    line(format_args!(
        "{:10} {:>8} {:>10} {:>6} {:>6} {:>8} {:>6} {:>8} {:>8} {:>8} {:>12} {:>11} {:>6} {:>9}",
        "streams",
        "ended",
        "items",
        "FIN",
        "RST",
        "silence",
        "lost",
        "doubled",
        "swapped",
        "damaged",
        "longest wait",
        "sent again",
        "moved",
        "transport"
    ));
    for group in groups {
        faults.extend(group.faults());
        let sum = |of: fn(&Told) -> u64| group.told.iter().map(of).sum::<u64>();
        let longest = group.told.iter().map(|told| told.longest_wait_millis).max();
        line(format_args!(
            "{:10} {:>8} {:>10} {:>6} {:>6} {:>8} {:>6} {:>8} {:>8} {:>8} {:>9} ms {:>11} {:>6} {:>9}",
            group.name,
            format!("{}/{}", sum(|told| told.ended), group.streams),
            sum(|told| told.items),
            group.made(Cut::Fin),
            group.made(Cut::Reset),
            group.made(Cut::Silence),
            sum(|told| told.faults.lost),
            sum(|told| told.faults.doubled),
            sum(|told| told.faults.swapped),
            sum(|told| told.faults.damaged),
            longest.unwrap_or(0),
            sum(|told| told.sent_again),
            sum(|told| told.moves),
            sum(|told| told.forced.iter().sum()),
        ));
    }
    line(format_args!("\n{:14} {:>15} {:>15}", "memory", "second quarter", "last quarter"));
    let mib = |bytes: f64| format!("{:.1} MiB", bytes / f64::from(1 << 20));
    for (name, memory) in memories {
        match memory.quarters(ran.0, ran.1) {
            Some(quarters) => {
                let Quarters { second, last } = quarters;
                let verdict = if quarters.is_flat() { "flat" } else { "GROWS" };
                line(format_args!("{name:14} {:>15} {:>15}  {verdict}", mib(second), mib(last)));
                if !quarters.is_flat() {
                    faults.push(format!("{name} grew from {} to {}", mib(second), mib(last)));
                }
            }
            None => line(format_args!("{name:14} {:>15} {:>15}", "-", "-")),
        }
    }
    (text, faults)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Faults;

    fn group(cuts: usize, told: Told) -> Group {
        let mut made = vec![Cut::Fin; cuts];
        made.extend([Cut::Reset, Cut::Silence]);
        Group {
            name: "g",
            streams: 2,
            items: 10_000,
            cut_every: 2_000,
            told: vec![told],
            cuts: made,
            rolls: false,
            replaced: 0,
            forced: 0,
        }
    }

    #[test]
    fn each_fault_of_a_run_is_named() {
        let good = Told { is_over: true, ..Told::default() };
        assert_eq!(group(10, good.clone()).faults(), [""; 0]);
        let faults = |group: Group| group.faults().join("; ");
        assert!(faults(group(10, Told::default())).contains("not every stream"));
        assert!(faults(group(1, good.clone())).contains("3 cuts where 10"));
        let still = Group { rolls: true, replaced: 3, ..group(10, good.clone()) };
        assert!(faults(still).contains("streams moved 0 times"));
        let unmoved = Group { forced: 2, ..group(10, Told { forced: vec![7, 0], ..good.clone() }) };
        assert!(faults(unmoved).contains("2 forced moves moved [[7, 0]]"));
        let lost = Faults { lost: 1, ..Faults::default() };
        assert!(faults(group(10, Told { faults: lost, ..good.clone() })).contains("lost: 1"));
        let mut without = group(10, good);
        without.cuts.retain(|cut| *cut != Cut::Silence);
        assert!(faults(without).contains("no connection was cut by Silence"));
    }
}
