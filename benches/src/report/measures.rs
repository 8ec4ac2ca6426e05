//! What is read from the samples: which metric of which workload, in which unit.

use super::catalogue::{GROUPS, STANDARD, VARIANTS, VARIED};
use crate::{Workload, variation::Variation};

/// Workloads that are told together.
#[derive(Debug)]
pub(crate) struct Group {
    /// The part of their names before the dash.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// What is done, in the report, with `{body}` and `{item}` for sizes.
    pub(super) about: &'static str,
}

impl Group {
    /// What is done, with the sizes of this run.
    pub(crate) fn about(&self, variation: &Variation) -> String {
        let about = self.about.replace("{body}", &exactly(variation.body_bytes()));
        about.replace("{item}", &exactly(variation.item_bytes()))
    }
}

/// One table of the report.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measure {
    pub(crate) workload: &'static str,
    pub(crate) metric: &'static str,
    /// Without what is said of the workload, see [`Measure::title`].
    pub(super) title: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) told: Told,
}

/// Where the report tells a measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// In a table of its own, with all peers.
    ByPeer,
    /// Beside the others of pooled and unpooled call-home.
    Pooled,
    Both,
}

impl Told {
    pub(crate) fn by_peer(self) -> bool {
        self != Self::Pooled
    }

    pub(crate) fn pooled(self) -> bool {
        self != Self::ByPeer
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Lower,
    Higher,
}

impl Better {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Lower => "lower is better",
            Self::Higher => "higher is better",
        }
    }
}

/// The measures of a workload. The first stands for it in short.
pub(crate) fn of(workload: &Workload) -> Vec<Measure> {
    let of = |name: &str, measures: &[Measure]| -> Vec<Measure> {
        let of_name = measures.iter().filter(|measure| measure.workload == name);
        of_name.map(|measure| Measure { workload: workload.name, ..*measure }).collect()
    };
    let standard = of(workload.name, STANDARD);
    if standard.is_empty() { of(group_of(workload.name), VARIED) } else { standard }
}

fn group_of(workload: &str) -> &str {
    workload.split('-').next().unwrap_or(workload)
}

impl Measure {
    /// Of a standard workload.
    pub(crate) fn find(workload: &str, metric: &str) -> Option<&'static Self> {
        STANDARD.iter().find(|measure| measure.workload == workload && measure.metric == metric)
    }

    pub(crate) fn group(&self) -> Option<&'static Group> {
        GROUPS.iter().find(|known| known.name == group_of(self.workload))
    }

    /// What is measured, within its group: `64 callers, requests per second`.
    pub(crate) fn title(&self) -> String {
        let variant = VARIANTS.iter().find(|(workload, _)| *workload == self.workload);
        let callers = || self.workload.split_once('-')?.1.parse().ok();
        match (variant, callers()) {
            (Some((_, variant)), _) => format!("{variant}, {}", self.title),
            (None, Some(1)) => format!("1 caller, {}", self.title),
            (None, Some::<u32>(callers)) => format!("{callers} callers, {}", self.title),
            (None, None) => self.title.to_owned(),
        }
    }

    /// Group and title, for where the measure stands alone.
    pub(crate) fn full_title(&self) -> String {
        let group = self.group().map_or(self.workload, |group| group.title);
        format!("{group}: {}", self.title())
    }

    /// A value as it is read: `17.2 µs`, `400 k/s`.
    pub(crate) fn with_unit(&self, value: f64) -> String {
        match self.unit {
            "µs" if value >= 9_995.0 => format!("{} ms", number(value / 1e3)),
            // Its title says of what.
            "connections" => format!("{value:.0}"),
            // Cut off and not rounded: what is not all must not read as all.
            "%" => format!("{:.2} %", (value * 100.0).floor() / 100.0),
            unit if unit.starts_with('/') || unit.is_empty() => number(value) + unit,
            unit => format!("{} {unit}", number(value)),
        }
    }
}

/// A size in full.
pub(crate) fn exactly(bytes: u32) -> String {
    if bytes < 1_000 {
        format!("{bytes} B")
    } else {
        format!("{},{:03} B", bytes / 1_000, bytes % 1_000)
    }
}

/// A ratio; thousandths where hundredths would read as nothing: 4 connections of 1,000.
pub(crate) fn share(ratio: f64) -> String {
    if ratio < 0.01 { format!("{ratio:.3}") } else { number(ratio) }
}

/// Three digits or so.
pub(crate) fn number(value: f64) -> String {
    match value {
        value if value >= 999_500.0 => format!("{:.2} M", value / 1e6),
        value if value >= 99_950.0 => format!("{:.0} k", value / 1e3),
        value if value >= 9_995.0 => format!("{:.1} k", value / 1e3),
        value if value >= 999.5 => {
            let whole = value.round() as u64;
            format!("{},{:03}", whole / 1000, whole % 1000)
        }
        value if value >= 99.95 => format!("{value:.0}"),
        value if value >= 9.995 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Shape, workload};

    #[test]
    fn numbers_have_about_three_digits() {
        for (value, expected) in [
            (0.031, "0.03"),
            (9.994, "9.99"),
            (17.25, "17.2"),
            (99.96, "100"),
            (1_350.2, "1,350"),
            (1_005.0, "1,005"),
            (17_250.0, "17.2 k"),
            (399_900.0, "400 k"),
            (7_600_000.0, "7.60 M"),
        ] {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn units_fit_their_values() {
        let find = |workload, metric| Measure::find(workload, metric).unwrap();
        let latency = find("unary-1", "p50_us");
        assert_eq!(latency.with_unit(3_076.0), "3,076 µs");
        assert_eq!(latency.with_unit(12_040.0), "12.0 ms");
        assert_eq!(find("idle-1000", "response_connections").with_unit(4.0), "4");
        assert_eq!(find("unary-16", "per_second").with_unit(400_000.0), "400 k/s");
        let reuse = find("unary-64", "pool_reuse_percent");
        assert_eq!(reuse.with_unit(99.999), "99.99 %", "not all, so it must not read as all");
        assert_eq!(reuse.with_unit(100.0), "100.00 %");
    }

    #[test]
    fn every_workload_is_measured_and_every_measure_belongs_to_a_group() {
        for workload in workload::list(&Variation::default()) {
            assert!(!of(&workload).is_empty(), "{workload:?}");
        }
        for measure in STANDARD.iter().chain(VARIED) {
            assert!(measure.group().is_some(), "{measure:?}");
        }
    }

    #[test]
    fn titles_say_which_variant_and_how_many_callers() {
        let titles = |name, shape| -> Vec<_> {
            of(&Workload { name, shape }).iter().map(Measure::full_title).collect()
        };
        let unary = |callers| Shape::Unary { callers, bytes: 16 };
        assert_eq!(titles("unary-1", unary(1))[0], "Unary calls: 1 caller, median latency");
        let varied = titles("unary-128", unary(128));
        assert_eq!(varied[0], "Unary calls: 128 callers, requests per second");
        assert_eq!(
            titles("connect", Shape::Connect)[0],
            "Connecting: median until the first answer"
        );
        let flat = Measure::find("passes-two-flat", "cpu_ns").unwrap();
        assert_eq!(flat.title(), "two engines flat out, CPU per item, both sides");
        assert_eq!((exactly(16), exactly(4096)), ("16 B".to_owned(), "4,096 B".to_owned()));
    }
}
