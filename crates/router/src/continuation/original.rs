//! The request of a response that may go on elsewhere, and the search for another instance.

use std::{
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_core::de::DeserializeOwned;
use sinew_codec::PayloadFormat;
use sinew_discovery::{Instance, View};
use sinew_plane::{
    CancelReason, Checkpoint, Code, Context, Continuation, Continued, Error, Executed,
    MigrationCause, OutgoingRequest, StopKind, clock, header, random, unless_cancelled,
};

use super::prefix::Begin;
use crate::{
    LoadBalancer, OutgoingAttempt, RouterMode,
    active_attempt::ActiveAttempt,
    attempt::{Answer, Attempt, Way},
    client::Members,
    deadline::until_deadline,
    payload,
    policy::TransportMoves,
    push_router::Shared,
    request::{outgoing, pick, routes},
    response::Remote,
    retry_config::Attempts,
    router_state::Chosen,
};

/// Longest search for an instance that goes on with a response. A worker that restarts is back within
/// it, and a caller whose endpoint is gone learns of it.
const SEARCH_LIMIT: Duration = Duration::from_secs(10);

/// Shortest wait before the instances are looked at again, where discovery says nothing new.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);

/// Most instances that one search sends the request to.
const MAX_TRIES: usize = 64;

/// A request, kept in encoded form while its response may have to go on elsewhere. Its bytes are those
/// of the caller's own call, and are not charged to the memory budget.
pub(crate) struct Original {
    shared: Shared,
    /// `None` for the program's own strategy.
    mode: Option<RouterMode>,
    pub(super) context: Context,
    format: PayloadFormat,
    body: Bytes,
    /// How many attempts were made.
    number: AtomicUsize,
    moves: TransportMoves,
}

/// The run that the response goes on with.
pub(super) struct NextRun<T> {
    pub(super) response: Pin<Box<Remote<T>>>,
    pub(super) active: ActiveAttempt,
}

/// Why no run goes on.
pub(super) enum NotContinued {
    /// The request was cancelled, or its deadline has passed.
    Cancelled(CancelReason),
    /// No instance has taken it.
    NoInstance(Error),
}

/// What is known of the run that ended.
#[derive(Clone)]
pub(super) struct Left {
    pub(super) instance: Arc<Instance>,
    pub(super) why: MigrationCause,
    /// The instances that have handed the response over, which take nothing any more.
    pub(super) drained: Vec<Arc<Instance>>,
    /// How many runs in a row, this one included, were lost without a new item.
    pub(super) barren: usize,
}

impl Original {
    pub(crate) fn new(
        shared: Shared,
        mode: Option<RouterMode>,
        context: Context,
        format: PayloadFormat,
        body: Bytes,
        number: usize,
    ) -> Self {
        let (number, moves) = (AtomicUsize::new(number), TransportMoves::default());
        Self { shared, mode, context, format, body, number, moves }
    }

    /// Sets where the moves of the response between transports are kept.
    pub(crate) fn with_moves(self, moves: TransportMoves) -> Self {
        Self { moves, ..self }
    }

    /// How often a request is sent although it may be what its workers die of.
    pub(super) fn max_barren(&self) -> usize {
        self.shared.state.config().max_attempts
    }

    /// Starts a run that begins at `begin`, at another instance than the one that was left if there
    /// is one. Waits for an instance for at most [`SEARCH_LIMIT`].
    pub(super) async fn go_on<T>(
        self: Arc<Self>,
        left: Left,
        begin: Begin,
    ) -> Result<NextRun<T>, NotContinued>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let sent = AtomicBool::new(true);
        let mut direct = None;
        let state = &self.shared.state;
        let strategy = match self.mode {
            Some(mode) => state.strategies().of(mode, &mut direct),
            // The program's own; not reached without one.
            None => match state.custom() {
                Some(custom) => custom,
                None => state.strategies().of(RouterMode::default(), &mut direct),
            },
        };
        let search = Search {
            original: &self,
            strategy,
            left,
            begin,
            sent: &sent,
            view: self.shared.client.view(),
            asked: Vec::new(),
            round: 0,
            tries: 0,
            last: None,
            until: clock::now() + SEARCH_LIMIT,
        };
        let search = async {
            let found = unless_cancelled(&self.context, StopKind::Stop, pin!(search.run())).await;
            found.unwrap_or_else(|reason| Err(Error::cancelled(reason)))
        };
        let found = until_deadline(&self.context, &sent, pin!(search)).await;
        found.map_err(|error| match self.context.reason() {
            Some(reason) => NotContinued::Cancelled(reason),
            None => NotContinued::NoInstance(error),
        })
    }

    fn outgoing(&self, instance: &Instance, begin: &Begin) -> Result<OutgoingRequest, Error> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let (format, context) = (self.format, &self.context);
        let attempt = OutgoingAttempt { instance, format, context, number };
        // Another stream, so another id.
        let own = self.context.child();
        let Some(state) = &begin.state else {
            return outgoing(&self.shared, &attempt, own, self.body.clone());
        };
        let checkpoint = Checkpoint { items: begin.at, state: state.clone() };
        let continued = Continued::behind(&checkpoint);
        let mut request = outgoing(&self.shared, &attempt, own, continued.body(&self.body))?;
        let inserted = request.headers.insert(header::CONTINUE_AT, &continued.header_value());
        inserted.map_err(|error| {
            let message = format!("the headers leave no room for `continue-at`: {error}");
            Error::new(Code::TooLarge, message).with_executed(Executed::No)
        })?;
        Ok(request)
    }
}

