//! Serves engines of values: a request value in, a stream of values out, in six steps.

use std::{
    future::poll_fn,
    marker::PhantomData,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;
use futures_core::Stream;
use serde_core::{Serialize, de::DeserializeOwned};
use sinew_codec::PayloadFormat;
use sinew_plane::{AsyncEngine, Context, ManyOut, ResponseSink, SingleIn, clock};
use sinew_registry::LocalEndpoint;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::{Instrument, Span};

use crate::{
    Handler,
    end::End,
    handler::{AdmittedHandler, AdmittedRequest, HasEngine},
    instance::Instance,
    local::LocalEngine,
    payload, refusal,
    request_guard::RequestGuard,
    responses::{Pushed, Responses},
    task_pool::{Job, TaskPool},
};

/// Items per unit of tokio's cooperative budget. The budget has 128 units, so the task yields after
/// about a thousand items.
const ITEMS_PER_UNIT: usize = 8;

/// Serves an [`AsyncEngine`] of values.
///
/// Requests run concurrently, one at a time per task; an idle task is reused. The steps: decode,
/// context, response stream, generate, stream out, completion. Request and items are in the format
/// that the request's `content-type` names, or in JSON without one. Items are batched while the
/// engine's next item is ready at once. When the engine has to wait, the batch is sent.
///
/// - A *kill* and a passed deadline drop the engine's future or stream at once.
/// - A *stop* lets the engine finish the current item, which is sent; then the stream is dropped.
///   The response ends as cancelled, also if the engine ended it by itself after the stop, because
///   it is not known whether items are missing.
/// - A *panic* of the engine fails its request as `HandlerGone`, and no other.
pub struct PushHandler<Req, Resp, E: ?Sized> {
    engine: Arc<E>,
    tasks: Arc<TaskPool<Work<Req, Resp, E>>>,
}

impl<Req, Resp, E: AsyncEngine<Req, Resp>> PushHandler<Req, Resp, E> {
    /// Serves `engine`.
    pub fn new(engine: E) -> Self {
        Self::shared(Arc::new(engine))
    }
}

impl<Req, Resp, E: AsyncEngine<Req, Resp> + ?Sized> PushHandler<Req, Resp, E> {
    /// Serves an engine that other code holds as well.
    pub fn shared(engine: Arc<E>) -> Self {
        Self { engine, tasks: TaskPool::new() }
    }
}

impl<Req, Resp, E> From<PushHandler<Req, Resp, E>> for Handler
where
    Req: DeserializeOwned + Send + 'static,
    Resp: Serialize + Send + Sync + 'static,
    E: AsyncEngine<Req, Resp> + ?Sized + 'static,
{
    fn from(handler: PushHandler<Req, Resp, E>) -> Self {
        Self::with_engine(Arc::new(handler))
    }
}

impl<Req, Resp, E> AdmittedHandler for PushHandler<Req, Resp, E>
where
    Req: DeserializeOwned + Send + 'static,
    Resp: Serialize + Send + Sync + 'static,
    E: AsyncEngine<Req, Resp> + ?Sized + 'static,
{
    fn handle(&self, request: AdmittedRequest<'_>, sink: ResponseSink) {
        let AdmittedRequest { body, context, permit, .. } = request;
        let span = permit.instance.span(&context);
        let counted = permit.instance.process.tasks.token();
        let request = Admitted { permit, sink, context, body };
        let engine = Arc::clone(&self.engine);
        self.tasks.run(Work { request, engine, span, _counted: counted, types: PhantomData });
    }
}

impl<Req, Resp, E> HasEngine for PushHandler<Req, Resp, E>
where
    Req: DeserializeOwned + Send + 'static,
    Resp: Serialize + Send + Sync + 'static,
    E: AsyncEngine<Req, Resp> + ?Sized + 'static,
{
    fn localize(&self, instance: &Arc<Instance>, local: LocalEndpoint) -> LocalEndpoint {
        local.with_admitting_engine::<Req, Resp>(LocalEngine::new(instance, &self.engine))
    }
}

/// The work of one request.
struct Work<Req, Resp, E: ?Sized> {
    request: Admitted,
    engine: Arc<E>,
    span: Span,
    /// A shutdown waits for it.
    _counted: TaskTrackerToken,
    types: PhantomData<fn(Req) -> Resp>,
}

struct Admitted {
    // First, so that it is the first to go when a panic unwinds: the place is free before the sink
    // tells the caller.
    permit: RequestGuard,
    sink: ResponseSink,
    context: Context,
    body: Bytes,
}

impl<Req, Resp, E> Job for Work<Req, Resp, E>
where
    Req: DeserializeOwned + Send + 'static,
    Resp: Serialize + Send + Sync + 'static,
    E: AsyncEngine<Req, Resp> + ?Sized + 'static,
{
    async fn run(self) {
        // Bound first, so dropped last: a shutdown that has waited for it finds the engine free.
        let Self { _counted, request, engine, span, .. } = self;
        answer(&*engine, request).instrument(span).await;
    }
}

async fn answer<Req, Resp, E>(engine: &E, mut request: Admitted)
where
    Req: DeserializeOwned + Send + 'static,
    Resp: Serialize + Send + Sync + 'static,
    E: AsyncEngine<Req, Resp> + ?Sized,
{
    let end = {
        let Admitted { permit, sink, context, body } = &mut request;
        let work = pin!(pipeline(engine, std::mem::take(body), context, sink, permit));
        match unless_killed(context, work).await {
            Some(Ok(())) => End::Complete,
            Some(Err(end)) => end,
            None => End::cancelled(context),
        }
    };
    let Admitted { permit, sink, .. } = request;
    complete(permit, sink, end);
}

/// Does the work of a request until the request is killed: a kill is looked for first, so that the
/// engine does not run after it, and waited for only by work that waits itself.
async fn unless_killed<T>(
    context: &Context,
    mut work: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    let mut killed = pin!(context.killed());
    poll_fn(|cx| {
        if context.is_killed() {
            return Poll::Ready(None);
        }
        match work.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => killed.as_mut().poll(cx).map(|()| None),
        }
    })
    .await
}

