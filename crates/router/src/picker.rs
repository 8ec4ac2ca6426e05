//! Makes the choice: without clock, without I/O, and without allocation unless the instances
//! changed.

use std::{cell::Cell, collections::HashMap, sync::Arc};

use sinew_discovery::Instance;
use sinew_plane::{
    Headers, InstanceId,
    random::{self, Rng},
};

use crate::{
    Candidates, Choice, Direct, InFlightGuard, LeastLoaded, LoadBalancer, PowerOfTwoChoices,
    RandomChoice, RoundRobin, RouterMode, Why, in_flight::InFlight,
};

/// One strategy for each mode.
#[derive(Debug, Default)]
pub(crate) struct Strategies {
    round_robin: RoundRobin,
    random: RandomChoice,
    power_of_two: PowerOfTwoChoices,
    least_loaded: LeastLoaded,
}

impl Strategies {
    /// The strategy of a mode. `direct` holds the strategy of a mode that names an instance.
    pub(crate) fn of<'a>(
        &'a self,
        mode: RouterMode,
        direct: &'a mut Option<Direct>,
    ) -> &'a dyn LoadBalancer {
        match mode {
            RouterMode::RoundRobin => &self.round_robin,
            RouterMode::Random => &self.random,
            RouterMode::PowerOfTwoChoices => &self.power_of_two,
            RouterMode::LeastLoaded => &self.least_loaded,
            RouterMode::Direct(id) => direct.insert(Direct(id)),
        }
    }

    pub(crate) fn update_weights(&self, weights: HashMap<InstanceId, f64>) {
        self.round_robin.update_weights(weights.clone());
        self.random.update_weights(weights.clone());
        self.power_of_two.update_weights(weights.clone());
        self.least_loaded.update_weights(weights);
    }
}

/// Chooses instances from a list by weight.
///
/// A [`LoadBalancer`] makes the choice. Strategies by load see the requests that
/// [`admit`](Self::admit) has counted and whose permits are not dropped.
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
    strategies: Arc<Strategies>,
    in_flight: InFlight,
    random: Rng,
}

impl Picker {
    /// Makes a picker with a random seed.
    pub fn new() -> Self {
        Self::seeded(random::u64())
    }

    /// Makes a picker whose choices are the same for the same seed.
    pub fn seeded(seed: u64) -> Self {
        let random = Rng::with_seed(seed);
        Self { strategies: Arc::default(), in_flight: InFlight::default(), random }
    }

    /// Chooses one of `instances` for which `skip` is false. `None` if there is none, or if the
    /// mode names an instance that is not in the list.
    pub fn pick(
        &mut self,
        mode: RouterMode,
        instances: &[Arc<Instance>],
        skip: impl Fn(&Instance) -> bool,
    ) -> Option<Choice> {
        let headers = Headers::new();
        let strategies = Arc::clone(&self.strategies);
        self.pick_by(strategies.of(mode, &mut None), instances, &headers, skip)
    }

    /// As [`pick`](Self::pick), by any strategy, for a request with these headers.
    pub fn pick_by(
        &mut self,
        strategy: &dyn LoadBalancer,
        instances: &[Arc<Instance>],
        headers: &Headers,
        skip: impl Fn(&Instance) -> bool,
    ) -> Option<Choice> {
        self.in_flight.follow(instances);
        let candidates = Candidates {
            instances,
            skip: &skip,
            in_flight: &self.in_flight,
            headers,
            why: Cell::new(None),
        };
        let index = strategy.pick(&candidates, &mut self.random)?;
        // One that a strategy may not choose would be asked twice, or in spite of its failures.
        let id = candidates.get(index)?.instance.id;
        let why = candidates.why.get().unwrap_or_else(|| Why::Strategy(strategy.name()));
        Some(Choice { index, id, why })
    }

    /// The strategies of the modes.
    pub(crate) fn strategies(&self) -> Arc<Strategies> {
        Arc::clone(&self.strategies)
    }

    /// Counts a request as in flight at the chosen instance, until the permit is dropped.
    pub fn admit(&mut self, choice: &Choice) -> InFlightGuard {
        self.in_flight.admit(choice.index, choice.id)
    }

    /// How many requests are in flight at an instance.
    pub fn in_flight(&self, id: InstanceId) -> u32 {
        self.in_flight.of(id)
    }
}

impl Default for Picker {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
