//! One after the other.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use sinew_discovery::Instance;
use sinew_plane::{InstanceId, random::Rng};

use super::{Weights, select_by_pick, weights::WeightsNow};
use crate::{Candidates, LoadBalancer, SelectionCriteria, Why};

/// One after the other, each as often as its weight says.
///
/// The rotation is the smooth weighted kind: each instance gains its weight per choice, and the
/// richest is chosen and pays for all. With equal weights that is an exact rotation. It begins with
/// an instance drawn by lot, with the odds of the weights. What each instance has gained is kept
/// under its id, so a change of the list does not begin the rotation anew.
#[derive(Debug, Default)]
pub struct RoundRobin {
    weights: Weights,
    rotation: Mutex<Rotation>,
}

#[derive(Debug, Default)]
struct Rotation {
    gains: Vec<Gain>,
    /// Who is chosen first among equals; `None` before the rotation begins. It begins with one
    /// drawn by lot, so that the first choices of many rotations, as of commands that call once,
    /// spread as the weights say.
    start: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Gain {
    id: InstanceId,
    gained: i64,
}

impl RoundRobin {
    /// A rotation that begins anywhere.
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

    /// Takes over the gains of the instances that stay. The sum is brought back to zero, so
    /// that one that is new, at zero, has neither a debt nor a claim.
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
