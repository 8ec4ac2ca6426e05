//! The engine that callers in the same process use: nothing is encoded, and everything else is as
//! over a transport.

use std::{
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
};

use sinew_plane::{
    AsyncEngine, BodySource, BoxFuture, BoxSource, CancelReason, Context, Error, Fault, Headers,
    ManyOut, Next, OnBodyEnd, Outcome, Permit, SingleIn, StopKind,
};
use sinew_registry::AdmittingEngine;
use tracing::{Instrument, Span};

use crate::{
    end::{End, cancel_fault},
    instance::{Entry, Instance},
    request_guard::RequestGuard as Admitted,
};

/// An engine with the admission, deadlines and metrics of its endpoint. It runs in the task of its
/// caller.
pub(crate) struct LocalEngine<E: ?Sized> {
    instance: Arc<Instance>,
    engine: Arc<E>,
}

impl<E: ?Sized> LocalEngine<E> {
    pub(crate) fn new(instance: &Arc<Instance>, engine: &Arc<E>) -> Arc<Self> {
        Arc::new(Self { instance: Arc::clone(instance), engine: Arc::clone(engine) })
    }
}

impl<Req, Resp, E> AsyncEngine<Req, Resp> for LocalEngine<E>
where
    Req: Send + 'static,
    Resp: Send + 'static,
    E: AsyncEngine<Req, Resp> + ?Sized,
{
    fn generate(&self, request: SingleIn<Req>) -> BoxFuture<'_, Result<ManyOut<Resp>, Error>> {
        Box::pin(self.run(request, None))
    }
}

impl<Req, Resp, E> AdmittingEngine<Req, Resp> for LocalEngine<E>
where
    Req: Send + 'static,
    Resp: Send + 'static,
    E: AsyncEngine<Req, Resp> + ?Sized,
{
    fn reserve(&self) -> Result<Permit, Error> {
        self.instance.reserve()
    }

    fn generate_in(
        &self,
        place: Permit,
        request: SingleIn<Req>,
    ) -> BoxFuture<'_, Result<ManyOut<Resp>, Error>> {
        Box::pin(self.run(request, Some(place)))
    }
}

impl<E: ?Sized> LocalEngine<E> {
    async fn run<Req, Resp>(
        &self,
        request: SingleIn<Req>,
        reserved: Option<Permit>,
    ) -> Result<ManyOut<Resp>, Error>
    where
        Resp: Send + 'static,
        E: AsyncEngine<Req, Resp>,
    {
        let (data, mut context) = request.into_parts();
        if context.checkpoints().is_some() {
            // Those of a request that the caller serves itself.
            context = context.replaced(context.headers().clone(), None);
        }
        let request = SingleIn::with_context(data, context.clone().received());
        let entry = match reserved {
            Some(place) => {
                place.take_over();
                Entry::Reserved
            }
            None => Entry::New,
        };
        // The request is never encoded, so it has no bytes to count.
        let permit = self.instance.admit(&context, 0, entry)?;
        let mut run = Run { context, permit: Some(permit) };
        if run.context.is_killed() {
            return Err(run.cancelled());
        }
        let span = self.instance.span(&run.context);
        let started = tokio::select! {
            biased;
            values = self.engine.generate(request).instrument(span.clone()) => Some(values),
            () = run.context.killed() => None,
        };
        match started {
            None => Err(run.cancelled()),
            Some(Err(error)) => Err(run.failed(error)),
            Some(Ok(values)) => {
                let values = values.watched(&run.context, None);
                let values = if span.is_disabled() {
                    values
                } else {
                    values.map_source(|source| Box::pin(InSpan { source, span }))
                };
                Ok(values.on_end(run))
            }
        }
    }
}

/// A request in progress. If its caller drops it before its end, it is killed.
struct Run {
    context: Context,
    permit: Option<Admitted>,
}

impl Run {
    fn end(&mut self, fault: Option<Fault>) {
        if let Some(permit) = self.permit.take() {
            permit.end(fault);
        }
    }

    fn cancelled(&mut self) -> Error {
        let reason = self.context.reason().unwrap_or(CancelReason::Caller);
        self.end(cancel_fault(reason));
        Error::cancelled(reason)
    }

    fn failed(&mut self, error: Error) -> Error {
        match End::of_engine(error, &self.context) {
            End::Failed(error) => {
                self.end(Some(error.fault()));
                error
            }
            _ => self.cancelled(),
        }
    }
}

impl OnBodyEnd for Run {
    fn ended(mut self: Box<Self>, outcome: &Outcome, error: Option<&Error>) {
        self.end(match outcome {
            Outcome::Cancelled { reason } => cancel_fault(*reason),
            // A limit of the caller's own, which has killed the request.
            Outcome::Failed { .. } if self.context.is_killed() => {
                cancel_fault(self.context.reason().unwrap_or(CancelReason::Caller))
            }
            _ => error.map(Error::fault),
        });
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.permit.is_some() {
            self.context.cancel(StopKind::Kill, CancelReason::Caller);
            self.end(std::thread::panicking().then_some(Fault::Application));
        }
    }
}

/// A source that is polled inside the tracing span of its request.
struct InSpan<T> {
    source: BoxSource<T>,
    span: Span,
}

impl<T> BodySource<T> for InSpan<T> {
    fn poll_value(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Next<T>> {
        let Self { source, span } = &mut *self;
        span.in_scope(|| source.as_mut().poll_value(cx))
    }

    fn poll_head(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Result<Headers, Error>> {
        self.source.as_mut().poll_head(cx)
    }

    fn source_facts(&self) -> Headers {
        self.source.source_facts()
    }
}
