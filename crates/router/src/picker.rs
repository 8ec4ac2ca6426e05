//! The choice itself: no clock, no I/O, and no allocation unless the instances changed.

use std::{cmp::Ordering, sync::Arc};

use sinew_discovery::Instance;
use sinew_plane::{
    InstanceId,
    random::{self, Rng},
};

use crate::{Choice, Load, Loads, Permit, RouterMode, Why, in_flight::InFlight};

/// Chooses instances from a list, fairly and by weight.
///
/// Round robin is the smooth weighted kind: each instance gains its weight per choice, and the
/// richest is chosen and pays for all. With equal weights that is an exact rotation. A fresh
/// picker begins with an instance drawn by lot, with the odds of the weights. What each instance
/// has gained is kept under its id, so a change of the list does not begin the rotation anew.
///
/// The modes that go by load see the requests that were told to [`admit`](Self::admit) and whose
/// permits live, relative to the weights. Equal loads are decided by lot, with the odds of the
/// weights, so that an idle service gets its traffic spread and not all at one end of the list.
///
/// ```
/// use std::sync::Arc;
/// use sinew_discovery::Instance;
/// use sinew_plane::InstanceId;
/// use sinew_router::{Picker, RouterMode};
///
/// let name: sinew_plane::EndpointName = "text/words/split".parse()?;
/// let instances: Vec<_> = (1..=3)
///     .map(|id| Arc::new(Instance::new(name.clone(), InstanceId(id), Vec::new())))
///     .collect();
/// let mut picker = Picker::seeded(7);
/// let mut ids = || picker.pick(RouterMode::RoundRobin, &instances, |_| false).map(|one| one.id);
/// let first_round = [ids(), ids(), ids()];
/// assert_eq!(first_round, [ids(), ids(), ids()]);
/// # Ok::<(), sinew_plane::NameError>(())
/// ```
#[derive(Debug)]
pub struct Picker {
    weights: Vec<WeightState>,
    in_flight: InFlight,
    /// Who is chosen first among equals; `None` before the rotation begins. It begins with one
    /// drawn by lot, so that the first choices of many pickers, as of commands that call once,
    /// spread as the weights say.
    start: Option<usize>,
    random: Rng,
}

#[derive(Debug, Clone, Copy)]
struct WeightState {
    id: InstanceId,
    gained: i64,
}

impl Picker {
    /// A picker that begins anywhere.
    pub fn new() -> Self {
        Self::seeded(random::u64())
    }

    /// A picker whose choices repeat with the seed.
    pub fn seeded(seed: u64) -> Self {
        let random = Rng::with_seed(seed);
        Self { weights: Vec::new(), in_flight: InFlight::default(), start: None, random }
    }

    /// Chooses one of `instances` that `skip` does not rule out; `None` when all are ruled out,
    /// or when the one that the mode names is not there.
    pub fn pick(
        &mut self,
        mode: RouterMode,
        instances: &[Arc<Instance>],
        skip: impl Fn(&Instance) -> bool,
    ) -> Option<Choice> {
        self.in_flight.follow(instances);
        let (index, why) = match mode {
            RouterMode::RoundRobin => (self.by_turn(instances, skip)?, Why::Turn),
            RouterMode::Random => (self.by_lot(instances, skip)?, Why::Lot),
            RouterMode::Direct(id) => {
                let found = |one: &Arc<Instance>| one.id == id && !skip(one);
                (instances.iter().position(found)?, Why::Named)
            }
            RouterMode::PowerOfTwoChoices => {
                let (index, loads) = self.by_lower_load(instances, skip)?;
                (index, Why::LowerLoad(loads))
            }
            RouterMode::LeastLoaded => {
                let (index, loads) = self.by_lowest_load(instances, skip)?;
                (index, Why::LowestLoad(loads))
            }
        };
        Some(Choice { index, id: instances[index].id, why })
    }

    /// Counts a request as in flight at the instance that was chosen, until the permit is
    /// dropped.
    pub fn admit(&mut self, choice: &Choice) -> Permit {
        self.in_flight.admit(choice.index, choice.id)
    }

    /// How many requests are in flight at an instance.
    pub fn in_flight(&self, id: InstanceId) -> u32 {
        self.in_flight.of(id)
    }

    fn by_turn(
        &mut self,
        instances: &[Arc<Instance>],
        skip: impl Fn(&Instance) -> bool,
    ) -> Option<usize> {
        self.follow(instances);
        let drawn = match self.start {
            Some(_) => None,
            None => Some(self.by_lot(instances, &skip)?),
        };
        let start = *self.start.get_or_insert_with(|| drawn.unwrap_or_default());
        let count = instances.len();
        let (mut total, mut richest) = (0, None::<usize>);
        for step in 0..count {
            let index = (start + step) % count;
            if skip(&instances[index]) {
                continue;
            }
            let weight = weight(&instances[index]);
            total += weight;
            self.weights[index].gained += weight;
            if richest.is_none_or(|best| self.weights[index].gained > self.weights[best].gained) {
                richest = Some(index);
            }
        }
        let turn = drawn.or(richest)?;
        self.weights[turn].gained -= total;
        Some(turn)
    }

