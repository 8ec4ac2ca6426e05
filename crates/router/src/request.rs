//! The state of a request over all its attempts: its value, its encoded bodies, and the attempts
//! made.

use std::{
    marker::PhantomData,
    pin::Pin,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_core::{Serialize, de::DeserializeOwned};
use sinew_codec::PayloadFormat;
use sinew_discovery::{Instance, PlanePolicy};
use sinew_plane::{
    Context, Error, Executed, InstanceId, ManyOut, OutgoingRequest, StopKind, TransportId, clock,
    unless_cancelled,
};

use crate::{
    AttemptReport, LOCAL, LoadBalancer, OutgoingAttempt, RouterMode, Verdict,
    active_attempt::ActiveAttempt,
    addressed::cancelled,
    attempt::{Attempt, AttemptError, Way},
    client::Members,
    continuation::{Continuing, Original},
    interceptor, no_instance,
    payload::{self, BodyCache},
    policy::{Current, Routes, TransportMoves},
    push_router::Shared,
    response::Remote,
    retry_config::Attempts,
    router_state::Chosen,
};

/// Most choices that one request drops because they no longer hold. Each takes a change of the
/// instance at that moment, so after so many the request is sent without a further check.
const MAX_PASSED_OVER: usize = 16;

/// Most attempts of one request, whatever its policy decides.
pub(crate) const MAX_TRIES: usize = 64;

/// One request with its attempts.
pub(crate) struct Request<'a, Req, Resp> {
    pub(crate) shared: &'a Shared,
    pub(crate) strategy: &'a dyn LoadBalancer,
    pub(crate) context: &'a Context,
    /// The policy over whose transport the response is to go.
    pub(crate) policy: Option<Arc<Current>>,
    /// The moves of the response.
    pub(crate) moves: TransportMoves,
    /// The mode whose strategy it is; `None` for the program's own strategy.
    mode: Option<RouterMode>,
    /// `None` after the value was passed to an engine in this process.
    data: Option<Req>,
    bodies: BodyCache,
    pub(crate) attempts: Attempts,
    /// The instance at which the last attempt failed.
    last: Option<Arc<Instance>>,
    /// How many attempts were prepared.
    begun: usize,
    /// How many choices were dropped before anything was sent.
    passed_over: usize,
    /// True from the moment when the request may have reached an instance.
    sent: &'a AtomicBool,
    response: PhantomData<fn() -> Resp>,
}

