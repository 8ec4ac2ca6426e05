//! The least loaded of all.

use std::{cmp::Ordering, collections::HashMap};

use sinew_plane::{InstanceId, random::Rng};

use super::{Load, Weights, load::LoadOf, select_by_pick};
use crate::{Candidates, LoadBalancer, Loads, SelectionCriteria, Why};

/// The least loaded of all. Between equal loads the choice is random, with the probabilities of the
/// weights, so that the requests of an idle service do not all go to the start of the list.
#[derive(Debug, Default)]
pub struct LeastLoaded {
    weights: Weights,
    load: LoadOf,
}

impl LeastLoaded {
    /// Measures load by the requests in flight, relative to the weight.
    pub fn new() -> Self {
        Self::default()
    }

    /// Measures load by `load`.
    pub fn by(load: impl Load + 'static) -> Self {
        Self { load: LoadOf(Some(Box::new(load))), ..Self::default() }
    }
}

impl LoadBalancer for LeastLoaded {
    fn select_node(&self, criteria: &SelectionCriteria<'_>) -> Option<InstanceId> {
        select_by_pick(self, criteria)
    }

    fn pick(&self, candidates: &Candidates<'_>, random: &mut Rng) -> Option<usize> {
        let weights = self.weights.now();
        let mut best = None::<(usize, Loads)>;
        // The weight of all that are as little loaded as the best. Each further one replaces it
        // with the odds of its own weight in that, which is a fair lot in a single pass.
        let mut tied = 0;
        for one in candidates.iter() {
            let (load, weight) =
                (self.load.at(&one, &weights), i64::from(weights.of(one.instance)));
            let Some((_, loads)) = &mut best else {
                tied = weight;
                best = Some((one.index, Loads { chosen: load, next: None }));
                continue;
            };
            let wins = match load.compare(&loads.chosen) {
                Ordering::Less => {
                    tied = weight;
                    true
                }
                Ordering::Equal => {
                    tied += weight;
                    random.i64(0..tied) < weight
                }
                Ordering::Greater => false,
            };
            if wins {
                best = Some((one.index, Loads { chosen: load, next: Some(loads.chosen) }));
            } else if loads.next.is_none_or(|next| load.compare(&next).is_lt()) {
                loads.next = Some(load);
            }
        }
        let (index, loads) = best?;
        candidates.because(Why::LowestLoad(loads));
        Some(index)
    }

    fn update_weights(&self, weights: HashMap<InstanceId, f64>) {
        self.weights.update(weights);
    }
}
