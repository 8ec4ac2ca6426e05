//! Connects to the chosen instance, and in parallel to others while it is slow.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_core::{Serialize, de::DeserializeOwned};
use sinew_plane::{CONNECT_ATTEMPT_DELAY, Code, Error, Executed, clock, staggered};
use tokio::time::sleep;

use crate::{
    Choice,
    client::Members,
    request::{Request, pick, routes},
    router_state::Chosen,
};

/// Most instances that one request connects to in parallel with the first. The last of them starts
/// two seconds after the first, so several connections that hang delay a request no longer than one
/// does.
const MAX_BESIDE: usize = 8;

impl<Req, Resp> Request<'_, Req, Resp>
where
    Req: Serialize + Send + Sync + 'static,
    Resp: DeserializeOwned + Send + 'static,
{
    /// Waits until the request can be sent to the chosen instance (`None`) or, while that one does
    /// not answer, to another one. It makes connections and sends no request, so it takes nothing
    /// from the retry budget.
    ///
    /// # Errors
    /// The error of the first, if all have failed. The errors of the others are recorded.
    pub(crate) async fn connect(
        &mut self,
        members: &Arc<Members>,
        first: &Choice,
    ) -> Result<Option<Chosen>, Error> {
        let registry = self.shared.client.addressed().registry();
        let routes = self.routes(members, first.index);
        let Some(connecting) = registry.connect(&routes, self.context) else { return Ok(None) };
        let may_go_elsewhere = self.strategy.named().is_none()
            && self.may_go_elsewhere(members, &members.instances[first.index], &slow());
        if !may_go_elsewhere {
            return connecting.await.map(|()| None);
        }
        drop(connecting);
        let mut race = self.race(members, first).await;
        let Some(up) = race.up else { return Err(self.all_failed(members, race)) };
        for (place, error) in std::mem::take(&mut race.failed) {
            let choice = race.choice(first, place);
            self.not_connected(members, &choice, error);
        }
        for place in 0..up {
            let choice = race.choice(first, place);
            if !self.attempts.was_asked(choice.id) {
                self.passed_by(&members.instances[choice.index], slow(), clock::now());
            }
        }
        Ok(up.checked_sub(1).map(|place| race.beside.swap_remove(place)))
    }

    async fn race(&mut self, members: &Arc<Members>, first: &Choice) -> Race {
        let (mut begun, mut beside, mut failed) = (0, Vec::new(), Vec::new());
        let failures = AtomicUsize::new(0);
        let Self { shared, strategy, context, attempts, policy, .. } = self;
        let (policy, context) = (policy.as_deref(), *context);
        let registry = shared.client.addressed().registry();
        let next = || {
            let place = begun;
            // What to do about a failure is decided where the budget is known.
            let all_failed = place > 0 && failures.load(Ordering::Relaxed) == place;
            if all_failed || place > MAX_BESIDE || context.is_stopped() {
                return None;
            }
            let index = match place {
                0 => first.index,
                _ => loop {
                    let chosen = pick(shared, *strategy, context, members, attempts, clock::now())?;
                    let index = chosen.choice.index;
                    if members.routes[index].is_empty() {
                        attempts.connecting(chosen.choice.id);
                        continue;
                    }
                    beside.push(chosen);
                    break index;
                },
            };
            begun += 1;
            attempts.connecting(members.instances[index].id);
            let routes = routes(policy, members, index);
            Some(async move {
                if let Some(connecting) = registry.connect(&routes, context) {
                    connecting.await.map_err(|error| (place, error))?;
                }
                Ok(place)
            })
        };
        let fail = |error| {
            failures.fetch_add(1, Ordering::Relaxed);
            failed.push(error);
        };
        let up = staggered(|| sleep(CONNECT_ATTEMPT_DELAY), next, fail).await;
        attempts.connected();
        Race { up, beside, failed }
    }

    /// Records the errors of all but the first, and returns that of the first.
    fn all_failed(&mut self, members: &Members, race: Race) -> Error {
        let mut of_first = None;
        for (place, error) in race.failed {
            match place.checked_sub(1) {
                None => of_first = Some(error),
                Some(place) => {
                    let choice = race.beside[place].choice;
                    self.not_connected(members, &choice, error);
                }
            }
        }
        of_first.unwrap_or_else(slow)
    }

    fn not_connected(&mut self, members: &Members, choice: &Choice, error: Error) {
        let instance = &members.instances[choice.index];
        tracing::debug!(instance = %instance.key(), code = %error.code(), %error, "not connected");
        self.failed(instance, error.into(), clock::now());
    }
}

/// The result of connecting to several instances. The first has index 0.
struct Race {
    up: Option<usize>,
    /// The instances at the indices from 1 on.
    beside: Vec<Chosen>,
    failed: Vec<(usize, Error)>,
}

impl Race {
    fn choice(&self, first: &Choice, place: usize) -> Choice {
        match place.checked_sub(1) {
            None => *first,
            Some(place) => self.beside[place].choice,
        }
    }
}

fn slow() -> Error {
    let message = format!(
        "no answer within {CONNECT_ATTEMPT_DELAY:?} of connecting, and another instance answered"
    );
    Error::new(Code::ConnectTimedOut, message).with_executed(Executed::No)
}