impl<'a, Req, Resp> Request<'a, Req, Resp>
where
    Req: Serialize + Send + Sync + 'static,
    Resp: Send + 'static,
{
    pub(crate) fn new(
        shared: &'a Shared,
        (strategy, mode): (&'a dyn LoadBalancer, Option<RouterMode>),
        context: &'a Context,
        (data, moves): (Req, TransportMoves),
        sent: &'a AtomicBool,
    ) -> Self {
        Self {
            shared,
            strategy,
            context,
            policy: shared.policies.as_ref().and_then(|policies| policies.choose()),
            moves,
            mode,
            data: Some(data),
            bodies: BodyCache::default(),
            attempts: Attempts::default(),
            last: None,
            begun: 0,
            passed_over: 0,
            sent,
            response: PhantomData,
        }
    }

    /// Picks the next instance.
    pub(crate) fn pick(&self, members: &Members, now: Instant) -> Option<Chosen> {
        pick(self.shared, self.strategy, self.context, members, &self.attempts, now)
    }

    /// Prepares an attempt at the chosen instance, and sends nothing yet. `None` if the choice no
    /// longer holds after the request was encoded. The attempt does not borrow the request: another
    /// one can be made while it runs, unless it took the value to an engine in this process.
    ///
    /// # Errors
    /// Why the request cannot be sent there. The instance's count of requests in flight is reduced
    /// again.
    pub(crate) fn attempt<'m>(
        &mut self,
        members: &'m Arc<Members>,
        chosen: Chosen,
    ) -> Result<Option<Attempt<'m, Req, Resp>>, AttemptError>
    where
        'a: 'm,
    {
        let Chosen { choice, permit, in_spite } = chosen;
        let instance = &members.instances[choice.index];
        let way = match self.local(instance)? {
            Some(local) => local,
            None => {
                let routes = self.routes(members, choice.index);
                if routes.is_empty() {
                    let registry = self.shared.client.addressed().registry();
                    return Err(registry.no_transport(&instance.key(), &instance.addresses).into());
                }
                let format = match self.shared.format {
                    Some(format) => format,
                    None => payload::format_for(instance)?,
                };
                let request = self.outgoing(instance, format).map_err(AttemptError::Unprepared)?;
                let may_look = self.passed_over < MAX_PASSED_OVER;
                if may_look && !self.still_holds(members, instance, in_spite) {
                    self.passed_over += 1;
                    let key = instance.key();
                    tracing::debug!(instance = %key, "passed over before anything was sent");
                    return Ok(None);
                }
                Way::Remote { routes, format, request, opened: None }
            }
        };
        self.begun += 1;
        let (instance, state) = (Arc::clone(instance), Arc::clone(&self.shared.state));
        let active = ActiveAttempt { permit, instance, state, kept: None };
        let Self { shared, context, sent, .. } = *self;
        let moves = self.moves.clone();
        Ok(Some(Attempt { shared, context, sent, active, way, moves }))
    }

    /// The policy, if it has chosen this transport for the response.
    pub(crate) fn followed(&self, transport: &TransportId) -> Option<Arc<PlanePolicy>> {
        let policy = &self.policy.as_ref()?.policy;
        if policy.transport == *transport {
            return Some(Arc::clone(policy));
        }
        if *transport != LOCAL
            && let Some(policies) = &self.shared.policies
        {
            policies.not_followed();
        }
        None
    }

    /// The routes to an instance, as the request is to take them.
    pub(crate) fn routes<'m>(&self, members: &'m Members, index: usize) -> Routes<'m> {
        routes(self.policy.as_deref(), members, index)
    }

    /// The route to the engine, if the instance is in this process and has these types.
    fn local<'m>(&mut self, instance: &Instance) -> Result<Option<Way<'m, Req, Resp>>, Error> {
        let Some(local) = self.shared.client.local(instance) else { return Ok(None) };
        // Reserved first, because an engine that refuses keeps the value.
        let Some(call) = local.reserve::<Req, Resp>()? else { return Ok(None) };
        let Some(data) = self.data.take() else { return Err(self.give_up("")) };
        Ok(Some(Way::Local { call, data }))
    }

    /// True if the instance would still be chosen. Encoding a large request takes time. Meanwhile
    /// other requests may have found the instance overloaded or lost, or discovery may have removed
    /// it.
    fn still_holds(&self, members: &Arc<Members>, instance: &Instance, in_spite: bool) -> bool {
        let newest = self.shared.client.members();
        let known =
            Arc::ptr_eq(members, &newest) || newest.instances.iter().any(|one| **one == *instance);
        known && (in_spite || !self.shared.state.is_ejected(instance, clock::now()))
    }

    fn outgoing(
        &mut self,
        instance: &Instance,
        format: PayloadFormat,
    ) -> Result<OutgoingRequest, Error> {
        let body = match &self.data {
            Some(data) => self.bodies.body(format, data)?,
            // Not reached: without data no further attempt is made.
            None => Bytes::new(),
        };
        // Those that failed were begun as well, or passed by while they were connected to.
        let number = self.attempts.count().max(self.begun);
        // The id of the context is that of the response stream, and the stream of another attempt
        // may be under way, or be kept somewhere for a resume.
        let context = if number == 0 { self.context.clone() } else { self.context.child() };
        let attempt = OutgoingAttempt { instance, format, context: self.context, number };
        outgoing(self.shared, &attempt, context, body)
    }

    /// The response as its caller reads it, at an instance that allows its continuation elsewhere.
    #[cold]
    pub(crate) fn continuing(
        &mut self,
        response: Pin<Box<Remote<Resp>>>,
        active: ActiveAttempt,
    ) -> ManyOut<Resp>
    where
        Resp: DeserializeOwned,
    {
        // Who names an instance wants that one, and who turned resending off wants one run.
        let may_continue =
            self.strategy.named().is_none() && self.shared.state.config().max_attempts > 1;
        let Some((format, body)) = self.bodies.take().filter(|_| may_continue) else {
            return response.into_body(active);
        };
        let shared = Shared::clone(self.shared);
        let number = self.attempts.count().max(self.begun);
        let original = Original::new(shared, self.mode, self.context.clone(), format, body, number);
        let original = original.with_moves(self.moves.clone());
        Continuing::body(Arc::new(original), response, active)
    }

    /// Records a failed attempt for this request, and for the ejections if the instance failed.
    pub(crate) fn failed(&mut self, instance: &Arc<Instance>, error: AttemptError, now: Instant) {
        let error = match error {
            AttemptError::Unprepared(error) => error,
            AttemptError::Instance(error) => {
                self.shared.state.failed(instance, &error, now);
                error
            }
        };
        self.last = Some(Arc::clone(instance));
        self.attempts.failed(instance.id, error);
    }

    /// Records an instance that was slower to connect than another one.
    pub(crate) fn passed_by(&mut self, instance: &Arc<Instance>, error: Error, now: Instant) {
        self.shared.state.failed(instance, &error, now);
        self.last = Some(Arc::clone(instance));
        self.attempts.passed_by(instance.id, error);
    }

    /// Waits until the request is to be sent again after a failed attempt.
    ///
    /// # Errors
    /// The error of the whole request if it is not sent again, or the cancel.
    pub(crate) async fn again(&mut self, now: Instant) -> Result<(), Error> {
        let members = self.shared.client.members();
        let unasked = self.unasked(&members);
        let Some(after) = self.classify(&members, unasked) else { return Err(self.give_up("")) };
        if self.data.is_none() {
            return Err(self.give_up(""));
        }
        if !self.may_be_sent_again() {
            return Err(self.give_up("; it may have run, and its endpoint is not idempotent"));
        }
        if self.attempts.tries() >= MAX_TRIES {
            return Err(self.give_up("; it was sent often enough"));
        }
        if !self.shared.state.try_resend(now) {
            return Err(self.give_up("; the retry budget is spent"));
        }
        drop(members);
        self.wait(unasked, after).await
    }

    /// True if the request may be sent again. Whatever the policy decides, at most one handler runs
    /// for a request unless its endpoint declares itself idempotent.
    fn may_be_sent_again(&self) -> bool {
        let idempotent = self.last.as_ref().is_some_and(|instance| instance.idempotent);
        let last = self.attempts.last();
        idempotent || last.is_some_and(|(_, error)| error.is_safe_to_resend())
    }

    /// Waits before the next round, in which the request goes again to instances that may have
    /// recovered. Called if no instance was chosen. An error if there are no such instances, or no
    /// instances at all.
    pub(crate) async fn next_round(&mut self, members: &Members) -> Result<(), Error> {
        if self.attempts.count() == 0 {
            let client = &self.shared.client;
            return Err(match self.strategy.named() {
                Some(id) => client.no_such_instance(id),
                None if members.instances.is_empty() => client.no_instances(),
                None => no_instance::none_chosen(client.endpoint(), self.strategy.name(), members),
            });
        }
        let Some(after) = self.classify(members, 0) else { return Err(self.give_up("")) };
        self.wait(0, after).await
    }

    /// How many instances the request was not sent to in this round.
    fn unasked(&self, members: &Members) -> usize {
        let named = self.strategy.named();
        let may = |id| named.is_none_or(|named| named == id) && !self.attempts.was_asked(id);
        members.instances.iter().filter(|one| may(one.id)).count()
    }

    /// The wait before the request is sent again; `None` if it is not sent again.
    fn classify(&self, members: &Members, unasked: usize) -> Option<Duration> {
        let (_, error) = self.attempts.last()?;
        let report = AttemptReport {
            error,
            instance: self.last.as_ref()?,
            attempts: self.attempts.tries(),
            instances: members.instances.len(),
            unasked,
            rounds: self.attempts.rounds(),
            asked_to_wait: self.attempts.asked_to_wait(),
        };
        match self.shared.state.classify(&report) {
            Verdict::Again(after) => Some(after),
            Verdict::GiveUp => None,
        }
    }

    /// Whether the request would go to another instance if this one failed in such a way. It is one
    /// that was not asked yet.
    pub(crate) fn may_go_elsewhere(
        &self,
        members: &Members,
        instance: &Instance,
        error: &Error,
    ) -> bool {
        let others = self.unasked(members).saturating_sub(1);
        let report = AttemptReport {
            error,
            instance,
            // Being passed by uses up none.
            attempts: self.attempts.tries().max(1),
            instances: members.instances.len(),
            unasked: others,
            rounds: self.attempts.rounds(),
            asked_to_wait: self.attempts.asked_to_wait(),
        };
        others > 0 && self.shared.state.classify(&report) != Verdict::GiveUp
    }

    async fn wait(&mut self, unasked: usize, after: Duration) -> Result<(), Error> {
        if unasked == 0 && !self.attempts.begin_round() {
            return Err(self.give_up(""));
        }
        if after.is_zero() {
            // Attempts that fail without a wait must not keep the thread to themselves.
            tokio::task::coop::consume_budget().await;
            return Ok(());
        }
        let pause = unless_cancelled(self.context, StopKind::Stop, tokio::time::sleep(after));
        pause.await.map_err(|_| self.cancelled())
    }

    pub(crate) fn cancelled(&mut self) -> Error {
        let executed = std::mem::take(&mut self.attempts).executed().unwrap_or(Executed::No);
        cancelled(self.context, executed)
    }

    fn give_up(&mut self, because: &str) -> Error {
        let attempts = std::mem::take(&mut self.attempts);
        attempts.give_up(because).unwrap_or_else(|| self.shared.client.no_instances())
    }
}

