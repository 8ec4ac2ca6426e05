//! How many requests of one router each instance has in flight.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use sinew_discovery::Instance;
use sinew_plane::InstanceId;

/// Requests in flight per instance, in the order of the list of instances.
///
/// A count belongs to the instance id and not to the registration, so an instance that is withdrawn
/// and registered again keeps the count of its requests.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    counts: Vec<InFlightCount>,
    /// Instances outside the list that have requests in flight. Idle ones are removed when the list
    /// changes and before one is added, so it holds no more than had requests in flight at that
    /// time.
    gone: Vec<InFlightCount>,
}

#[derive(Debug)]
struct InFlightCount {
    id: InstanceId,
    in_flight: Arc<AtomicU32>,
}

/// One request in flight at an instance. Dropping it ends the count, and takes no lock.
#[derive(Debug)]
#[must_use = "the request counts as over once this is dropped"]
pub struct InFlightGuard(Arc<AtomicU32>);

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        // Relaxed, here and below: only the number itself is shared, and who has been told of an
        // end by other means sees the number that goes with it.
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl InFlightCount {
    fn new(id: InstanceId) -> Self {
        Self { id, in_flight: Arc::default() }
    }

    fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }
}

impl InFlight {
    /// Brings the counts into the order of `instances`. Allocates only when the list changed.
    pub(crate) fn follow(&mut self, instances: &[Arc<Instance>]) {
        let same = self.counts.len() == instances.len()
            && self.counts.iter().zip(instances).all(|(count, one)| count.id == one.id);
        if same {
            return;
        }
        let counts = self.counts.drain(..).chain(self.gone.drain(..));
        let busy = counts.filter(|count| count.in_flight() > 0);
        let mut kept: HashMap<_, _> = busy.map(|count| (count.id, count)).collect();
        let count = |one: &Arc<Instance>| {
            kept.remove(&one.id).unwrap_or_else(|| InFlightCount::new(one.id))
        };
        self.counts = instances.iter().map(count).collect();
        self.gone = kept.into_values().collect();
    }

    /// The count of the instance at an index of the current list.
    pub(crate) fn at(&self, index: usize) -> u32 {
        self.counts[index].in_flight()
    }

    /// The count of an instance, in the list or not.
    pub(crate) fn of(&self, id: InstanceId) -> u32 {
        let found = self.counts.iter().chain(&self.gone).find(|count| count.id == id);
        found.map_or(0, InFlightCount::in_flight)
    }

    /// Counts a request at an instance that was at `index` when it was chosen.
    pub(crate) fn admit(&mut self, index: usize, id: InstanceId) -> InFlightGuard {
        let there = self.counts.get(index).filter(|count| count.id == id);
        let known = there.or_else(|| self.counts.iter().chain(&self.gone).find(|one| one.id == id));
        let in_flight = match known {
            Some(count) => Arc::clone(&count.in_flight),
            None => {
                self.gone.retain(|count| count.in_flight() > 0);
                let count = InFlightCount::new(id);
                let in_flight = Arc::clone(&count.in_flight);
                self.gone.push(count);
                in_flight
            }
        };
        in_flight.fetch_add(1, Ordering::Relaxed);
        InFlightGuard(in_flight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(ids: &[u64]) -> Vec<Arc<Instance>> {
        let name: sinew_plane::EndpointName = "a/b/c".parse().unwrap();
        let make = |id: &u64| Instance::new(name.clone(), InstanceId(*id), Vec::new());
        ids.iter().map(make).map(Arc::new).collect()
    }

    fn following(ids: &[u64]) -> InFlight {
        let mut in_flight = InFlight::default();
        in_flight.follow(&list(ids));
        in_flight
    }

    #[test]
    fn a_permit_counts_from_its_admission_to_its_drop() {
        let mut in_flight = following(&[1, 2]);
        let permits = [in_flight.admit(0, InstanceId(1)), in_flight.admit(0, InstanceId(1))];
        assert_eq!((in_flight.at(0), in_flight.at(1)), (2, 0));
        drop(permits);
        assert_eq!(in_flight.of(InstanceId(1)), 0);
    }

    #[test]
    fn an_id_that_comes_back_while_requests_run_keeps_its_count() {
        let mut in_flight = following(&[1, 2]);
        let old = in_flight.admit(1, InstanceId(2));
        in_flight.follow(&list(&[1]));
        assert_eq!(in_flight.of(InstanceId(2)), 1, "still counted while it is away");
        in_flight.follow(&list(&[1, 2, 3]));
        assert_eq!(in_flight.at(1), 1);
        let new = in_flight.admit(1, InstanceId(2));
        assert_eq!(in_flight.at(1), 2);
        drop(old);
        assert_eq!(in_flight.at(1), 1, "the permit of the first life counts for the second");
        drop(new);
        assert_eq!(in_flight.at(1), 0);
    }

    #[test]
    fn a_newcomer_begins_at_zero_whatever_the_others_do() {
        let mut in_flight = following(&[2, 4]);
        let _permits = [in_flight.admit(0, InstanceId(2)), in_flight.admit(1, InstanceId(4))];
        in_flight.follow(&list(&[1, 2, 3, 4, 5]));
        assert_eq!([0, 1, 2, 3, 4].map(|index| in_flight.at(index)), [0, 1, 0, 1, 0]);
    }

    #[test]
    fn those_that_left_idle_are_forgotten() {
        let mut in_flight = following(&[]);
        for id in 0..1000 {
            in_flight.follow(&list(&[id]));
            drop(in_flight.admit(0, InstanceId(id)));
        }
        assert_eq!((in_flight.counts.len(), in_flight.gone.len()), (1, 0));
        for id in 1000..2000 {
            drop(in_flight.admit(0, InstanceId(id)));
        }
        assert_eq!((in_flight.counts.len(), in_flight.gone.len()), (1, 1));
    }

    #[test]
    fn an_admission_finds_its_instance_in_a_list_that_has_moved_on() {
        let mut in_flight = following(&[1, 2, 3]);
        in_flight.follow(&list(&[2, 3]));
        let moved = in_flight.admit(2, InstanceId(3));
        let gone = [in_flight.admit(0, InstanceId(1)), in_flight.admit(0, InstanceId(1))];
        assert_eq!([1, 2, 3].map(|id| in_flight.of(InstanceId(id))), [2, 0, 1]);
        drop((moved, gone));
        assert_eq!([1, 2, 3].map(|id| in_flight.of(InstanceId(id))), [0, 0, 0]);
    }
}
