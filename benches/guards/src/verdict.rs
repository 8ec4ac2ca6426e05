//! What was measured beside what is allowed.

use std::fmt;

use crate::{
    Load,
    limits::{Count, LIMITS, Limit},
};

/// One number of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    load: Load,
    count: Count,
    value: f64,
}

impl Measured {
    /// From a number per operation; what is told per item is divided.
    pub(crate) fn new(load: Load, count: Count, per_operation: f64) -> Self {
        let share = if count.is_per_item() { load.items() as f64 } else { 1.0 };
        Self { load, count, value: per_operation / share }
    }
}

/// What a run says about one line of the table.
#[derive(Debug)]
pub struct Verdict {
    limit: &'static Limit,
    /// `None` when it was not counted in this run.
    measured: Option<f64>,
}

impl Verdict {
    /// True above the limit.
    pub fn is_broken(&self) -> bool {
        self.is_comparable() && self.measured.is_some_and(|value| value > self.limit.most())
    }

    /// True when it has become so much less that the table should say so.
    pub fn is_better(&self) -> bool {
        self.is_comparable() && self.measured.is_some_and(|value| value < self.limit.least())
    }

    /// Instructions of one architecture say nothing about those of another.
    fn is_comparable(&self) -> bool {
        self.limit.count != Count::Instructions || cfg!(target_arch = "x86_64")
    }

    fn remark(&self) -> String {
        match self.measured {
            None => "  not counted".to_owned(),
            Some(_) if self.is_broken() => {
                format!("  ABOVE THE LIMIT; it was pinned as: {}", self.limit.why)
            }
            Some(_) if self.is_better() => "  well below what is pinned".to_owned(),
            Some(_) if !self.is_comparable() => "  not judged: pinned on x86-64".to_owned(),
            Some(_) => String::new(),
        }
    }
}

/// The head of a table of verdicts.
pub const HEAD: &str =
    "load            what                  per          measured     pinned      limit";

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Limit { load, count, pinned, .. } = self.limit;
        let (digits, most) = (count.digits(), self.limit.most());
        write!(f, "{load:14}  {count:20}  {:10}", self.limit.unit())?;
        match self.measured {
            Some(value) => write!(f, "  {value:>9.digits$}")?,
            None => write!(f, "  {:>9}", "-")?,
        }
        write!(f, "  {pinned:>9.digits$}  {most:>9.digits$}{}", self.remark())
    }
}

/// Sets what was measured beside each limit.
pub fn judge(measured: &[Measured]) -> Vec<Verdict> {
    LIMITS.iter().map(|limit| Verdict { limit, measured: value_of(limit, measured) }).collect()
}

fn value_of(limit: &Limit, measured: &[Measured]) -> Option<f64> {
    let found = measured.iter().find(|it| (it.load, it.count) == (limit.load, limit.count));
    found.map(|found| found.value)
}

/// The lines of the [table](LIMITS) as they stand in its source, with what was measured in place
/// of what is pinned; what was not counted stays.
pub fn source(measured: &[Measured]) -> String {
    let line = |limit: &Limit| {
        let Limit { load, count, slack, why, .. } = limit;
        let pinned = value_of(limit, measured).unwrap_or(limit.pinned);
        let digits = count.digits();
        // A number of this type is written with a point, also when no digit after it matters.
        let point = if digits == 0 { ".0" } else { "" };
        let pinned = format!("{pinned:.digits$}{point}");
        let [load, count] = [format!("{load:?},"), format!("{count:?},")];
        let slack = format!("{slack:?},");
        format!("    limit({load:13} {count:15} {pinned:>8}, {slack:14} {why:?}),\n")
    };
    LIMITS.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allocations(value: f64) -> Measured {
        Measured { load: Load::Unary1, count: Count::Allocations, value }
    }

    /// The verdict about the allocations of a call.
    fn judged(value: f64) -> Verdict {
        judge(&[allocations(value)]).swap_remove(0)
    }

    #[test]
    fn what_is_above_the_limit_is_broken_and_says_why_it_was_so() {
        let limit = &LIMITS[0];
        assert_eq!((limit.load, limit.count), (Load::Unary1, Count::Allocations));
        assert!(!judged(limit.most()).is_broken());
        let broken = judged(limit.most() + 0.001);
        assert!(broken.is_broken() && !broken.is_better());
        assert!(broken.to_string().contains(limit.why), "{broken}");
    }

    #[test]
    fn what_is_well_below_is_told_and_not_broken() {
        let limit = &LIMITS[0];
        assert!(!judged(limit.least()).is_better());
        let better = judged(limit.least() - 0.001);
        assert!(better.is_better() && !better.is_broken());
        assert!(better.to_string().ends_with("well below what is pinned"), "{better}");
    }

    #[test]
    fn what_was_not_counted_is_told() {
        let verdicts = judge(&[]);
        assert_eq!(verdicts.len(), LIMITS.len());
        assert!(verdicts.iter().all(|it| !it.is_broken() && it.to_string().ends_with("counted")));
    }

    #[test]
    fn the_source_has_what_was_measured_and_keeps_the_rest() {
        let text = source(&[allocations(7.25)]);
        let mut lines = text.lines();
        let first = lines.next().unwrap();
        assert!(
            first.starts_with("    limit(Unary1,       Allocations,       7.250, By("),
            "{first}"
        );
        let table = include_str!("limits.rs");
        assert_eq!(lines.clone().count(), LIMITS.len() - 1);
        for line in lines {
            assert!(table.contains(line), "the table should have this line:\n{line}");
        }
    }

    #[test]
    fn what_is_told_per_item_is_divided() {
        let per_stream = |count| Measured::new(Load::Stream, count, 512.0).value;
        assert_eq!(per_stream(Count::Allocations), 2.0);
        assert_eq!(per_stream(Count::Packets), 512.0);
    }
}
