//! Continues to read a response that another process has asked for.

use std::{
    pin::pin,
    sync::{Arc, atomic::AtomicBool},
};

use serde_core::{Serialize, de::DeserializeOwned};
use sinew_codec::PayloadFormat;
use sinew_discovery::Instance;
use sinew_plane::{
    Body, Code, Context, EndpointName, Error, Executed, InstanceId, ManyOut, OutgoingRequest,
    ResumeRequest, ResumeToken, StopKind, clock, unless_cancelled,
};
use sinew_registry::{Opened, Route};
use tokio::time::sleep;

use crate::{
    AttemptReport, PushRouter, Verdict, deadline::until_deadline, payload, push_router::Shared,
    request::MAX_TRIES, response::Remote,
};

impl<Req, Resp> PushRouter<Req, Resp>
where
    Req: Serialize + Send + Sync + 'static,
    Resp: DeserializeOwned + Send + 'static,
{
    /// Continues to read the response of a request that another process has sent, from the item on
    /// that the token names: also after that process has ended. A worker that retains the response
    /// sends it to each reader that asks; otherwise it has what its caller has not acknowledged, for
    /// as long as it waits for that caller, and the response is this process's from then on.
    ///
    /// The payload format is that of this router's calls. The deadline, the limits and the cancel
    /// are those of `context`. Cancelling or dropping a response that is retained ends the reading
    /// alone. A process that reads the response itself can read it a second time if it is retained.
    ///
    /// A worker that refuses for want of room is asked again, as the [`RetryConfig`] and its budget
    /// allow. One that drains is asked for what waits for its caller.
    ///
    /// # Errors
    /// [`Code::ResumeExpired`]: the worker has ended, or does not have the response or those items any
    /// more; [`Error::resume_window`] says which items it has, if any. Or this process reads the
    /// response itself, and it is not retained; or the item is beyond [`ResumeToken::MAX_ITEM`]. Or
    /// the worker cannot be reached, drains, or has no room.
    ///
    /// [`RetryConfig`]: crate::RetryConfig
    pub async fn resume(
        &self,
        token: &ResumeToken,
        context: Context,
    ) -> Result<ManyOut<Resp>, Error> {
        let shared = self.shared();
        let resuming = pin!(resume(shared, token, &context));
        let resuming = pin!(unless_cancelled(&context, StopKind::Kill, resuming));
        let resuming = pin!(async {
            let resumed = resuming.await;
            resumed.unwrap_or_else(|reason| Err(Error::cancelled(reason)))
        });
        // The handler runs already.
        until_deadline(&context, &AtomicBool::new(true), resuming).await
    }
}

async fn resume<Resp>(
    shared: &Shared,
    token: &ResumeToken,
    context: &Context,
) -> Result<ManyOut<Resp>, Error>
where
    Resp: DeserializeOwned + Send + 'static,
{
    if token.next_item > ResumeToken::MAX_ITEM {
        let message = format!("no response has an item {}", token.next_item);
        return Err(Error::new(Code::ResumeExpired, message));
    }
    let members = shared.client.members();
    let is_meant = |one: &Arc<Instance>| one.process == Some(token.worker);
    let Some(index) = members.instances.iter().position(is_meant) else {
        let message = "the worker that has the response has ended, or serves the endpoint no more";
        return Err(Error::new(Code::ResumeExpired, message));
    };
    let (instance, routes) = (&members.instances[index], &members.routes[index]);
    let format = match shared.format {
        Some(format) => format,
        None => payload::format_for(instance)?,
    };
    let mut attempts = 0;
    loop {
        let error = match ask(shared, token, context, (routes, format)).await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        attempts += 1;
        if error.code() != Code::Overloaded || attempts >= MAX_TRIES {
            return Err(error);
        }
        // Whoever asks again runs no handler a second time.
        let again = error.clone().with_executed(Executed::No);
        let report = AttemptReport {
            error: &again,
            instance,
            attempts,
            instances: 1,
            unasked: 0,
            rounds: (attempts - 1) as u32,
            asked_to_wait: error.retry_after(),
        };
        let Verdict::Again(after) = shared.state.classify(&report) else { return Err(error) };
        if !shared.state.try_resend(clock::now()) {
            return Err(error);
        }
        sleep(after).await;
    }
}

/// Asks the worker once: for what it retains, then for what waits for its caller.
async fn ask<Resp>(
    shared: &Shared,
    token: &ResumeToken,
    context: &Context,
    way: (&[Route], PayloadFormat),
) -> Result<ManyOut<Resp>, Error>
where
    Resp: DeserializeOwned + Send + 'static,
{
    let refused = match read(shared, token, context, way).await {
        Ok(response) => return Ok(response),
        Err(error) => error,
    };
    // An attach needs no place among the requests, also at a worker that takes no more of them.
    let is_refusal = matches!(refused.code(), Code::Draining | Code::Overloaded);
    if !is_refusal && !matches!(refused.code(), Code::ResumeExpired | Code::UnknownEndpoint) {
        return Err(refused);
    }
    take_over(shared, token, context, way).await.map_err(|error| {
        // Whoever knows more of what there is. After a refusal the response may be retained all the
        // same.
        let is_unknown = error.code() == Code::ResumeExpired && error.resume_window().is_none();
        let refused_says_more = refused.resume_window().is_some() || is_refusal && is_unknown;
        if refused_says_more { refused } else { error }
    })
}

/// Reads what the worker retains.
async fn read<Resp>(
    shared: &Shared,
    token: &ResumeToken,
    context: &Context,
    way: (&[Route], PayloadFormat),
) -> Result<ManyOut<Resp>, Error>
where
    Resp: DeserializeOwned + Send + 'static,
{
    let endpoint: EndpointName = ResumeToken::ENDPOINT
        .parse()
        .map_err(|_| Error::new(Code::Violation, "the endpoint of readers is no name"))?;
    let body = token.to_string().into();
    let mut request = OutgoingRequest::in_context(context.clone(), endpoint, InstanceId(0), body);
    request.window = shared.window;
    request.limits = shared.limits;
    request.process = Some(token.worker);
    let mut opened = shared.client.addressed().registry().open(way.0, request).await?;
    opened.stream = opened.stream.reading(token.clone());
    started(opened, context, way.1).await
}

/// Takes the stream over that waits for its caller.
async fn take_over<Resp>(
    shared: &Shared,
    token: &ResumeToken,
    context: &Context,
    (routes, format): (&[Route], PayloadFormat),
) -> Result<ManyOut<Resp>, Error>
where
    Resp: DeserializeOwned + Send + 'static,
{
    let request = ResumeRequest {
        token: token.clone(),
        context: context.clone(),
        window: shared.window,
        limits: shared.limits,
    };
    let opened = shared.client.addressed().registry().resume(routes, &request).await?;
    started(opened, context, format).await
}

async fn started<Resp>(
    opened: Opened,
    context: &Context,
    format: PayloadFormat,
) -> Result<ManyOut<Resp>, Error>
where
    Resp: DeserializeOwned + Send + 'static,
{
    let mut response = Remote::sent(opened, format, context);
    response.accepted(context).await.map_err(|error| error.with_executed(Executed::Yes))?;
    Ok(Body::from_source(response, context.clone()))
}
