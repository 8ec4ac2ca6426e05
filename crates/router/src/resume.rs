//! Continues to read a response that another process has asked for.

use std::{pin::pin, sync::Arc};

use serde_core::{Serialize, de::DeserializeOwned};
use sinew_codec::PayloadFormat;
use sinew_discovery::Instance;
use sinew_plane::{
    Body, Code, Context, EndpointName, Error, Executed, InstanceId, ManyOut, OutgoingRequest,
    ResumeRequest, ResumeToken, StopKind, unless_cancelled,
};
use sinew_registry::{Opened, Route};

use crate::{PushRouter, payload, push_router::Shared, response::Remote};

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
    /// alone.
    ///
    /// # Errors
    /// [`Code::ResumeExpired`]: the worker has ended, or does not have the response or those items any
    /// more; [`Error::resume_window`] says which items it has, if any. Or the worker cannot be
    /// reached.
    pub async fn resume(
        &self,
        token: &ResumeToken,
        context: Context,
    ) -> Result<ManyOut<Resp>, Error> {
        let shared = self.shared();
        let resuming = pin!(resume(shared, token, &context));
        let resumed = unless_cancelled(&context, StopKind::Kill, resuming).await;
        resumed.unwrap_or_else(|reason| Err(Error::cancelled(reason)))
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
    let retained = match read(shared, token, context, (routes, format)).await {
        Ok(response) => return Ok(response),
        Err(error) => error,
    };
    if !matches!(retained.code(), Code::ResumeExpired | Code::UnknownEndpoint) {
        return Err(retained);
    }
    take_over(shared, token, context, (routes, format)).await.map_err(|error| {
        // Whoever knows more of what there is.
        if retained.resume_window().is_some() { retained } else { error }
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
