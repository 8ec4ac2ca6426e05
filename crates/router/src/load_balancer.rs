//! What a strategy is asked, and what it sees.

use std::{cell::Cell, collections::HashMap, fmt, sync::Arc};

use sinew_discovery::Instance;
use sinew_plane::{EndpointName, Headers, InstanceId, random::Rng};

use crate::{Why, in_flight::InFlight};

/// A strategy: chooses the instance that gets a request.
///
/// [`RouterMode`](crate::RouterMode) names those that the router has;
/// [`PushRouter::with_load_balancer`](crate::PushRouter::with_load_balancer) takes one of the
/// user's own. It implements [`select_node`](Self::select_node), or
/// [`pick`](Self::pick) if it wants to draw lots or to say why it chose.
///
/// A router calls it while it holds the lock under which it chooses, so that requests that choose
/// at the same time see each other's counts: return at once, and do not call the router. It may be
/// asked several times for one request, without the instances that were asked before. It is shared by
/// all tasks that send, so what it remembers stands behind a lock of its own.
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
    /// The id of one of the candidates; `None` when none is fit, which ends the request unless it
    /// has been tried elsewhere and may wait for another round.
    fn select_node(&self, criteria: &SelectionCriteria<'_>) -> Option<InstanceId>;

    /// The index of one of the candidates, with lots drawn from `random`. What it notes with
    /// [`Candidates::because`] stands in the explanation of the choice.
    fn pick(&self, candidates: &Candidates<'_>, _random: &mut Rng) -> Option<usize> {
        let id = self.select_node(&candidates.criteria())?;
        candidates.iter().find(|one| one.instance.id == id).map(|one| one.index)
    }

    /// Weights from now on, in place of those in discovery. An instance that is not in the map keeps
    /// its own; an empty map takes all of them back. Ignored by strategies that know no weights.
    fn update_weights(&self, _weights: HashMap<InstanceId, f64>) {}

    /// The instance is left out for a while, because it could not be reached or refused to work.
    /// The router does so by itself; a strategy that keeps a choice for later forgets it.
    fn remove_unhealthy_node(&self, _id: InstanceId) {}

    /// The one instance that it ever chooses. That one is asked in spite of its failures, and no
    /// other is connected beside it.
    fn named(&self) -> Option<InstanceId> {
        None
    }

    /// What the explanation of a choice says if the strategy notes nothing itself.
    fn name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }
}

/// What a request asks for, as [`LoadBalancer::select_node`] sees it.
#[derive(Debug, Clone, Copy)]
pub struct SelectionCriteria<'a> {
    candidates: &'a Candidates<'a>,
}

impl<'a> SelectionCriteria<'a> {
    /// Those that may be chosen.
    pub fn candidates(&self) -> &'a Candidates<'a> {
        self.candidates
    }

    /// The request's headers.
    pub fn headers(&self) -> &'a Headers {
        self.candidates.headers
    }

    /// The endpoint that is called; `None` when there is no instance at all.
    pub fn endpoint(&self) -> Option<&'a EndpointName> {
        self.candidates.instances.first().map(|one| &one.endpoint)
    }
}

/// The instances that a request may go to now: those of discovery, without the ones that it was
/// sent to already and the ones that are left out.
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
    /// Its place in the list, which [`LoadBalancer::pick`] returns.
    pub index: usize,
    /// What discovery says about it.
    pub instance: &'a Instance,
    /// Requests of this router and its clones that it has in hand.
    pub in_flight: u32,
}

impl<'a> Candidates<'a> {
    /// Those that may be chosen, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = Candidate<'a>> {
        (0..self.instances.len()).filter_map(|index| self.get(index))
    }

    /// The one at a place of the list; `None` if it may not be chosen.
    pub fn get(&self, index: usize) -> Option<Candidate<'a>> {
        let instance = &**self.instances.get(index)?;
        let may = !(self.skip)(instance);
        may.then(|| Candidate { index, instance, in_flight: self.in_flight.at(index) })
    }

    /// All instances, also those that may not be chosen: for strategies that divide something
    /// among all of them, as a ring of hashes does.
    pub fn all(&self) -> &'a [Arc<Instance>] {
        self.instances
    }

    /// The request's headers.
    pub fn headers(&self) -> &'a Headers {
        self.headers
    }

    /// Notes the rule of the choice for its explanation. The last note counts.
    pub fn because(&self, why: Why) {
        self.why.set(Some(why));
    }

    /// The same as the documents' [`LoadBalancer::select_node`] sees it.
    pub fn criteria(&self) -> SelectionCriteria<'_> {
        SelectionCriteria { candidates: self }
    }
}

impl fmt::Debug for Candidates<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|one| one.instance.id)).finish()
    }
}
