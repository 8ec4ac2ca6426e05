//! The weighted round-robin strategy.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use sinew_discovery::Instance;
use sinew_plane::{InstanceId, random::Rng};

use super::{Weights, select_by_pick, weights::WeightsNow};
use crate::{Candidates, LoadBalancer, SelectionCriteria, Why};

/// Chooses one instance after the other, each as often as its weight says.
///
/// It is smooth weighted round robin: each choice adds to every instance's score its weight,
/// chooses the highest score, and subtracts the sum of the weights from that. With equal weights
/// this is an exact rotation. It begins with a random instance, with the probabilities of the
/// weights. The scores are kept by instance id, so a change of the list does not start the rotation
/// again.
#[derive(Debug, Default)]
pub struct RoundRobin {
    weights: Weights,
    rotation: Mutex<Rotation>,
}

#[derive(Debug, Default)]
struct Rotation {
    gains: Vec<Gain>,
    /// The index that is chosen first among equals; `None` before the rotation begins. It begins at
    /// a random index, so that the first choices of many rotations, such as those of commands that
    /// call once, are spread by the weights.
    start: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Gain {
    id: InstanceId,
    gained: i64,
}

impl RoundRobin {
    /// Makes a rotation that begins at a random instance.
    pub fn new() -> Self {
        Self::default()
    }
}

impl LoadBalancer for RoundRobin {
    fn select_node(&self, criteria: &SelectionCriteria<'_>) -> Option<InstanceId> {
        select_by_pick(self, criteria)
    }

    fn pick(&self, candidates: &Candidates<'_>, random: &mut Rng) -> Option<usize> {
        candidates.because(Why::Turn);
        let weights = self.weights.now();
        self.rotation.lock().turn(candidates, &weights, random)
    }

    fn update_weights(&self, weights: HashMap<InstanceId, f64>) {
        self.weights.update(weights);
        // What was gained under other weights is worth something else.
        self.rotation.lock().gains.clear();
    }
}

impl Rotation {
    fn turn(
        &mut self,
        candidates: &Candidates<'_>,
        weights: &WeightsNow,
        random: &mut Rng,
    ) -> Option<usize> {
        self.follow(candidates.all(), weights);
        let drawn = match self.start {
            Some(_) => None,
            None => Some(weights.by_lot(candidates, None, random)?),
        };
        let start = *self.start.get_or_insert_with(|| drawn.unwrap_or_default());
        let count = candidates.all().len();
        let (mut total, mut richest) = (0, None::<usize>);
        for step in 0..count {
            let index = (start + step) % count;
            let Some(one) = candidates.get(index) else { continue };
            let weight = i64::from(weights.of(one.instance));
            total += weight;
            self.gains[index].gained += weight;
            if richest.is_none_or(|best| self.gains[index].gained > self.gains[best].gained) {
                richest = Some(index);
            }
        }
        let turn = drawn.or(richest)?;
        self.gains[turn].gained -= total;
        Some(turn)
    }

    /// Keeps the scores of the instances that stay. Brings their sum back to zero, so that a new
    /// instance, at zero, has no advantage and no disadvantage.
    fn follow(&mut self, instances: &[Arc<Instance>], weights: &WeightsNow) {
        let same = self.gains.len() == instances.len()
            && self.gains.iter().zip(instances).all(|(gain, one)| gain.id == one.id);
        if same || instances.is_empty() {
            return;
        }
        let bound = instances.iter().map(|one| i64::from(weights.of(one))).sum::<i64>();
        let mut old = std::mem::take(&mut self.gains);
        old.sort_unstable_by_key(|gain| gain.id);
        let kept = |id| {
            let found = old.binary_search_by_key(&id, |gain| gain.id);
            found.ok().map(|place| old[place].gained)
        };
        let stayed: Vec<_> = instances.iter().filter_map(|one| kept(one.id)).collect();
        let mean = stayed.iter().sum::<i64>() / (stayed.len() as i64).max(1);
        self.gains = instances
            .iter()
            // A gain beyond the total weight comes from weights that no longer hold.
            .map(|one| kept(one.id).map_or(0, |gained| (gained - mean).clamp(-bound, bound)))
            .zip(instances)
            .map(|(gained, one)| Gain { id: one.id, gained })
            .collect();
    }
}
