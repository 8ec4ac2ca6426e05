//! Callers that ask for their streams over shared connections, and requests that wait to be
//! asked for theirs.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use sinew_plane::{
    CancelReason, Code, Context, Error, IncomingRequest, OnCancel, RequestHandler, ResponseSink,
    StopKind,
};
use tokio::sync::oneshot;

use crate::call_home::{subject::Subject, workers::CALL_HOME};

/// Questions that wait for their requests. A caller asks when it sends the request, so this is
/// what may be under way between the two planes; each costs about 1 KiB.
const MAX_QUESTIONS: usize = 16_384;

/// Answered questions that are remembered, in 64 KiB. A connection that breaks under more streams
/// which have not begun has some of them wait for the limit instead of ending at once.
const REMEMBERED: usize = 4_096;

/// Brings questions and requests together, whichever comes first.
pub(crate) struct Questions {
    state: Mutex<State>,
    /// How long a question is kept.
    limit: Duration,
    this: Weak<Self>,
}

struct State {
    asked: FxHashMap<Subject, Asked>,
    /// Questions that were answered, each where its bits say, until another takes its place.
    /// One that comes back has lost its connection, and its handler with it.
    answered: Box<[Option<Subject>]>,
    wanted: FxHashMap<Subject, Want>,
    /// Questions by age; those that were taken are still in it.
    ages: VecDeque<(Instant, Subject)>,
    next: u64,
}

/// A request that waits to be asked; the number tells it from a later one of the same subject.
struct Want {
    number: u64,
    tell: oneshot::Sender<Answer>,
}

/// A caller has asked for its stream.
struct Asked {
    answer: Answer,
    at: Instant,
    /// Hears when the caller takes the question back.
    _ear: Arc<Ear>,
}

/// A stream to answer on, with the context that the caller cancels.
pub(crate) struct Answer {
    pub(crate) sink: ResponseSink,
    pub(crate) context: Context,
}

struct Ear {
    questions: Weak<Questions>,
    subject: Subject,
}

impl OnCancel for Ear {
    fn on_cancel(&self, kind: StopKind, _reason: CancelReason) {
        if kind == StopKind::Stop {
            // For the handler to hear, which the request is on its way to.
            return;
        }
        // Dropped outside the lock: a sink has its own business when it goes.
        let _taken_back = self.questions.upgrade().and_then(|it| it.take(self.subject));
    }
}

impl Questions {
    pub(crate) fn new(limit: Duration) -> Arc<Self> {
        let state = State {
            asked: FxHashMap::default(),
            answered: vec![None; REMEMBERED].into(),
            wanted: FxHashMap::default(),
            ages: VecDeque::new(),
            next: 0,
        };
        Arc::new_cyclic(|this| Self { state: Mutex::new(state), limit, this: this.clone() })
    }

    fn take(&self, subject: Subject) -> Option<Answer> {
        self.state.lock().asked.remove(&subject).map(|asked| asked.answer)
    }

    /// The stream to answer on, if the caller has asked.
    pub(crate) fn asked(&self, subject: Subject) -> Option<Answer> {
        let asked = self.state.lock().answer(subject)?;
        Some(asked.answer)
    }

    /// The stream to answer on, now or once the caller has asked.
    pub(crate) fn answer(self: &Arc<Self>, subject: Subject) -> Result<Answer, Wanted> {
        let mut state = self.state.lock();
        if let Some(asked) = state.answer(subject) {
            drop(state);
            return Ok(asked.answer);
        }
        let (tell, told) = oneshot::channel();
        state.next += 1;
        let number = state.next;
        state.wanted.insert(subject, Want { number, tell });
        Err(Wanted { questions: Arc::clone(self), subject, number, told })
    }

    /// Gives up on questions that nobody has come to answer.
    pub(crate) fn expire(&self, now: Instant) {
        let mut expired = Vec::new();
        {
            let mut state = self.state.lock();
            while let Some((at, subject)) = state.ages.front().copied() {
                // It may have been answered, and asked again since.
                let waits = state.asked.get(&subject).is_some_and(|asked| asked.at == at);
                if waits && now < at + self.limit {
                    break;
                }
                state.ages.pop_front();
                if waits {
                    expired.extend(state.asked.remove(&subject));
                }
            }
        }
        for Asked { answer, .. } in expired {
            // It may have run, with its answer cut off by the loss of a connection.
            let message = "no request of this stream came to the worker";
            answer.sink.fail(Error::new(Code::ConnectionLost, message));
        }
    }
}

impl State {
    /// Takes a question that is answered now.
    fn answer(&mut self, subject: Subject) -> Option<Asked> {
        let asked = self.asked.remove(&subject)?;
        self.answered[place(subject)] = Some(subject);
        Some(asked)
    }

    /// Keeps the order of the questions. Those that were answered behind one that was not are
    /// swept when they are most of it.
    fn remember(&mut self, at: Instant, subject: Subject) {
        self.ages.push_back((at, subject));
        if self.ages.len() > 2 * self.asked.len() + 64 {
            let asked = &self.asked;
            self.ages.retain(|(at, subject)| {
                asked.get(subject).is_some_and(|question| question.at == *at)
            });
        }
    }
}

fn place(subject: Subject) -> usize {
    subject.spread() % REMEMBERED
}

impl RequestHandler for Questions {
    fn handle(&self, request: IncomingRequest<'_>, sink: ResponseSink) {
        let subject = request.endpoint.strip_prefix(CALL_HOME).and_then(Subject::parse);
        let Some(subject) = subject else {
            let message = "this connection is for responses alone";
            return sink.reject(Error::new(Code::UnknownEndpoint, message));
        };
        let answer = Answer { sink, context: request.context };
        let now = Instant::now();
        self.expire(now);
        let mut state = self.state.lock();
        if state.answered[place(subject)] == Some(subject) {
            drop(state);
            let message = "the connection of the response was lost, and its handler with it";
            return answer.sink.fail(Error::new(Code::ConnectionLost, message));
        }
        if let Some(want) = state.wanted.remove(&subject) {
            state.answered[place(subject)] = Some(subject);
            drop(state);
            // A request that has given up meanwhile drops it, which ends the stream.
            let _ = want.tell.send(answer);
            return;
        }
        if state.asked.len() >= MAX_QUESTIONS || state.asked.contains_key(&subject) {
            drop(state);
            let message = "too many streams wait for their requests";
            return answer.sink.reject(Error::new(Code::Overloaded, message));
        }
        let ear = Arc::new(Ear { questions: self.this.clone(), subject });
        let context = answer.context.clone();
        let listener = Arc::downgrade(&ear);
        state.asked.insert(subject, Asked { answer, at: now, _ear: ear });
        state.remember(now, subject);
        drop(state);
        // Last, as it is called back at once when the context is cancelled already.
        context.on_cancel(listener);
    }
}

/// A request that waits for its caller to ask. Dropping it ends the wait.
pub(crate) struct Wanted {
    questions: Arc<Questions>,
    subject: Subject,
    number: u64,
    told: oneshot::Receiver<Answer>,
}

impl Wanted {
    /// Waits. `None` when another request has come for the same stream.
    pub(crate) async fn wait(mut self) -> Option<Answer> {
        (&mut self.told).await.ok()
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        let mut state = self.questions.state.lock();
        if state.wanted.get(&self.subject).is_some_and(|want| want.number == self.number) {
            state.wanted.remove(&self.subject);
        }
    }
}
