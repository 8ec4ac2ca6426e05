//! Responses that go on at another instance when their worker dies or hands them over.
//!
//! Only the response of an instance that declares a [`Continuation`](sinew_plane::Continuation) is
//! wrapped here; all others are read as they come.

mod original;
mod prefix;

use std::{
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
};

use serde_core::de::DeserializeOwned;
use sinew_discovery::Instance;
use sinew_plane::{
    Body, BodyEnd, BodySource, BoxFuture, CancelReason, Checkpoint, Code, Error, Executed, Headers,
    InstanceId, ManyOut, Migrated, MigrationCause, Migrations, Next, OnBodyEnd, Outcome,
    ResumeToken,
};
use sinew_telemetry::stream_continued;

pub(crate) use self::original::Original;
use self::{
    original::{Left, NextRun, NotContinued},
    prefix::{Begin, Prefix, Run},
};
use crate::{
    active_attempt::ActiveAttempt,
    response::{Remote, StreamEnd},
};

/// Most moves of one response. A stream of many hours may see that many restarts of its workers;
/// workers that hand a stream to each other without end must not.
const MAX_MOVES: usize = 64;

/// How many items pass until the newest checkpoint is looked at. Together with the 64 items by which
/// a checkpoint may be late they are fewer than the prefix can look back.
const LOOK_EVERY: u64 = 32;

/// Most repeated items that are dropped in one poll, so that the task does not keep its thread.
const DROP_AT_ONCE: usize = 256;

/// The response to a request that may go on at another instance.
pub(crate) struct Continuing<T> {
    original: Arc<Original>,
    state: State<T>,
    prefix: Prefix,
    migrations: Migrations,
    moves: usize,
    /// The instances that have handed it over; at most as many as there were moves.
    drained: Vec<Arc<Instance>>,
    /// How many runs in a row were lost without a new item: the request may be what they die of.
    barren: usize,
    head: Headers,
    facts: Headers,
    /// The end that came while the caller waited for the head.
    late: Option<BodyEnd>,
}

enum State<T> {
    Running(Running<T>),
    Moving { from: InstanceId, why: MigrationCause, begin: u64, next: Search<T> },
    Ended,
}

type Search<T> = BoxFuture<'static, Result<NextRun<T>, NotContinued>>;

struct Running<T> {
    response: Pin<Box<Remote<T>>>,
    active: ActiveAttempt,
    run: Run,
    /// The number of its first item.
    begin: u64,
    /// How many items the caller had when it began.
    had: u64,
}

