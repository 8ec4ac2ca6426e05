//! Matches streams that callers open on shared connections with the requests that they are for.
//!
//! A request runs only if its caller has opened a stream for it. So if the opened stream is
//! refused, or the caller cancels it, the request cannot run: there is no stream for it.

mod places;

use std::{
    net::SocketAddr,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use sinew_dynamo_wire::Subject;
use sinew_plane::{
    CancelReason, Code, Context, Error, IncomingRequest, OnCancel, RequestHandler, ResponseSink,
    StopKind, clock,
};
use tokio::sync::oneshot;

use self::places::Places;
use crate::CALL_HOME;

/// PendingStreams that are over and remembered, in 64 KiB. Of those beyond it a request that comes
/// late waits for the limit, and a question that comes back does, instead of ending at once.
const REMEMBERED: usize = 4_096;

/// Brings questions and requests together, whichever comes first.
pub(crate) struct PendingStreams {
    state: Mutex<State>,
    /// How long a question is kept.
    limit: Duration,
    this: Weak<Self>,
}

struct State {
    asked: Places,
    /// PendingStreams that are over, each where its bits say, until another takes its place. One that
    /// comes back has lost its connection, and its handler with it; a request that comes for one
    /// is not run.
    over: Box<[Option<Subject>]>,
    wanted: FxHashMap<Subject, WaiterEntry>,
    next: u64,
}

/// A request that waits to be asked; the number tells it from a later one of the same subject.
struct WaiterEntry {
    number: u64,
    tell: oneshot::Sender<OpenedStream>,
}

/// A caller has asked for its stream.
struct PendingStream {
    answer: OpenedStream,
    caller: SocketAddr,
    at: Instant,
    /// Hears when the caller takes the question back.
    _listener: Arc<CancelListener>,
}

/// A stream to answer on, with the context that the caller cancels. Dropped before a request has
/// it, it tells the caller that nothing ran: a question leads to one run at the most, and this one
/// is over.
pub(crate) struct OpenedStream {
    /// Until it is taken.
    sink: Option<ResponseSink>,
    context: Context,
}

impl OpenedStream {
    fn new(sink: ResponseSink, context: Context) -> Self {
        Self { sink: Some(sink), context }
    }

    /// The stream, for a request that has a context already: a cancel of one is a cancel of the
    /// other, and the handler sees its own.
    pub(crate) fn join(self, context: &Context) -> ResponseSink {
        self.context.link(context);
        context.link(&self.context);
        self.into_sink().with_context(context.clone())
    }

    fn fail(self, error: Error) {
        self.into_sink().fail(error);
    }

    fn reject(self, error: Error) {
        self.into_sink().reject(error);
    }

    #[expect(clippy::expect_used, reason = "only what consumes the answer takes its sink")]
    fn into_sink(mut self) -> ResponseSink {
        self.sink.take().expect("an answer has its sink until it is consumed")
    }
}

impl Drop for OpenedStream {
    fn drop(&mut self) {
        let Some(sink) = self.sink.take() else { return };
        // A caller that has cancelled hears that its cancel was heard.
        if self.context.reason().is_none() {
            sink.reject(Error::draining("the request of this stream ended before its handler ran"));
        }
    }
}

/// What a request finds when it comes.
pub(crate) enum Lookup {
    OpenedStream(OpenedStream),
    /// Its caller has not asked yet.
    StreamWaiter(StreamWaiter),
    /// Its caller was refused, has taken the question back, or has its answer.
    Over,
}

struct CancelListener {
    questions: Weak<PendingStreams>,
    subject: Subject,
}

impl OnCancel for CancelListener {
    fn on_cancel(&self, kind: StopKind, reason: CancelReason) {
        if kind == StopKind::Stop {
            // For the handler to hear, which the request is on its way to.
            return;
        }
        let Some(questions) = self.questions.upgrade() else { return };
        // Dropped outside the lock: a sink has its own business when it goes.
        let _taken_back = {
            let mut state = questions.state.lock();
            let asked = state.asked.take(self.subject);
            // One whose connection is lost may be asked again over another.
            if asked.is_some() && reason != CancelReason::Disconnected {
                state.end(self.subject);
            }
            asked
        };
    }
}

/// The questions of one caller.
pub(crate) struct Asker {
    questions: Arc<PendingStreams>,
    caller: SocketAddr,
}

impl PendingStreams {
    pub(crate) fn new(limit: Duration) -> Arc<Self> {
        let state = State {
            asked: Places::default(),
            over: vec![None; REMEMBERED].into(),
            wanted: FxHashMap::default(),
            next: 0,
        };
        Arc::new_cyclic(|this| Self { state: Mutex::new(state), limit, this: this.clone() })
    }

    /// What takes the questions of the caller at this address.
    pub(crate) fn of(self: &Arc<Self>, caller: SocketAddr) -> Asker {
        Asker { questions: Arc::clone(self), caller }
    }

    /// The stream to answer on, if the caller has asked.
    pub(crate) fn asked(&self, subject: Subject) -> Option<OpenedStream> {
        let asked = self.state.lock().answer(subject)?;
        Some(asked.answer)
    }

    /// The stream to answer on, now or once the caller has asked.
    pub(crate) fn find(self: &Arc<Self>, subject: Subject) -> Lookup {
        let mut state = self.state.lock();
        if let Some(asked) = state.answer(subject) {
            drop(state);
            return Lookup::OpenedStream(asked.answer);
        }
        if state.is_over(subject) {
            return Lookup::Over;
        }
        let (tell, told) = oneshot::channel();
        state.next += 1;
        let number = state.next;
        state.wanted.insert(subject, WaiterEntry { number, tell });
        Lookup::StreamWaiter(StreamWaiter { questions: Arc::clone(self), subject, number, told })
    }

    /// Gives up on questions that no request has come for.
    pub(crate) fn expire(&self, now: Instant) {
        let mut expired = Vec::new();
        {
            let mut state = self.state.lock();
            while let Some(asked) = state.asked.take_older(now, self.limit) {
                expired.push(asked);
            }
        }
        for PendingStream { answer, .. } in expired {
            // It may have run, with its answer cut off by the loss of a connection.
            let message = "no request of this stream came to the worker";
            answer.fail(Error::new(Code::ConnectionLost, message));
        }
    }
}

impl State {
    /// Takes a question that is answered now.
    fn answer(&mut self, subject: Subject) -> Option<PendingStream> {
        let asked = self.asked.take(subject)?;
        self.end(subject);
        Some(asked)
    }

    fn end(&mut self, subject: Subject) {
        self.over[place(subject)] = Some(subject);
    }

    fn is_over(&self, subject: Subject) -> bool {
        self.over[place(subject)] == Some(subject)
    }

    /// Takes a question in. Gives it back when there is no place for it, or the one of another
    /// that has to leave for it: what comes back is refused, and never runs.
    fn ask(&mut self, subject: Subject, asked: PendingStream) -> Option<PendingStream> {
        let refused = self.asked.insert(subject, asked);
        let (subject, refused) = refused?;
        self.end(subject);
        Some(refused)
    }
}

fn place(subject: Subject) -> usize {
    subject.spread() % REMEMBERED
}

impl RequestHandler for Asker {
    /// A question waits for its request, whose handler is the one to accept.
    fn decides_later(&self) -> bool {
        true
    }

    fn handle(&self, request: IncomingRequest<'_>, sink: ResponseSink) {
        let subject = request.endpoint.strip_prefix(CALL_HOME).and_then(Subject::parse);
        let Some(subject) = subject else {
            let message = "this connection is for responses alone";
            return sink.reject(Error::new(Code::UnknownEndpoint, message));
        };
        let (questions, caller) = (&self.questions, self.caller);
        let answer = OpenedStream::new(sink, request.context);
        let mut state = questions.state.lock();
        if let Some(want) = state.wanted.remove(&subject) {
            state.end(subject);
            drop(state);
            // A request that has given up meanwhile drops it, which ends the stream.
            let _ = want.tell.send(answer);
            return;
        }
        if state.is_over(subject) {
            drop(state);
            let message = "the connection of the response was lost, and its handler with it";
            return answer.fail(Error::new(Code::ConnectionLost, message));
        }
        let cancel_listener =
            Arc::new(CancelListener { questions: questions.this.clone(), subject });
        let context = answer.context.clone();
        let listener = Arc::downgrade(&cancel_listener);
        let asked = PendingStream { answer, caller, at: clock::now(), _listener: cancel_listener };
        // Asked again, because the caller has seen before this side that its connection is lost.
        // Refusing it would tell the caller that nothing runs, and the request might run for the
        // question that is lost.
        let replaced = state.asked.take(subject);
        let refused = state.ask(subject, asked);
        drop(state);
        if let Some(PendingStream { answer, .. }) = replaced {
            let message = "the stream was asked for again over another connection";
            answer.fail(Error::new(Code::ConnectionLost, message));
        }
        if let Some(PendingStream { answer, .. }) = refused {
            let message = "too many streams wait for their requests";
            answer.reject(Error::new(Code::Overloaded, message));
        }
        // Last, as it is called back at once when the context is cancelled already.
        context.on_cancel(listener);
    }
}

/// A request that waits for its caller to ask. Dropping it ends the wait.
pub(crate) struct StreamWaiter {
    questions: Arc<PendingStreams>,
    subject: Subject,
    number: u64,
    told: oneshot::Receiver<OpenedStream>,
}

impl StreamWaiter {
    /// Waits. `None` when another request has come for the same stream.
    pub(crate) async fn wait(&mut self) -> Option<OpenedStream> {
        (&mut self.told).await.ok()
    }
}

impl Drop for StreamWaiter {
    fn drop(&mut self) {
        let mut state = self.questions.state.lock();
        if state.wanted.get(&self.subject).is_some_and(|want| want.number == self.number) {
            state.wanted.remove(&self.subject);
        }
    }
}

#[cfg(test)]
mod tests;