/// The routes to an instance: in the order of the policy, if there is one and the instance has an
/// address for its transport.
pub(crate) fn routes<'m>(
    policy: Option<&Current>,
    members: &'m Members,
    index: usize,
) -> Routes<'m> {
    let pinned = policy.and_then(|it| members.pinned(index, &it.policy.transport));
    pinned.map_or_else(|| Routes::Default(&members.routes[index]), Routes::Pinned)
}

/// The request of one attempt.
pub(crate) fn outgoing(
    shared: &Shared,
    attempt: &OutgoingAttempt<'_>,
    context: Context,
    body: Bytes,
) -> Result<OutgoingRequest, Error> {
    let OutgoingAttempt { instance, number, .. } = *attempt;
    let id = if instance.any_id { InstanceId(0) } else { instance.id };
    let headers = interceptor::headers(attempt, &shared.interceptors)?;
    let mut request = OutgoingRequest::in_context(context, instance.endpoint.clone(), id, body);
    request.headers = headers;
    request.window = shared.window;
    request.limits = shared.limits;
    request.process = instance.process;
    // There are at most as many attempts as RetryConfig says; beyond 255 the number on the wire
    // stands still.
    request.attempt = u8::try_from(number).unwrap_or(u8::MAX);
    Ok(request)
}

/// Picks the next instance for a request.
pub(crate) fn pick(
    shared: &Shared,
    strategy: &dyn LoadBalancer,
    context: &Context,
    members: &Members,
    attempts: &Attempts,
    now: Instant,
) -> Option<Chosen> {
    let near = |one: &Instance| shared.client.is_local(one);
    let preferred = shared.prefer_local.then_some(&near as &dyn Fn(&Instance) -> bool);
    shared.state.choose(strategy, members, attempts, context.headers(), preferred, now)
}
