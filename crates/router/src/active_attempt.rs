//! An instance while it serves a request.

use std::sync::Arc;

use sinew_discovery::Instance;
use sinew_plane::{Code, Error, Executed, OnBodyEnd, Outcome, clock};

use crate::{Permit, router_state::RouterState};

/// The instance that serves a request: it has one more in flight while this lives.
pub(crate) struct ActiveAttempt {
    pub(crate) permit: Permit,
    pub(crate) instance: Arc<Instance>,
    pub(crate) state: Arc<RouterState>,
}

/// It ends before the caller hears of the end: who asks again at once finds the counts right.
impl OnBodyEnd for ActiveAttempt {
    /// An instance that was lost midway is left out for a while: discovery has not noticed yet, and
    /// the caller's next attempt must not meet it again.
    fn ended(self: Box<Self>, outcome: &Outcome, error: Option<&Error>) {
        let Self { permit, instance, state } = *self;
        drop(permit);
        if let Some(error) = error.filter(|error| is_lost(error, outcome)) {
            state.failed(&instance, error, clock::now());
        }
    }
}

/// True when the instance or the way to it was lost. A handler may pass on an error of a service
/// that it asked itself, with any code: that is no word about the instance.
fn is_lost(error: &Error, outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Truncated { .. } => true,
        Outcome::Failed { .. } => {
            error.code() == Code::ConnectionLost && error.executed() != Executed::Yes
        }
        _ => false,
    }
}
