//! The strategies of this crate. Each is a [`LoadBalancer`](crate::LoadBalancer).

mod direct;
mod least_loaded;
mod load;
mod power_of_two;
mod random_choice;
mod round_robin;
mod weights;

pub(crate) use self::weights::Weights;
pub use self::{
    direct::Direct, least_loaded::LeastLoaded, load::Load, power_of_two::PowerOfTwoChoices,
    random_choice::RandomChoice, round_robin::RoundRobin,
};

use sinew_plane::{InstanceId, random};

use crate::{LoadBalancer, SelectionCriteria};

/// Implements [`LoadBalancer::select_node`] for a strategy that implements `pick`.
fn select_by_pick(
    strategy: &impl LoadBalancer,
    criteria: &SelectionCriteria<'_>,
) -> Option<InstanceId> {
    let candidates = criteria.candidates();
    let index = strategy.pick(candidates, &mut random::generator())?;
    candidates.get(index).map(|one| one.instance.id)
}
