//! How busy an instance is.

use std::fmt;

use super::weights::WeightsNow;
use crate::{Candidate, InstanceLoad, Measure};

/// A measure of how busy an instance is, for the strategies that go by load.
///
/// Without one they take the requests that this router has in flight there, relative to the
/// weight. One of the user's own may know more, as bytes in hand or a queue that the instance
/// reports.
pub trait Load: Send + Sync {
    /// Lower is better. Called for each candidate that is looked at; returns at once.
    fn load(&self, candidate: &Candidate<'_>) -> f64;
}

impl<F: Fn(&Candidate<'_>) -> f64 + Send + Sync> Load for F {
    fn load(&self, candidate: &Candidate<'_>) -> f64 {
        self(candidate)
    }
}

/// The measure of a strategy.
#[derive(Default)]
pub(super) struct LoadOf(pub(super) Option<Box<dyn Load>>);

impl LoadOf {
    pub(super) fn at(&self, candidate: &Candidate<'_>, weights: &WeightsNow) -> InstanceLoad {
        let measured = self.0.as_ref().map(|load| Measure::new(load.load(candidate)));
        InstanceLoad {
            instance: candidate.instance.id,
            in_flight: candidate.in_flight,
            weight: weights.of(candidate.instance),
            measured,
        }
    }
}

impl fmt::Debug for LoadOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "a measure of its own" } else { "in flight" })
    }
}
