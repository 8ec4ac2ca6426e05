//! An engine as callers in the same process use it: nothing encoded, everything else the same.

use std::{
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
};

use futures_core::Stream;
use sinew_plane::{
    AsyncEngine, BoxFuture, CancelReason, Context, Error, Fault, ManyOut, Permit, SingleIn,
    StopKind,
};
use sinew_registry::AdmittingEngine;
use tracing::{Instrument, Span};

use crate::{
    end::{cancel_fault, executed},
    instance::{Entry, Instance},
    permit::Permit as Admitted,
};

/// An engine behind the admission, deadlines and metrics of its endpoint. It runs in the task of
/// its caller.
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
        let context = request.context().clone();
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
        let span = self.instance.span(&run.context);
        let started = tokio::select! {
            biased;
            () = run.context.killed() => None,
            values = self.engine.generate(request).instrument(span.clone()) => Some(values),
        };
        match started {
            None => Err(run.cancelled()),
            Some(Err(error)) => Err(run.failed(error)),
            Some(Ok(values)) => {
                let context = run.context.clone();
                let values = Some(values);
                let values = LocalStream { values, run, in_hand: false, killed: None, span };
                Ok(ManyOut::new(values, context))
            }
        }
    }
}

/// A request under way. Dropped before its end, its caller lost interest: it is killed.
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
        self.end(Some(error.fault()));
        executed(error)
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

/// The engine's values, ending early when the request is cancelled. `None` inside once over.
struct LocalStream<Resp> {
    values: Option<ManyOut<Resp>>,
    run: Run,
    /// The engine works on an item: it was asked for one and had none yet.
    in_hand: bool,
    /// Made when first needed, which a stream that is always ready never does.
    killed: Option<BoxFuture<'static, ()>>,
    span: Span,
}

impl<Resp> LocalStream<Resp> {
    fn is_killed(&mut self, cx: &mut task::Context<'_>) -> bool {
        let context = &self.run.context;
        let killed = self.killed.get_or_insert_with(|| {
            let context = context.clone();
            Box::pin(async move { context.killed().await })
        });
        killed.as_mut().poll(cx).is_ready()
    }

    fn cancelled(&mut self) -> Poll<Option<Result<Resp, Error>>> {
        self.values = None;
        Poll::Ready(Some(Err(self.run.cancelled())))
    }
}

impl<Resp> Stream for LocalStream<Resp> {
    type Item = Result<Resp, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(values) = &mut this.values else { return Poll::Ready(None) };
        if this.run.context.is_killed() || (this.run.context.is_stopped() && !this.in_hand) {
            return this.cancelled();
        }
        let next = this.span.in_scope(|| Pin::new(values).poll_next(cx));
        this.in_hand = next.is_pending();
        match next {
            Poll::Pending if this.is_killed(cx) => this.cancelled(),
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(value))) => Poll::Ready(Some(Ok(value))),
            Poll::Ready(Some(Err(error))) => {
                this.values = None;
                Poll::Ready(Some(Err(this.run.failed(error))))
            }
            Poll::Ready(None) if this.run.context.is_stopped() => this.cancelled(),
            Poll::Ready(None) => {
                this.values = None;
                this.run.end(None);
                Poll::Ready(None)
            }
        }
    }
}

// The boxed stream and future are Unpin and nothing else is pinned.
impl<Resp> Unpin for LocalStream<Resp> {}
