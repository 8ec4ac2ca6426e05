//! Counts one request of an instance until the response ends.

use std::sync::Arc;

use sinew_discovery::Instance;
use sinew_plane::{Code, Error, Executed, OnBodyEnd, Outcome, clock};

use crate::{InFlightGuard, policy::Kept, router_state::RouterState};

/// The instance that serves a request. While this value lives, the instance counts one more request
/// in flight.
pub(crate) struct ActiveAttempt {
    pub(crate) permit: InFlightGuard,
    pub(crate) instance: Arc<Instance>,
    pub(crate) state: Arc<RouterState>,
    /// Keeps the response among those that a policy can move.
    pub(crate) kept: Option<Kept>,
}

/// The count ends before the caller gets the end, so that a caller which sends its next request at
/// once finds the counts right.
impl OnBodyEnd for ActiveAttempt {
    /// Ejects an instance that was lost during the response: discovery has not removed it yet, and
    /// the caller's next attempt must not go there again.
    fn ended(self: Box<Self>, outcome: &Outcome, error: Option<&Error>) {
        let Self { permit, instance, state, kept } = *self;
        drop(permit);
        let lost = error.filter(|error| is_lost(error, outcome));
        if let Some(kept) = kept {
            kept.ended(lost.is_some());
        }
        if let Some(error) = lost {
            state.failed(&instance, error, clock::now());
        }
    }
}

/// True if the instance or the connection to it was lost. A handler may pass on an error of another
/// service, with any code; such an error says nothing about this instance.
fn is_lost(error: &Error, outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Truncated { .. } => true,
        Outcome::Failed { .. } => {
            error.code() == Code::ConnectionLost && error.executed() != Executed::Yes
        }
        _ => false,
    }
}
