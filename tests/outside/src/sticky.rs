//! A strategy: requests of one session go to one instance, as long as that is there.
//!
//! A model server has a session's state in its cache, so the next request of the session is cheaper
//! where the last one was. The session is named in a header; requests without it, and the first of
//! each session, go to the less loaded of two.

use std::collections::HashMap;

use parking_lot::Mutex;
use sinew::{
    Candidates, InstanceId, LoadBalancer, PowerOfTwoChoices, SelectionCriteria,
    layers::router::Random,
};

/// The header with the name of the session.
pub const SESSION: &str = "session";

/// Most sessions that are remembered. Beyond it all are forgotten, and begin anew.
const MAX_SESSIONS: usize = 100_000;

/// The strategy. Give one to [`PushRouter::with_load_balancer`](sinew::PushRouter).
#[derive(Debug, Default)]
pub struct Sticky {
    /// For those who are new.
    new: PowerOfTwoChoices,
    sessions: Mutex<HashMap<String, InstanceId>>,
}

impl LoadBalancer for Sticky {
    fn select_node(&self, criteria: &SelectionCriteria<'_>) -> Option<InstanceId> {
        let session = criteria.headers().get(SESSION)?;
        let id = *self.sessions.lock().get(session)?;
        criteria.candidates().iter().any(|one| one.instance.id == id).then_some(id)
    }

    fn pick(&self, candidates: &Candidates<'_>, random: &mut Random) -> Option<usize> {
        if let Some(id) = self.select_node(&candidates.criteria()) {
            return candidates.iter().find(|one| one.instance.id == id).map(|one| one.index);
        }
        let index = self.new.pick(candidates, random)?;
        if let Some(session) = candidates.headers().get(SESSION) {
            let mut sessions = self.sessions.lock();
            if sessions.len() == MAX_SESSIONS {
                sessions.clear();
            }
            sessions.insert(session.to_owned(), candidates.get(index)?.instance.id);
        }
        Some(index)
    }

    /// What was in its cache is lost, or cannot be reached: its sessions go elsewhere for good.
    fn remove_unhealthy_node(&self, id: InstanceId) {
        self.sessions.lock().retain(|_, at| *at != id);
    }

    fn name(&self) -> &'static str {
        "the instance of its session"
    }
}
