//! The trait of strategies, and the candidates that a strategy chooses from.

use std::{cell::Cell, collections::HashMap, fmt, sync::Arc};

use sinew_discovery::Instance;
use sinew_plane::{EndpointName, Headers, InstanceId, random::Rng};

use crate::{Why, in_flight::InFlight};

/// A strategy, which chooses the instance that gets a request.
///
/// [`RouterMode`](crate::RouterMode) names the strategies of this crate.
/// [`PushRouter::with_load_balancer`](crate::PushRouter::with_load_balancer) takes your own.
/// Implement [`select_node`](Self::select_node), or [`pick`](Self::pick) for a strategy that draws
/// random numbers or explains its choice.
///
/// A router calls it under the lock of its choices, so that concurrent requests see each other's
/// counts: return at once, and do not call the router. The router may call it several times for one
/// request, each time without the instances that have failed. All tasks that send share it, so put
/// its state behind a lock of its own.
///
/// ```
/// use sinew_plane::InstanceId;
/// use sinew_router::{LoadBalancer, SelectionCriteria};
///
/// /// The instance with the highest id: the newest, where ids count up.
/// struct Newest;
///
/// impl LoadBalancer for Newest {
///     fn select_node(&self, criteria: &SelectionCriteria<'_>) -> Option<InstanceId> {
///         criteria.candidates().iter().map(|one| one.instance.id).max()
///     }
/// }
/// ```
pub trait LoadBalancer: Send + Sync {
    /// Returns the id of one of the candidates, or `None` if no candidate is suitable. `None` fails
    /// the request, unless an attempt was made before and the request may wait for another round.
    fn select_node(&self, criteria: &SelectionCriteria<'_>) -> Option<InstanceId>;

    /// Returns the index of one of the candidates, and draws random numbers from `random`. A reason
    /// that it notes with [`Candidates::because`] is part of the explanation of the choice.
    fn pick(&self, candidates: &Candidates<'_>, _random: &mut Rng) -> Option<usize> {
        let id = self.select_node(&candidates.criteria())?;
        candidates.iter().find(|one| one.instance.id == id).map(|one| one.index)
    }

    /// Sets weights in place of those in discovery. An instance that is not in the map keeps its
    /// weight from discovery; an empty map removes all weights set before. A strategy without
    /// weights ignores the call.
    fn update_weights(&self, _weights: HashMap<InstanceId, f64>) {}

    /// The router calls this method when it ejects an instance: it could not reach the instance, or
    /// the instance refused a request. The router leaves the instance out of the candidates; a
    /// strategy that stores its choices has to drop those of this instance.
    fn remove_unhealthy_node(&self, _id: InstanceId) {}

    /// The only instance that the strategy ever chooses, if there is one. The router sends requests
    /// there in spite of an ejection, and connects to no other in parallel.
    fn named(&self) -> Option<InstanceId> {
        None
    }

    /// The name that the explanation of a choice gives if the strategy notes no reason.
    fn name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }
}

/// The candidates and the request, as [`LoadBalancer::select_node`] gets them.
#[derive(Debug, Clone, Copy)]
pub struct SelectionCriteria<'a> {
    candidates: &'a Candidates<'a>,
}

impl<'a> SelectionCriteria<'a> {
    /// The candidates.
    pub fn candidates(&self) -> &'a Candidates<'a> {
        self.candidates
    }

    /// The request's headers.
    pub fn headers(&self) -> &'a Headers {
        self.candidates.headers
    }

    /// The endpoint that is called; `None` if it has no instance.
    pub fn endpoint(&self) -> Option<&'a EndpointName> {
        self.candidates.instances.first().map(|one| &one.endpoint)
    }
}

/// The instances that a request may be sent to now: those of discovery, without the ones that it
/// was sent to before and the ejected ones.
pub struct Candidates<'a> {
    pub(crate) instances: &'a [Arc<Instance>],
    pub(crate) skip: &'a dyn Fn(&Instance) -> bool,
    pub(crate) in_flight: &'a InFlight,
    pub(crate) headers: &'a Headers,
    pub(crate) why: Cell<Option<Why>>,
}

/// An instance that may be chosen.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Candidate<'a> {
    /// Its index in the list, which [`LoadBalancer::pick`] returns.
    pub index: usize,
    /// Its record in discovery.
    pub instance: &'a Instance,
    /// Requests of this router and its clones that it has in flight.
    pub in_flight: u32,
}

impl<'a> Candidates<'a> {
    /// The candidates, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = Candidate<'a>> {
        (0..self.instances.len()).filter_map(|index| self.get(index))
    }

    /// The candidate at an index of the list; `None` if it may not be chosen.
    pub fn get(&self, index: usize) -> Option<Candidate<'a>> {
        let instance = &**self.instances.get(index)?;
        let may = !(self.skip)(instance);
        may.then(|| Candidate { index, instance, in_flight: self.in_flight.at(index) })
    }

    /// All instances, also those that may not be chosen, for strategies that divide a range among
    /// all of them, such as a hash ring.
    pub fn all(&self) -> &'a [Arc<Instance>] {
        self.instances
    }

    /// The request's headers.
    pub fn headers(&self) -> &'a Headers {
        self.headers
    }

    /// Notes the reason of the choice for its explanation. The last note counts.
    pub fn because(&self, why: Why) {
        self.why.set(Some(why));
    }

    /// The criteria for [`LoadBalancer::select_node`].
    pub fn criteria(&self) -> SelectionCriteria<'_> {
        SelectionCriteria { candidates: self }
    }
}

impl fmt::Debug for Candidates<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|one| one.instance.id)).finish()
    }
}