impl<T: DeserializeOwned + Send + 'static> Continuing<T> {
    /// The response as its caller reads it. `response` is that of the first run.
    pub(crate) fn body(
        original: Arc<Original>,
        response: Pin<Box<Remote<T>>>,
        active: ActiveAttempt,
    ) -> ManyOut<T> {
        let (context, migrations) = (original.context.clone(), Migrations::new());
        let prefix = Prefix::new();
        let run = Run::new(prefix.begin());
        let continuing = Self {
            original,
            state: State::Running(Running { response, active, run, begin: 0, had: 0 }),
            prefix,
            migrations: migrations.clone(),
            moves: 0,
            drained: Vec::new(),
            barren: 0,
            head: Headers::new(),
            facts: Headers::new(),
            late: None,
        };
        Body::new(continuing, context).with_migrations(migrations)
    }

    /// Polls the run. `None` if it has ended and another one is searched for.
    fn poll_run(&mut self, cx: &mut task::Context<'_>) -> Poll<Option<Next<T>>> {
        let State::Running(running) = &mut self.state else { return Poll::Ready(None) };
        let Running { response, run, begin, .. } = running;
        let prefix = &mut self.prefix;
        for _ in 0..DROP_AT_ONCE {
            if !run.is_behind(prefix) {
                let polled = response.poll_item(cx, |item| run.go_on(item, prefix));
                let is_due = !polled.is_ready() || run.at.is_multiple_of(LOOK_EVERY);
                if is_due && let Some(checkpoint) = response.checkpoint() {
                    prefix.keep(absolute(checkpoint, *begin));
                }
                return match ready!(polled) {
                    Ok(value) => Poll::Ready(Some(Next::Item(value))),
                    Err(end) => Poll::Ready(self.run_ended(end).map(Next::End)),
                };
            }
            let mut repeated = Ok(());
            let polled = response.poll_unread(cx, |item| repeated = run.repeat(item, prefix));
            if let Err(end) = ready!(polled) {
                return Poll::Ready(self.run_ended(end).map(Next::End));
            }
            if repeated.is_err() {
                let at = run.at - 1;
                return Poll::Ready(Some(Next::End(self.diverged(at))));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Polls the search for the next run. The end of the response if there is none.
    fn poll_move(&mut self, cx: &mut task::Context<'_>) -> Poll<Option<BodyEnd>> {
        let State::Moving { from, why, begin, next } = &mut self.state else {
            return Poll::Ready(None);
        };
        let found = ready!(next.as_mut().poll(cx));
        let (from, why, begin) = (*from, *why, *begin);
        let received = self.prefix.items();
        let NextRun { response, active } = match found {
            Ok(next) => next,
            Err(not_continued) => {
                self.state = State::Ended;
                return Poll::Ready(Some(match not_continued {
                    NotContinued::Cancelled(reason) => cancelled(reason),
                    NotContinued::NoInstance(error) => truncated(received, &error),
                }));
            }
        };
        let to = active.instance.id;
        let migrated = Migrated::new(from, to, received, received - begin, why);
        let migrated = migrated.with_facts(std::mem::take(&mut self.facts));
        tracing::debug!(endpoint = %active.instance.endpoint, "a response moved {migrated}");
        stream_continued(why.as_str());
        self.migrations.add(migrated);
        let run = Run::new(self.prefix.begin());
        self.state = State::Running(Running { response, active, run, begin, had: received });
        Poll::Ready(None)
    }

    /// A run has ended: with the response (the end), or so that another one is searched for (`None`).
    #[cold]
    fn run_ended(&mut self, end: StreamEnd) -> Option<BodyEnd> {
        let state = std::mem::replace(&mut self.state, State::Ended);
        let State::Running(Running { mut response, active, run, begin, had }) = state else {
            return Some(BodyEnd::complete());
        };
        if let Some(checkpoint) = response.checkpoint() {
            self.prefix.keep(absolute(checkpoint, begin));
        }
        let why = cause_of(&end);
        // A hand-over is no error.
        let error = end.error.as_ref().filter(|_| why != Some(MigrationCause::HandedOver));
        response.close(error);
        let (head, facts) = response.kept();
        if self.head.is_empty() {
            self.head = head.clone();
        }
        self.facts = facts.clone();
        let received = self.prefix.items();
        let StreamEnd { outcome, error } = end;
        let outcome = match (outcome, &error) {
            (Some(outcome), _) => outcome,
            (None, Some(error)) => Outcome::Failed { error: error.clone() },
            (None, None) => Outcome::Complete { items: received },
        };
        let instance = Arc::clone(&active.instance);
        Box::new(active).ended(&outcome, error.as_ref());
        let is_behind = run.is_behind(&self.prefix);
        let Some(why) = why.filter(|_| !self.original.context.is_stopped()) else {
            return Some(match outcome {
                // It has fewer items than the caller.
                Outcome::Complete { .. } if is_behind => BodyEnd::failed(Error::diverged(run.at)),
                Outcome::Complete { .. } => BodyEnd::complete(),
                Outcome::Truncated { .. } => {
                    BodyEnd::of(Some(Outcome::Truncated { received }), error)
                }
                outcome => BodyEnd::of(Some(outcome), error),
            });
        };
        self.barren = match why {
            MigrationCause::Lost if received == had => self.barren + 1,
            _ => 0,
        };
        let is_over = self.moves >= MAX_MOVES || self.barren >= self.original.max_barren();
        if is_over {
            let error =
                error.unwrap_or_else(|| Error::new(Code::Truncated, "it was moved too often"));
            return Some(truncated(received, &error));
        }
        self.moves += 1;
        let from = instance.id;
        if why != MigrationCause::Lost {
            self.drained.push(Arc::clone(&instance));
        }
        let left = Left { instance, why, drained: self.drained.clone(), barren: self.barren };
        let begin: Begin = self.prefix.begin().clone();
        let (original, at) = (Arc::clone(&self.original), begin.at);
        let next = Box::pin(original.go_on(left, begin));
        self.state = State::Moving { from, why, begin: at, next };
        None
    }

    /// The run gives other items than those that the caller has.
    fn diverged(&mut self, at_item: u64) -> BodyEnd {
        let error = Error::diverged(at_item);
        let state = std::mem::replace(&mut self.state, State::Ended);
        if let State::Running(Running { response, active, .. }) = state {
            // The handler has nothing more to do.
            drop(response);
            let outcome = Outcome::Failed { error: error.clone() };
            Box::new(active).ended(&outcome, Some(&error));
        }
        BodyEnd::failed(error)
    }
}

/// A checkpoint whose number of items counts from the beginning of the response, where its run began
/// at item `begin`.
fn absolute(checkpoint: Checkpoint, begin: u64) -> Checkpoint {
    Checkpoint { items: begin.saturating_add(checkpoint.items), ..checkpoint }
}

/// Why a run ended before its response had; `None` if the response has ended with it.
fn cause_of(end: &StreamEnd) -> Option<MigrationCause> {
    match end.outcome.as_ref()? {
        Outcome::Truncated { .. } => Some(MigrationCause::Lost),
        Outcome::Cancelled { reason: CancelReason::Shutdown } => Some(MigrationCause::ShutDown),
        Outcome::Failed { error } => match error.code() {
            Code::ConnectionLost if error.executed() != Executed::Yes => Some(MigrationCause::Lost),
            Code::HandedOver => Some(MigrationCause::HandedOver),
            Code::Draining => Some(MigrationCause::ShutDown),
            _ => None,
        },
        Outcome::Complete { .. } | Outcome::Cancelled { .. } => None,
    }
}

fn cancelled(reason: CancelReason) -> BodyEnd {
    let error = Error::cancelled(reason).with_executed(Executed::Yes);
    BodyEnd::cancelled(reason, error)
}

/// The end of a response that nobody goes on with.
fn truncated(received: u64, error: &Error) -> BodyEnd {
    let message = format!(
        "the stream broke off after {received} items, and no instance has continued it: {error}"
    );
    let error = Error::new(Code::Truncated, message).with_source(error.clone());
    BodyEnd::of(Some(Outcome::Truncated { received }), Some(error))
}

impl<T: DeserializeOwned + Send + 'static> BodySource<T> for Continuing<T> {
    fn poll_value(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Next<T>> {
        let this = &mut *self;
        if let Some(end) = this.late.take() {
            return Poll::Ready(Next::End(end));
        }
        loop {
            if let Some(next) = ready!(this.poll_run(cx)) {
                return Poll::Ready(next);
            }
            if let Some(end) = ready!(this.poll_move(cx)) {
                return Poll::Ready(Next::End(end));
            }
        }
    }

    /// That of the first run that has one.
    fn poll_head(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Result<Headers, Error>> {
        let this = &mut *self;
        if !this.head.is_empty() || this.late.is_some() {
            return Poll::Ready(Ok(this.head.clone()));
        }
        if let Some(end) = ready!(this.poll_move(cx)) {
            let error = end.error().cloned();
            this.late = Some(end);
            return Poll::Ready(error.map_or_else(|| Ok(Headers::new()), Err));
        }
        if let State::Running(Running { response, .. }) = &mut this.state {
            match ready!(response.as_mut().poll_head(cx)) {
                Ok(head) => this.head = head,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(this.head.clone()))
    }

    /// Those of the last run.
    fn source_facts(&self) -> Headers {
        self.facts.clone()
    }

    /// None while the response moves, and while its new run repeats what its caller has.
    fn source_token(&self) -> Option<ResumeToken> {
        match &self.state {
            State::Running(Running { response, run, .. }) if !run.is_behind(&self.prefix) => {
                response.token()
            }
            _ => None,
        }
    }
}
