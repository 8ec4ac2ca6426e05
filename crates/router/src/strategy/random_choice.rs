//! The strategy that chooses at random.

use std::collections::HashMap;

use sinew_plane::{InstanceId, random::Rng};

use super::{Weights, select_by_pick};
use crate::{Candidates, LoadBalancer, SelectionCriteria, Why};

/// Chooses an instance at random, with the probabilities of the weights.
#[derive(Debug, Default)]
pub struct RandomChoice {
    weights: Weights,
}

impl RandomChoice {
    /// Uses the weights of discovery.
    pub fn new() -> Self {
        Self::default()
    }
}

impl LoadBalancer for RandomChoice {
    fn select_node(&self, criteria: &SelectionCriteria<'_>) -> Option<InstanceId> {
        select_by_pick(self, criteria)
    }

    fn pick(&self, candidates: &Candidates<'_>, random: &mut Rng) -> Option<usize> {
        candidates.because(Why::Lot);
        self.weights.now().by_lot(candidates, None, random)
    }

    fn update_weights(&self, weights: HashMap<InstanceId, f64>) {
        self.weights.update(weights);
    }
}
