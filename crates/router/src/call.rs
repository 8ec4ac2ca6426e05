//! One request from its first attempt to the one that serves it.

use std::{
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use serde_core::{Serialize, de::DeserializeOwned};
use sinew_codec::PayloadFormat;
use sinew_discovery::Instance;
use sinew_plane::{
    Context, Error, Executed, InstanceId, ManyOut, OutgoingRequest, StopKind, TransportId, clock,
    unless_cancelled,
};

use crate::{
    Explanation, LOCAL, RouterMode,
    active_attempt::ActiveAttempt,
    addressed::cancelled,
    client::Members,
    in_process,
    payload::{self, BodyCache},
    push_router::Shared,
    response,
    retry::Attempts,
    router_state::Chosen,
};

/// Most choices that one request drops because they no longer hold. Each costs a change at the
/// very moment, so more than a few are a storm, in which asking says more than looking.
const MAX_PASSED_OVER: usize = 16;

/// One request on its way through its attempts.
pub(crate) struct Call<'a, Req, Resp> {
    pub(crate) shared: &'a Shared,
    pub(crate) mode: RouterMode,
    pub(crate) context: &'a Context,
    /// Taken when it is handed to an engine in this process.
    data: Option<Req>,
    bodies: BodyCache,
    pub(crate) attempts: Attempts,
    /// How often a choice no longer held before anything was sent.
    passed_over: usize,
    /// Set from when a request may have reached an instance.
    sent: &'a AtomicBool,
    response: PhantomData<fn() -> Resp>,
}

/// What came of an attempt that did not fail.
enum Step<Resp> {
    /// The handler has it.
    Serves(ManyOut<Resp>, TransportId),
    /// The choice no longer held by the time the request was ready, and nothing was sent.
    PassedOver,
    /// Nothing was sent, and the request is better sent to this one, which is connected.
    Quicker(Chosen),
}

