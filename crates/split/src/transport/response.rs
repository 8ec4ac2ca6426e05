//! The response source of a caller, which unwraps items and counts the open stream.

use std::{
    pin::{Pin, pin},
    sync::{Arc, Weak},
    task::{self, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use parking_lot::Mutex;
use sinew_plane::{
    CancelReason, Checkpoint, Code, Context, Error, Executed, Headers, InFlightEntry, InFlightSet,
    ItemBatch, Outcome, RequestRegistration, ResponseSource, ResponseStream, SourceEvent, StopKind,
    Terminal,
};

use crate::{Content, peer_codec::PeerItems};

/// The open streams of a transport, and requests that may become one.
pub(super) type Streams = InFlightSet<Weak<SplitResponse>>;

/// Lets nobody in any more, waits for the end of all for at most `grace`, and cuts the rest.
/// Returns how many that were.
pub(super) async fn close(streams: &Streams, grace: Duration) -> usize {
    let left = streams.close(grace).await;
    for response in streams.cut() {
        if let Some(response) = response.upgrade() {
            response.cut();
        }
    }
    left
}

/// A response that is under way.
pub(super) struct SplitResponse {
    state: Mutex<State>,
    context: Context,
}

struct State {
    /// Let go of when nobody reads on, which kills the worker's handler if it runs.
    inner: Option<ResponseStream>,
    /// How items are read; `None` when they come bare.
    items: Option<PeerItems>,
    is_started: bool,
    /// Items handed on.
    given: u64,
    /// The worker said that every item was sent.
    is_final: bool,
    end: Option<End>,
    /// Who waits, to be woken by a cut.
    waker: Option<Waker>,
    guard: Option<ResponseGuard>,
}

/// What lives as long as the response is under way.
pub(super) struct ResponseGuard {
    pub(super) permit: InFlightEntry<Weak<SplitResponse>>,
    /// The request, when it is a stream.
    pub(super) _input: Option<RequestRegistration>,
}

/// How it ended, to be told as often as somebody asks.
#[derive(Clone)]
enum End {
    Terminal(Terminal),
    Lost(Error),
}

impl End {
    fn event(&self) -> SourceEvent {
        match self.clone() {
            Self::Terminal(terminal) => SourceEvent::Ended(terminal),
            Self::Lost(error) => SourceEvent::Lost(error),
        }
    }
}

impl SplitResponse {
    pub(super) fn new(
        inner: ResponseStream,
        items: Option<PeerItems>,
        context: Context,
        guard: ResponseGuard,
    ) -> Arc<Self> {
        let state = State {
            inner: Some(inner),
            items,
            is_started: false,
            given: 0,
            is_final: false,
            end: None,
            waker: None,
            guard: None,
        };
        let response = Arc::new(Self { state: Mutex::new(state), context });
        // A close finds the response there and cuts it, or has cut before.
        let is_open = guard.permit.replace(Arc::downgrade(&response));
        let mut state = response.state.lock();
        let left = if state.end.is_none() { state.guard.replace(guard) } else { Some(guard) };
        drop(state);
        drop(left);
        if !is_open {
            response.cut();
        }
        response
    }

    /// Ends it from this side, as a lost connection would.
    pub(super) fn cut(&self) {
        let (left, waker) = {
            let mut state = self.state.lock();
            if state.end.is_some() {
                return;
            }
            let begun = state.is_started || state.given > 0;
            let code = if begun { Code::Truncated } else { Code::ConnectionLost };
            state.end = Some(End::Lost(Error::new(code, "the transport was closed")));
            ((state.inner.take(), state.guard.take()), state.waker.take())
        };
        // Without the lock: this tells the worker, and who waits for the last stream.
        drop(left);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes what is there, and finds out how it ended.
    fn advance(
        &self,
        state: &mut State,
        cx: &mut task::Context<'_>,
        batch: &mut ItemBatch,
    ) -> Poll<()> {
        loop {
            let Some(inner) = &mut state.inner else { return Poll::Ready(()) };
            let polled = Pin::new(&mut *inner).poll_next(cx);
            // What came together is taken together. Another poll would grant credit for it.
            let is_last = inner.size_hint().0 == 0;
            match polled {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => state.take(frame, batch),
                Poll::Ready(Some(Err(error))) => {
                    let end = failed(inner.outcome(), error);
                    state.end = Some(end);
                }
                Poll::Ready(None) => state.end = Some(state.completed(&self.context)),
            }
            if state.end.is_some() || (is_last && !batch.is_empty()) {
                return Poll::Ready(());
            }
        }
    }
}

impl State {
    /// Takes one frame as an item, or for what else it is.
    fn take(&mut self, frame: Bytes, batch: &mut ItemBatch) {
        self.is_started = true;
        let Some(items) = &self.items else {
            self.given += 1;
            batch.push(frame);
            return;
        };
        if self.is_final {
            let error = Error::new(Code::Violation, "the worker sent something behind the end");
            self.fail(error.with_executed(Executed::Yes));
            return;
        }
        match items.read(&frame) {
            Ok(frame) => {
                self.is_final = frame.is_final;
                match frame.content {
                    Content::Nothing => {}
                    Content::Item(item) => {
                        self.given += 1;
                        batch.push(item);
                    }
                    Content::Failed(error) => self.fail(error),
                }
            }
            Err(error) => self.fail(error),
        }
    }

    fn fail(&mut self, error: Error) {
        self.end = Some(End::Terminal(Terminal::Failed { error }));
    }

    /// What an end in order means: where items are wrapped it takes two marks, and both count.
    fn completed(&self, context: &Context) -> End {
        let complete = End::Terminal(Terminal::Complete { items: self.given });
        if self.items.is_none() {
            return complete;
        }
        match context.reason() {
            // An engine that was stopped may end its stream as if that were all there is to say.
            Some(reason) => End::Terminal(Terminal::Cancelled { reason }),
            None if self.is_final => complete,
            None => {
                let message = "the worker ended the stream without saying that it is complete";
                End::Lost(Error::new(Code::Truncated, message))
            }
        }
    }
}

/// What the end below means here, where fewer items may have been handed on.
fn failed(outcome: Option<&Outcome>, error: Error) -> End {
    match outcome {
        Some(Outcome::Truncated { .. }) => End::Lost(error),
        Some(Outcome::Cancelled { reason }) => {
            End::Terminal(Terminal::Cancelled { reason: *reason })
        }
        _ => End::Terminal(Terminal::Failed { error }),
    }
}

impl ResponseSource for SplitResponse {
    fn poll_started(&self, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        let mut state = self.state.lock();
        if state.is_started {
            return Poll::Ready(Ok(()));
        }
        let Some(inner) = &mut state.inner else {
            return Poll::Ready(match &state.end {
                Some(End::Lost(error) | End::Terminal(Terminal::Failed { error })) => {
                    Err(error.clone())
                }
                // How it ended is for who reads it.
                Some(End::Terminal(_)) => Ok(()),
                None => Err(Error::new(Code::ConnectionLost, "the stream was given up")),
            });
        };
        // The wait keeps nothing between polls, so it can be begun anew for each.
        let polled = pin!(inner.started()).poll(cx);
        match &polled {
            Poll::Ready(started) => state.is_started = started.is_ok(),
            Poll::Pending => state.waker = Some(cx.waker().clone()),
        }
        polled
    }

    fn poll_head(&self, cx: &mut task::Context<'_>) -> Poll<Headers> {
        let mut state = self.state.lock();
        let Some(inner) = &mut state.inner else { return Poll::Ready(Headers::new()) };
        // The stream below has no limits of its own, so it has no error of its own either.
        let polled = inner.poll_head(cx).map(Result::unwrap_or_default);
        if polled.is_pending() {
            state.waker = Some(cx.waker().clone());
        }
        polled
    }

    fn facts(&self) -> Headers {
        self.state.lock().inner.as_ref().map_or_else(Headers::new, ResponseStream::facts)
    }

    fn checkpoint(&self) -> Option<Checkpoint> {
        self.state.lock().inner.as_ref()?.checkpoint()
    }

    fn poll_batch(&self, cx: &mut task::Context<'_>, batch: &mut ItemBatch) -> Poll<SourceEvent> {
        let mut state = self.state.lock();
        if state.end.is_none() {
            let polled = self.advance(&mut state, cx, batch);
            if polled.is_pending() {
                state.waker = Some(cx.waker().clone());
            }
        }
        if !batch.is_empty() {
            return Poll::Ready(SourceEvent::Items);
        }
        let Some(end) = &state.end else { return Poll::Pending };
        let event = end.event();
        // One below that has not ended by itself goes too, and its worker is killed. One that has
        // keeps head and facts.
        let inner = state.inner.take_if(|inner| inner.outcome().is_none());
        let left = (state.guard.take(), inner);
        drop(state);
        drop(left);
        Poll::Ready(event)
    }

    /// Cancels the request's context, which the stream below listens to.
    fn cancel(&self, kind: StopKind) {
        self.context.cancel(kind, CancelReason::Caller);
    }

    fn abandon(&self) {
        let left = {
            let mut state = self.state.lock();
            (state.inner.take(), state.guard.take())
        };
        drop(left);
    }
}