async fn pipeline<Req, Resp, E>(
    engine: &E,
    body: Bytes,
    context: &Context,
    sink: &mut ResponseSink,
    permit: &mut RequestGuard,
) -> Result<(), End>
where
    Req: DeserializeOwned + Send + 'static,
    Resp: Serialize + Send + Sync + 'static,
    E: AsyncEngine<Req, Resp> + ?Sized,
{
    let (format, value) = decode::<Req>(context, body)?;
    let request = with_context(value, context)?;
    let mut responses = response_stream(format, context, sink, permit);
    // Step 4: the engine begins to answer.
    let values = engine.generate(request).await;
    let mut values = values.map_err(|error| End::of_engine(error, context))?;
    stream_out(&mut values, context, &mut responses).await
}

/// Step 1: decodes the payload.
fn decode<Req: DeserializeOwned + 'static>(
    context: &Context,
    body: Bytes,
) -> Result<(PayloadFormat, Req), End> {
    let format = payload::format_of(context.headers()).map_err(End::Rejected)?;
    let value = payload::decode(format, body)
        .map_err(|error| End::Rejected(payload::payload_error("the request", &error)))?;
    Ok((format, value))
}

/// Step 2: adds the execution context. This is the last check before the handler runs: a request
/// that was cancelled or whose deadline has passed ends here.
fn with_context<Req>(value: Req, context: &Context) -> Result<SingleIn<Req>, End> {
    if context.is_stopped() {
        return Err(End::cancelled(context));
    }
    if context.deadline().is_some_and(|deadline| deadline <= clock::now()) {
        return Err(End::Rejected(refusal::too_late()));
    }
    Ok(SingleIn::with_context(value, context.clone()))
}

/// Step 3: makes a response stream of values, in the request's format, from the sink.
fn response_stream<'a>(
    format: PayloadFormat,
    context: &'a Context,
    sink: &'a mut ResponseSink,
    permit: &'a mut RequestGuard,
) -> Responses<'a> {
    Responses::new(format, context, sink, permit)
}

/// Step 5: encodes the engine's values and sends them. The values that the engine has made before
/// its end are always sent.
async fn stream_out<Resp: Serialize + Send + Sync + 'static>(
    values: &mut ManyOut<Resp>,
    context: &Context,
    responses: &mut Responses<'_>,
) -> Result<(), End> {
    let end = pull(values, context, responses).await;
    responses.set_facts(values.facts_by_now());
    let sent = responses.send_with_credit().await;
    end.and(sent)
}

async fn pull<Resp: Serialize + Send + Sync + 'static>(
    values: &mut ManyOut<Resp>,
    context: &Context,
    responses: &mut Responses<'_>,
) -> Result<(), End> {
    let mut has_head = false;
    loop {
        // Between two items nothing is in hand.
        if context.is_stopped() {
            return Err(End::cancelled(context));
        }
        let next = poll_fn(|cx| {
            // One that another process makes comes later, and before its first value.
            if !has_head && let Poll::Ready(head) = values.poll_head(cx) {
                has_head = true;
                responses.head(head);
            }
            let polled = Pin::new(&mut *values).poll_next(cx);
            if !has_head
                && polled.is_ready()
                && let Poll::Ready(head) = values.poll_head(cx)
            {
                // It came between the two looks.
                has_head = true;
                responses.head(head);
            }
            match polled {
                Poll::Ready(next) => Poll::Ready(Ok(Some(next))),
                Poll::Pending => match responses.idle() {
                    Ok(true) => Poll::Pending,
                    Ok(false) => Poll::Ready(Ok(None)),
                    Err(end) => Poll::Ready(Err(end)),
                },
            }
        });
        let pushed = match next.await? {
            Some(Some(Ok(value))) => responses.push(&value)?,
            Some(Some(Err(error))) => return Err(End::of_engine(error, context)),
            Some(None) if context.is_stopped() => return Err(End::cancelled(context)),
            Some(None) => return Ok(()),
            None => Pushed::NoCredit,
        };
        let items = match pushed {
            Pushed::Gathered => continue,
            Pushed::Sent(items) => items,
            Pushed::NoCredit => {
                responses.send_with_credit().await?;
                1
            }
        };
        // An engine that always has the next item ready must not keep the thread to itself, nor
        // keep a kill from being seen.
        for _ in 0..items.div_ceil(ITEMS_PER_UNIT) {
            tokio::task::coop::consume_budget().await;
        }
    }
}

/// Step 6: counts the request and sends its terminal.
fn complete(permit: RequestGuard, sink: ResponseSink, end: End) {
    let fault = end.fault();
    tracing::debug!(
        end = end.as_str(),
        items = sink.sent(),
        category = fault.map(sinew_plane::Fault::as_str),
        "answered"
    );
    permit.end(fault);
    end.send(sink);
}

impl<Req, Resp, E: ?Sized> std::fmt::Debug for PushHandler<Req, Resp, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PushHandler")
    }
}
