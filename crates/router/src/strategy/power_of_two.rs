//! The less loaded of two.

use std::collections::HashMap;

use sinew_plane::{InstanceId, random::Rng};

use super::{Load, Weights, load::LoadOf, select_by_pick};
use crate::{Candidates, LoadBalancer, Loads, SelectionCriteria, Why};

/// The less loaded of two different instances, the first among equals.
///
/// Both are drawn with the probabilities of the weights; if they were drawn evenly, a heavy
/// instance among many would be drawn too seldom to get its share. Routers that do not see each
/// other's requests then do not all choose the same instance.
#[derive(Debug, Default)]
pub struct PowerOfTwoChoices {
    weights: Weights,
    load: LoadOf,
}

impl PowerOfTwoChoices {
    /// Measures load by the requests in flight, relative to the weight.
    pub fn new() -> Self {
        Self::default()
    }

    /// Measures load by `load`.
    pub fn by(load: impl Load + 'static) -> Self {
        Self { load: LoadOf(Some(Box::new(load))), ..Self::default() }
    }
}

impl LoadBalancer for PowerOfTwoChoices {
    fn select_node(&self, criteria: &SelectionCriteria<'_>) -> Option<InstanceId> {
        select_by_pick(self, criteria)
    }

    fn pick(&self, candidates: &Candidates<'_>, random: &mut Rng) -> Option<usize> {
        let weights = self.weights.now();
        let first = candidates.get(weights.by_lot(candidates, None, random)?)?;
        let load = self.load.at(&first, &weights);
        let second = weights.by_lot(candidates, Some(first.instance.id), random);
        let Some(second) = second.and_then(|index| candidates.get(index)) else {
            candidates.because(Why::LowerLoad(Loads { chosen: load, next: None }));
            return Some(first.index);
        };
        let other = self.load.at(&second, &weights);
        let (index, chosen, next) = if other.compare(&load).is_lt() {
            (second.index, other, load)
        } else {
            (first.index, load, other)
        };
        candidates.because(Why::LowerLoad(Loads { chosen, next: Some(next) }));
        Some(index)
    }

    fn update_weights(&self, weights: HashMap<InstanceId, f64>) {
        self.weights.update(weights);
    }
}
