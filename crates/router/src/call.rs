//! One request from its first attempt to the one that serves it.

use std::marker::PhantomData;

use bytes::Bytes;
use serde_core::{Serialize, de::DeserializeOwned};
use sinew_codec::PayloadFormat;
use sinew_discovery::Instance;
use sinew_plane::{Context, Error, Executed, InstanceId, ManyOut, OutgoingRequest, TransportId};

use crate::{
    Choice, Explanation, LOCAL, RouterMode,
    addressed::cancelled,
    client::Members,
    in_process,
    payload::{self, BodyCache},
    push_router::{Shared, now},
    response,
    retry::Attempts,
};

/// One request on its way through its attempts.
pub(crate) struct Call<'a, Req, Resp> {
    shared: &'a Shared,
    mode: RouterMode,
    context: &'a Context,
    /// Taken when it is handed to an engine in this process.
    data: Option<Req>,
    bodies: BodyCache,
    attempts: Attempts,
    response: PhantomData<fn() -> Resp>,
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
    ) -> Self {
        Self {
            shared,
            mode,
            context,
            data: Some(data),
            bodies: BodyCache::default(),
            attempts: Attempts::default(),
            response: PhantomData,
        }
    }

    pub(crate) async fn run(mut self) -> Result<(ManyOut<Resp>, Explanation), Error> {
        self.shared.balance.lock().on_request(now());
        loop {
            if self.context.is_stopped() {
                return Err(self.cancelled());
            }
            let members = self.shared.client.members();
            let Some(choice) = self.choose(&members) else {
                self.wait_for_next_round().await?;
                continue;
            };
            let instance = &members.instances[choice.index];
            match self.attempt(&members, choice).await {
                Ok((response, transport)) => {
                    self.shared.balance.lock().succeeded(choice.id);
                    let (instance, why) = (choice.id, choice.why);
                    let attempts = self.attempts.into_failed();
                    return Ok((response, Explanation { instance, transport, why, attempts }));
                }
                Err(error) => {
                    tracing::debug!(
                        instance = %instance.key(), code = %error.code(), %error, "attempt failed"
                    );
                    self.shared.balance.lock().failed(instance, &error, now());
                    let sent_again = self.shared.retry.allows(
                        self.attempts.count() + 1,
                        &error,
                        instance.idempotent,
                        members.instances.len(),
                    );
                    self.attempts.failed(choice.id, error);
                    if !sent_again || self.data.is_none() {
                        return Err(self.give_up(""));
                    }
                    if !self.shared.balance.lock().try_resend(now()) {
                        return Err(self.give_up("; the retry budget is spent"));
                    }
                }
            }
        }
    }

    fn choose(&self, members: &Members) -> Option<Choice> {
        let near = |one: &Instance| self.shared.client.is_local(one);
        let preferred = self.shared.prefer_local.then_some(&near as &dyn Fn(&Instance) -> bool);
        let mut balance = self.shared.balance.lock();
        balance.choose(self.mode, members, &self.attempts, preferred, now())
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
        let backoff = retry.backoff.delay(round.number, self.shared.balance.lock().random());
        let delay = round.asked_to_wait.map_or(backoff, |asked| asked.max(backoff));
        if delay > retry.max_wait.max(backoff) {
            return Err(self.give_up(""));
        }
        tokio::select! {
            biased;
            () = self.context.stopped() => Err(self.cancelled()),
            () = tokio::time::sleep(delay) => Ok(()),
        }
    }

    async fn attempt(
        &mut self,
        members: &Members,
        choice: Choice,
    ) -> Result<(ManyOut<Resp>, TransportId), Error> {
        let instance = &members.instances[choice.index];
        let local = self.shared.client.local(instance);
        if let Some(local) = local
            && let Some(engine) = local.engine::<Req, Resp>()
        {
            // Asked first, because an engine that refuses keeps the value.
            local.admits()?;
            let Some(data) = self.data.take() else { return Err(self.give_up("")) };
            let response = in_process::call(engine, data, self.context).await?;
            return Ok((response, LOCAL));
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
        let started = self.shared.client.addressed().send(routes, request).await?;
        let transport = started.transport.clone();
        Ok((response::remote(started, format, self.context), transport))
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
