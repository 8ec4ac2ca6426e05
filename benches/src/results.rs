//! What was measured: samples by round, workload and peer, and what they say together.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Sample,
    report::measures::{Better, Measure},
};

/// All samples of a run.
#[derive(Debug, Default)]
pub struct Results {
    rounds: Vec<BTreeMap<(String, String), Sample>>,
    /// Rounds in which a workload on a peer had no end, by workload and peer.
    failures: BTreeMap<(String, String), Vec<usize>>,
}

/// The values of a metric over all rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The value in the middle.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
}

impl Results {
    /// Adds a sample of the round with this number, from 0.
    pub fn add(&mut self, round: usize, workload: &str, peer: &str, sample: Sample) {
        if self.rounds.len() <= round {
            self.rounds.resize_with(round + 1, BTreeMap::new);
        }
        self.rounds[round].insert((workload.to_owned(), peer.to_owned()), sample);
    }

    /// Notes that a measurement of the round with this number, from 0, came to nothing.
    pub(crate) fn add_failure(&mut self, round: usize, workload: &str, peer: &str) {
        let key = (workload.to_owned(), peer.to_owned());
        self.failures.entry(key).or_default().push(round);
    }

    /// Measurements that came to nothing: workload, peer, and in how many rounds.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (&str, &str, usize)> {
        let told = self.failures.iter();
        told.map(|((workload, peer), rounds)| (&**workload, &**peer, rounds.len()))
    }

    /// How many rounds there were.
    pub fn rounds(&self) -> usize {
        self.rounds.len()
    }

    /// The values of a metric, if the peer has it.
    pub fn spread(&self, workload: &str, metric: &str, peer: &str) -> Option<Spread> {
        spread(self.values(workload, metric, peer).into_iter().flatten().collect())
    }

    /// A metric of a peer as a multiple of another's: the median of the ratios within each
    /// round, because the machine is the same only within a round.
    pub fn ratio(&self, workload: &str, metric: &str, peer: &str, to: &str) -> Option<f64> {
        let (values, bases) =
            (self.values(workload, metric, peer), self.values(workload, metric, to));
        let ratios = values.into_iter().zip(bases).filter_map(|(value, base)| Some(value? / base?));
        Some(spread(ratios.filter(|ratio| ratio.is_finite()).collect())?.median)
    }

    /// The peer with the best median of those that `is_asked` names.
    pub(crate) fn best(
        &self,
        measure: &Measure,
        is_asked: impl Fn(&str) -> bool,
    ) -> Option<String> {
        let names: BTreeSet<_> = self.rounds.iter().flatten().map(|((_, peer), _)| peer).collect();
        let medians = names.into_iter().filter(|name| is_asked(name)).filter_map(|name| {
            Some((name, self.spread(measure.workload, measure.metric, name)?.median))
        });
        let best = medians.min_by(|(_, one), (_, two)| match measure.better {
            Better::Lower => one.total_cmp(two),
            Better::Higher => two.total_cmp(one),
        });
        best.map(|(name, _)| name.clone())
    }

    fn values(&self, workload: &str, metric: &str, peer: &str) -> Vec<Option<f64>> {
        let key = (workload.to_owned(), peer.to_owned());
        self.rounds.iter().map(|round| round.get(&key)?.get(metric)).collect()
    }
}

fn spread(mut values: Vec<f64>) -> Option<Spread> {
    values.sort_by(f64::total_cmp);
    let (&min, &max) = (values.first()?, values.last()?);
    let middle = values.len() / 2;
    let median = match values.len() % 2 {
        1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    };
    Some(Spread { median, min, max })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(values: &[(f64, f64)]) -> Results {
        let mut results = Results::default();
        for (round, (a, b)) in values.iter().enumerate() {
            results.add(round, "w", "a", Sample::default().with("m", *a));
            results.add(round, "w", "b", Sample::default().with("m", *b));
        }
        results
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine was twice as slow in the second round, for both.
        let results = results(&[(10.0, 20.0), (20.0, 40.0), (5.0, 10.0)]);
        assert_eq!(results.ratio("w", "m", "a", "b"), Some(0.5));
        let spread = results.spread("w", "m", "a").unwrap();
        assert_eq!(spread, Spread { median: 10.0, min: 5.0, max: 20.0 });
    }

    #[test]
    fn the_best_depends_on_what_is_better() {
        let mut results = Results::default();
        for (peer, value) in [("a", 1.0), ("b", 2.0), ("c", 3.0)] {
            let sample = Sample::default().with("p50_us", value).with("per_second", value);
            results.add(0, "unary-1", peer, sample.clone());
            results.add(0, "unary-64", peer, sample);
        }
        let best = |workload, metric, others: &[&str]| {
            results.best(Measure::find(workload, metric).unwrap(), |name| others.contains(&name))
        };
        assert_eq!(best("unary-1", "p50_us", &["b", "c"]).as_deref(), Some("b"));
        assert_eq!(best("unary-64", "per_second", &["a", "b"]).as_deref(), Some("b"));
        assert_eq!(best("unary-64", "per_second", &[]), None);
    }

    #[test]
    fn what_is_missing_has_no_numbers() {
        let mut results = results(&[(1.0, 2.0), (3.0, 2.0)]);
        assert_eq!(results.spread("w", "m", "a").unwrap().median, 2.0);
        assert_eq!(results.spread("w", "m", "c"), None);
        assert_eq!(results.ratio("w", "m", "a", "c"), None);
        results.add(2, "w", "a", Sample::default());
        assert_eq!(results.ratio("w", "m", "a", "b"), Some(1.0));
    }
}
