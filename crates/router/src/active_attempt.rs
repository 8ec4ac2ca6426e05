//! An instance while it serves a request.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{self, Poll, ready},
};

use futures_core::Stream;
use sinew_discovery::Instance;
use sinew_plane::{Code, Error, Executed, Outcome, clock};

use crate::{Permit, router_state::RouterState};

/// How a stream ended, told to what is around it.
pub(crate) type Ending = Arc<OnceLock<Outcome>>;

/// The instance that serves a request: it has one more in flight while this lives.
pub(crate) struct ActiveAttempt {
    pub(crate) permit: Permit,
    pub(crate) instance: Arc<Instance>,
    pub(crate) state: Arc<RouterState>,
}

impl ActiveAttempt {
    /// The request is over. An instance that was lost midway is left out for a while: discovery
    /// has not noticed yet, and the caller's next attempt must not meet it again.
    fn end(self, error: Option<&Error>, outcome: Option<&Outcome>) {
        let Self { permit, instance, state } = self;
        drop(permit);
        if let Some(error) = error.filter(|error| is_lost(error, outcome)) {
            state.failed(&instance, error, clock::now());
        }
    }
}

/// True when the instance or the way to it was lost. A handler may pass on an error of a service
/// that it asked itself, with any code: that is no word about the instance.
fn is_lost(error: &Error, outcome: Option<&Outcome>) -> bool {
    match outcome {
        Some(Outcome::Truncated { .. }) => true,
        Some(Outcome::Failed { .. }) => {
            error.code() == Code::ConnectionLost && error.executed() != Executed::Yes
        }
        _ => false,
    }
}

/// The values of a response, which end what counts for it before the caller hears of the end: who
/// asks again at once finds the counts right.
pub(crate) struct Served<S> {
    // Dropped in this order: the handler is told to end, then it counts as idle.
    values: S,
    attempt: Option<ActiveAttempt>,
    ending: Ending,
}

impl<S> Served<S> {
    pub(crate) fn new(values: S, attempt: ActiveAttempt, ending: Ending) -> Self {
        Self { values, attempt: Some(attempt), ending }
    }
}

impl<T, S: Stream<Item = Result<T, Error>> + Unpin> Stream for Served<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<S::Item>> {
        let next = ready!(Pin::new(&mut self.values).poll_next(cx));
        let error = match &next {
            Some(Ok(_)) => return Poll::Ready(next),
            Some(Err(error)) => Some(error),
            None => None,
        };
        if let Some(attempt) = self.attempt.take() {
            attempt.end(error, self.ending.get());
        }
        Poll::Ready(next)
    }
}