impl<'a, Req, Resp> Call<'a, Req, Resp>
where
    Req: Serialize + Send + Sync + 'static,
    Resp: DeserializeOwned + Send + 'static,
{
    pub(crate) fn new(
        shared: &'a Shared,
        mode: RouterMode,
        context: &'a Context,
        data: Req,
        sent: &'a AtomicBool,
    ) -> Self {
        Self {
            shared,
            mode,
            context,
            data: Some(data),
            bodies: BodyCache::default(),
            attempts: Attempts::default(),
            passed_over: 0,
            sent,
            response: PhantomData,
        }
    }

    pub(crate) async fn run(mut self) -> Result<(ManyOut<Resp>, Explanation), Error> {
        self.shared.state.lock().on_request(clock::now());
        // One that is connected, where another one that was chosen before is slow to be.
        let mut quicker = None;
        loop {
            if self.context.is_stopped() {
                return Err(self.cancelled());
            }
            let (members, chosen) = match quicker.take() {
                Some(quicker) => quicker,
                None => {
                    let members = self.shared.client.members();
                    let Some(chosen) = choose(self.shared, self.mode, &members, &self.attempts)
                    else {
                        self.wait_for_next_round().await?;
                        continue;
                    };
                    (members, chosen)
                }
            };
            let choice = chosen.choice;
            let instance = &members.instances[choice.index];
            match self.attempt(&members, chosen).await {
                Ok(Step::PassedOver) => self.passed_over += 1,
                Ok(Step::Quicker(other)) => quicker = Some((members, other)),
                Ok(Step::Serves(response, transport)) => {
                    self.shared.state.lock().succeeded(choice.id);
                    let (instance, why) = (choice.id, choice.why);
                    let attempts = self.attempts.into_failed();
                    return Ok((response, Explanation { instance, transport, why, attempts }));
                }
                Err(error) => {
                    tracing::debug!(
                        instance = %instance.key(), code = %error.code(), %error, "attempt failed"
                    );
                    self.shared.state.lock().failed(instance, &error, clock::now());
                    let sent_again = self.shared.retry.allows(
                        self.attempts.tries() + 1,
                        &error,
                        instance.idempotent,
                        members.instances.len(),
                    );
                    self.attempts.failed(choice.id, error);
                    if !sent_again || self.data.is_none() {
                        return Err(self.give_up(""));
                    }
                    if !self.shared.state.lock().try_resend(clock::now()) {
                        return Err(self.give_up("; the retry budget is spent"));
                    }
                }
            }
        }
    }

    /// Everybody was asked: waits before those who may have recovered are asked once more. An
    /// error when there are none, as when nobody is there at all.
    async fn wait_for_next_round(&mut self) -> Result<(), Error> {
        if self.attempts.count() == 0 {
            return Err(match self.mode {
                RouterMode::Direct(id) => self.shared.client.no_such_instance(id),
                _ => self.shared.client.no_instances(),
            });
        }
        let Some(round) = self.attempts.next_round() else { return Err(self.give_up("")) };
        let retry = &self.shared.retry;
        let backoff = retry.backoff.delay(round.number, self.shared.state.lock().random());
        let delay = round.asked_to_wait.map_or(backoff, |asked| asked.max(backoff));
        if delay > retry.max_wait.max(backoff) {
            return Err(self.give_up(""));
        }
        let pause = unless_cancelled(self.context, StopKind::Stop, tokio::time::sleep(delay));
        pause.await.map_err(|_| self.cancelled())
    }

    /// Sends the request to the one that was chosen, or says why that was not to be. The permit
    /// ends with an error.
    async fn attempt(
        &mut self,
        members: &Arc<Members>,
        chosen: Chosen,
    ) -> Result<Step<Resp>, Error> {
        let Chosen { choice, permit, in_spite } = chosen;
        let instance = &members.instances[choice.index];
        let attempt = ActiveAttempt {
            permit,
            instance: Arc::clone(instance),
            state: Arc::clone(&self.shared.state),
        };
        let local = self.shared.client.local(instance);
        if let Some(local) = local
            && let Some(engine) = local.engine::<Req, Resp>()
        {
            // Asked first, because an engine that refuses keeps the value.
            local.admits()?;
            let Some(data) = self.data.take() else { return Err(self.give_up("")) };
            self.sent.store(true, Ordering::Relaxed);
            let response =
                in_process::call(engine, data, self.context, self.shared.limits, attempt);
            let response = response.await?;
            return Ok(Step::Serves(response, LOCAL));
        }
        let routes = &members.routes[choice.index];
        if routes.is_empty() {
            let registry = self.shared.client.addressed().registry();
            return Err(registry.no_transport(&instance.key(), &instance.addresses));
        }
        let format = match self.shared.format {
            Some(format) => format,
            None => payload::format_for(instance)?,
        };
        let request = self.request(instance, format)?;
        if self.passed_over < MAX_PASSED_OVER && !self.still_holds(members, instance, in_spite) {
            tracing::debug!(instance = %instance.key(), "passed over before anything was sent");
            return Ok(Step::PassedOver);
        }
        let egress = self.shared.client.addressed();
        let context = request.context.clone();
        let opened = match egress.registry().open_now(routes, &request) {
            Some(opened) => {
                self.sent.store(true, Ordering::Relaxed);
                opened?
            }
            None => {
                // On the heap, so that the usual way does not pay for the room that waiting takes.
                if egress.registry().connect(routes, self.context).is_some()
                    && let Some(quicker) = Box::pin(self.connect(members, &choice)).await?
                {
                    return Ok(Step::Quicker(quicker));
                }
                self.sent.store(true, Ordering::Relaxed);
                egress.open(routes, request).await?
            }
        };
        let started = egress.started(opened, &context).await?;
        let transport = started.transport.clone();
        let response = response::remote(started, format, self.context, attempt);
        Ok(Step::Serves(response, transport))
    }

    /// Whether the instance would still be chosen. Encoding a large request takes time, in which
    /// other requests may have found it overloaded or gone, or discovery withdrawn it.
    fn still_holds(&self, members: &Arc<Members>, instance: &Instance, in_spite: bool) -> bool {
        let newest = self.shared.client.members();
        let known =
            Arc::ptr_eq(members, &newest) || newest.instances.iter().any(|one| **one == *instance);
        known && (in_spite || !self.shared.state.lock().is_ejected(instance, clock::now()))
    }

    fn request(
        &mut self,
        instance: &Instance,
        format: PayloadFormat,
    ) -> Result<OutgoingRequest, Error> {
        let body = match &self.data {
            Some(data) => self.bodies.body(format, data)?,
            // Not reached: without data no further attempt is made.
            None => Bytes::new(),
        };
        let id = if instance.any_id { InstanceId(0) } else { instance.id };
        let attempt = self.attempts.count();
        // The id of the context is that of the response stream, and the stream of an attempt
        // that was lost may still be kept somewhere for a resume.
        let context = if attempt == 0 { self.context.clone() } else { self.context.child() };
        let headers = payload::headers(self.context.headers(), format)?;
        let mut request = OutgoingRequest::new(instance.endpoint.clone(), id, body)
            .with_context(context)
            .with_headers(headers);
        request.window = self.shared.window;
        request.limits = self.shared.limits;
        request.process = instance.process;
        // There are at most as many attempts as RetryConfig says; beyond 255 the number on the
        // wire stands still.
        request.attempt = u8::try_from(attempt).unwrap_or(u8::MAX);
        Ok(request)
    }

    fn cancelled(&mut self) -> Error {
        let executed = std::mem::take(&mut self.attempts).executed().unwrap_or(Executed::No);
        cancelled(self.context, executed)
    }

    fn give_up(&mut self, because: &str) -> Error {
        let attempts = std::mem::take(&mut self.attempts);
        attempts.give_up(because).unwrap_or_else(|| self.shared.client.no_instances())
    }
}

/// The next instance that a request is to be sent to.
pub(crate) fn choose(
    shared: &Shared,
    mode: RouterMode,
    members: &Members,
    attempts: &Attempts,
) -> Option<Chosen> {
    let near = |one: &Instance| shared.client.is_local(one);
    let preferred = shared.prefer_local.then_some(&near as &dyn Fn(&Instance) -> bool);
    shared.state.lock().choose(mode, members, attempts, preferred, clock::now())
}
