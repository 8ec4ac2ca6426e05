//! The trait for measures of load.

use std::fmt;

use super::weights::WeightsNow;
use crate::{Candidate, InstanceLoad, Measure};

/// A measure of how busy an instance is, for strategies by load.
///
/// Without one they use the requests that this router has in flight at the instance, relative to
/// the weight. Your own measure may use more, such as bytes in flight or a queue length that the
/// instance reports.
pub trait Load: Send + Sync {
    /// Returns the load; lower is better. Called for each candidate that the strategy compares;
    /// must return at once.
    fn load(&self, candidate: &Candidate<'_>) -> f64;
}

impl<F: Fn(&Candidate<'_>) -> f64 + Send + Sync> Load for F {
    fn load(&self, candidate: &Candidate<'_>) -> f64 {
        self(candidate)
    }
}

/// The measure that a strategy uses.
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