/// One search for an instance.
struct Search<'a> {
    original: &'a Original,
    strategy: &'a dyn LoadBalancer,
    left: Left,
    begin: Begin,
    sent: &'a AtomicBool,
    view: View,
    /// The instances that have failed in this round.
    asked: Vec<Arc<Instance>>,
    round: u32,
    tries: usize,
    last: Option<Error>,
    until: Instant,
}

impl Search<'_> {
    async fn run<T>(mut self) -> Result<NextRun<T>, Error>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let shared = &self.original.shared;
        loop {
            let members = shared.client.members();
            let Some(chosen) = self.choose(&members) else {
                self.wait().await?;
                continue;
            };
            if !self.may_send() {
                drop(chosen);
                self.wait().await?;
                continue;
            }
            self.tries += 1;
            let instance = Arc::clone(&members.instances[chosen.choice.index]);
            match self.attempt(&members, chosen).await {
                Ok(next) => {
                    shared.state.served(&instance, clock::now());
                    return Ok(next);
                }
                Err(error) => self.failed(instance, error)?,
            }
        }
    }

    fn choose(&self, members: &Members) -> Option<Chosen> {
        let mut attempts = Attempts::default();
        for (one, routes) in members.instances.iter().zip(&members.routes) {
            if routes.is_empty() || !self.may_ask(one) {
                attempts.leave_out(one.id);
            }
        }
        let Original { shared, context, .. } = self.original;
        pick(shared, self.strategy, context, members, &attempts, clock::now())
    }

    fn may_ask(&self, instance: &Instance) -> bool {
        let is =
            |other: &Instance| instance.id == other.id && instance.incarnation == other.incarnation;
        // One that was lost may only have lost its connection, so it is asked behind all others.
        let is_left = (self.round == 0 && is(&self.left.instance))
            || self.left.drained.iter().any(|drained| is(drained));
        let understands = match &self.begin.state {
            Some(_) => instance.continuation == Continuation::Checkpoint,
            None => instance.continuation != Continuation::None,
        };
        let Original { shared, format, .. } = self.original;
        let reads = shared.format.is_some() || payload::reads(instance, *format);
        understands && reads && !is_left && !self.asked.iter().any(|asked| is(asked))
    }

    /// True if the retry budget allows one more attempt. The first after a worker has handed the
    /// stream over is the worker's wish, and free; so is the next one where that worker drains, too.
    fn may_send(&self) -> bool {
        let is_first = self.tries == 0 && self.left.why != MigrationCause::Lost;
        let drains = |error: &Error| error.code() == Code::Draining;
        let is_wish = is_first || self.last.as_ref().is_some_and(drains);
        is_wish || self.original.shared.state.try_resend(clock::now())
    }

    async fn attempt<T>(&self, members: &Members, chosen: Chosen) -> Result<NextRun<T>, Error>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let original = self.original;
        let Chosen { choice, permit, .. } = chosen;
        let instance = Arc::clone(&members.instances[choice.index]);
        let request = original.outgoing(&instance, &self.begin)?;
        let state = Arc::clone(&original.shared.state);
        let policy = original.shared.policies.as_ref().and_then(|policies| policies.choose());
        let routes = routes(policy.as_deref(), members, choice.index);
        let mut attempt = Attempt::<Bytes, T> {
            shared: &original.shared,
            context: &original.context,
            sent: self.sent,
            active: ActiveAttempt { permit, instance, state, kept: None },
            way: Way::Remote { routes, format: original.format, request, opened: None },
            moves: original.moves.clone(),
        };
        attempt.send_now();
        match attempt.run().await? {
            Answer::Remote { response, active, .. } => Ok(NextRun { response, active }),
            // Not reached: the way is a transport.
            Answer::Local(_) => Err(Error::handler("it was answered without a transport")),
        }
    }

    /// # Errors
    /// The request is not sent again.
    fn failed(&mut self, instance: Arc<Instance>, error: Error) -> Result<(), Error> {
        tracing::debug!(
            instance = %instance.key(), code = %error.code(), %error, "not continued here"
        );
        self.original.shared.state.failed(&instance, &error, clock::now());
        if error.executed() != Executed::No {
            self.left.barren += 1;
        }
        let is_over = self.left.barren >= self.original.max_barren() || self.tries >= MAX_TRIES;
        if is_over {
            return Err(error);
        }
        self.asked.push(instance);
        self.last = Some(error);
        Ok(())
    }

    /// Waits for another view of discovery or for the backoff, and begins a new round.
    ///
    /// # Errors
    /// The time for the search is over: the error of the last attempt.
    async fn wait(&mut self) -> Result<(), Error> {
        let now = clock::now();
        if now >= self.until {
            let none = || self.original.shared.client.no_instances();
            return Err(self.last.take().unwrap_or_else(none));
        }
        let backoff = &self.original.shared.state.config().backoff;
        let delay = backoff.delay(self.round, &mut random::generator()).max(SHORTEST_WAIT);
        let next = tokio::time::sleep_until((now + delay).min(self.until).into());
        tokio::select! {
            biased;
            Some(_) = self.view.changed() => {}
            () = next => {}
        }
        self.round += 1;
        self.asked.clear();
        Ok(())
    }
}