    /// Takes over the gains of the instances that stay. The sum is brought back to zero, so
    /// that one that is new, at zero, has neither a debt nor a claim.
    fn follow(&mut self, instances: &[Arc<Instance>]) {
        let same = self.weights.len() == instances.len()
            && self.weights.iter().zip(instances).all(|(state, one)| state.id == one.id);
        if same || instances.is_empty() {
            return;
        }
        let bound = instances.iter().map(|one| weight(one)).sum::<i64>();
        let mut old = std::mem::take(&mut self.weights);
        old.sort_unstable_by_key(|share| share.id);
        let kept = |id| {
            let found = old.binary_search_by_key(&id, |share| share.id);
            found.ok().map(|place| old[place].gained)
        };
        let stayed: Vec<_> = instances.iter().filter_map(|one| kept(one.id)).collect();
        let mean = stayed.iter().sum::<i64>() / (stayed.len() as i64).max(1);
        self.weights = instances
            .iter()
            // A gain beyond the total weight comes from weights that no longer hold.
            .map(|one| kept(one.id).map_or(0, |gained| (gained - mean).clamp(-bound, bound)))
            .zip(instances)
            .map(|(gained, one)| WeightState { id: one.id, gained })
            .collect();
    }

    fn by_lot(
        &mut self,
        instances: &[Arc<Instance>],
        skip: impl Fn(&Instance) -> bool,
    ) -> Option<usize> {
        let in_play = |one: &&Arc<Instance>| !skip(one);
        let total: i64 = instances.iter().filter(in_play).map(|one| weight(one)).sum();
        if total == 0 {
            return None;
        }
        let mut drawn = self.random.i64(0..total);
        instances.iter().position(|one| {
            if skip(one) {
                return false;
            }
            drawn -= weight(one);
            drawn < 0
        })
    }

    /// The less loaded of two different ones, the first among equals. Both are drawn with the
    /// odds of the weights: drawn evenly, a heavy one among many would be looked at too seldom to
    /// get its share.
    fn by_lower_load(
        &mut self,
        instances: &[Arc<Instance>],
        skip: impl Fn(&Instance) -> bool,
    ) -> Option<(usize, Loads)> {
        let first = self.by_lot(instances, &skip)?;
        let drawn = instances[first].id;
        let load = self.load(instances, first);
        let Some(second) = self.by_lot(instances, |one| one.id == drawn || skip(one)) else {
            return Some((first, Loads { chosen: load, next: None }));
        };
        let other = self.load(instances, second);
        Some(if other.compare(&load).is_lt() {
            (second, Loads { chosen: other, next: Some(load) })
        } else {
            (first, Loads { chosen: load, next: Some(other) })
        })
    }

    /// The least loaded of all.
    fn by_lowest_load(
        &mut self,
        instances: &[Arc<Instance>],
        skip: impl Fn(&Instance) -> bool,
    ) -> Option<(usize, Loads)> {
        let mut best = None::<(usize, Loads)>;
        // The weight of all that are as little loaded as the best. Each further one replaces it
        // with the odds of its own weight in that, which is a fair lot in a single pass.
        let mut tied = 0;
        for (index, one) in instances.iter().enumerate() {
            if skip(one) {
                continue;
            }
            let load = self.load(instances, index);
            let Some((_, loads)) = &mut best else {
                tied = weight(one);
                best = Some((index, Loads { chosen: load, next: None }));
                continue;
            };
            let wins = match load.compare(&loads.chosen) {
                Ordering::Less => {
                    tied = weight(one);
                    true
                }
                Ordering::Equal => {
                    tied += weight(one);
                    self.random.i64(0..tied) < weight(one)
                }
                Ordering::Greater => false,
            };
            if wins {
                best = Some((index, Loads { chosen: load, next: Some(loads.chosen) }));
            } else if loads.next.is_none_or(|next| load.compare(&next).is_lt()) {
                loads.next = Some(load);
            }
        }
        best
    }

    fn load(&self, instances: &[Arc<Instance>], index: usize) -> Load {
        let one = &instances[index];
        // At least one, as in `weight`.
        Load { instance: one.id, in_flight: self.in_flight.at(index), weight: one.weight.max(1) }
    }
}

impl Default for Picker {
    fn default() -> Self {
        Self::new()
    }
}

/// A weight of zero from a careless source counts as one: to keep an instance out of the
/// traffic it is withdrawn.
fn weight(instance: &Instance) -> i64 {
    i64::from(instance.weight.max(1))
}

#[cfg(test)]
mod tests;
