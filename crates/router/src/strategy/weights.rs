//! The weights of instances: discovery's, or those that were set at run time.

use std::{collections::HashMap, sync::Arc};

use arc_swap::{ArcSwapOption, Guard};
use sinew_discovery::Instance;
use sinew_plane::{InstanceId, random::Rng};

use crate::Candidates;

/// The integer that stands for a weight of 1, so that weights may be fractions.
const UNIT: f64 = 1_000.0;

/// Weights that can be changed while a strategy works.
#[derive(Debug, Default)]
pub(crate) struct Weights(ArcSwapOption<HashMap<InstanceId, f64>>);

/// The weights during one choice.
pub(crate) struct WeightsNow(Guard<Option<Arc<HashMap<InstanceId, f64>>>>);

impl Weights {
    /// Sets the weights. An empty map returns to those of discovery.
    pub(crate) fn update(&self, weights: HashMap<InstanceId, f64>) {
        self.0.store((!weights.is_empty()).then(|| Arc::new(weights)));
    }

    pub(crate) fn now(&self) -> WeightsNow {
        WeightsNow(self.0.load())
    }
}

impl WeightsNow {
    /// The weight of an instance, at least 1. A weight of zero counts as the smallest; to take an
    /// instance out of the traffic, withdraw it.
    pub(crate) fn of(&self, instance: &Instance) -> u32 {
        let Some(set) = &*self.0 else { return instance.weight.max(1) };
        let weight = set.get(&instance.id).copied().unwrap_or_else(|| instance.weight.into());
        // What is no number, or below zero, becomes 0, and what is too large the largest.
        ((weight * UNIT) as u32).max(1)
    }

    /// Draws one of the candidates for which `skip` is false at random, with the probabilities of
    /// the weights.
    pub(crate) fn by_lot(
        &self,
        candidates: &Candidates<'_>,
        skip: Option<InstanceId>,
        random: &mut Rng,
    ) -> Option<usize> {
        let in_play = || candidates.iter().filter(move |one| Some(one.instance.id) != skip);
        let total: i64 = in_play().map(|one| i64::from(self.of(one.instance))).sum();
        if total == 0 {
            return None;
        }
        let mut drawn = random.i64(0..total);
        in_play()
            .find(|one| {
                drawn -= i64::from(self.of(one.instance));
                drawn < 0
            })
            .map(|one| one.index)
    }
}
