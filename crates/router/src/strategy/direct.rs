//! The strategy that always chooses the instance that the caller names.

use sinew_plane::{InstanceId, random::Rng};

use crate::{Candidates, LoadBalancer, SelectionCriteria, Why};

/// Chooses always the same instance, in spite of its failures.
#[derive(Debug, Clone, Copy)]
pub struct Direct(pub InstanceId);

impl LoadBalancer for Direct {
    fn select_node(&self, criteria: &SelectionCriteria<'_>) -> Option<InstanceId> {
        criteria.candidates().iter().any(|one| one.instance.id == self.0).then_some(self.0)
    }

    fn pick(&self, candidates: &Candidates<'_>, _: &mut Rng) -> Option<usize> {
        candidates.because(Why::Named);
        candidates.iter().find(|one| one.instance.id == self.0).map(|one| one.index)
    }

    fn named(&self) -> Option<InstanceId> {
        Some(self.0)
    }
}
