//! The caller of a stream of the model.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use bytes::Bytes;
use sinew_mux::CallerStream;
use sinew_plane::{
    Checkpoint, Headers, ItemBatch, ResponseSource, ResumeToken, SourceEvent, StopKind,
};

use super::stream::Ended;
use crate::manual::Manual;

/// Whether there is a reason to look again.
pub(crate) struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Flag {
    pub(crate) fn raised() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    pub(crate) fn is_up(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Runs a poll, with the flag down unless the poll found something or the waker was called.
    pub(crate) fn poll<T>(
        self: &Arc<Self>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.0.store(false, Ordering::Relaxed);
        let polled = poll(&mut Context::from_waker(&Waker::from(Arc::clone(self))));
        if polled.is_ready() {
            self.0.store(true, Ordering::Relaxed);
        }
        polled
    }
}

pub(crate) struct Caller {
    state: State,
    woken: Arc<Flag>,
    cancelled: Option<StopKind>,
    /// The head and the facts that arrived.
    head: Option<Headers>,
    facts: Headers,
    taken: usize,
    /// Items that were taken before the last poll.
    consumed: usize,
    /// It was known that the handler had begun.
    started: bool,
    checkpoint: Option<Checkpoint>,
    token: Option<ResumeToken>,
}

enum State {
    Waiting,
    Open(Arc<CallerStream<Manual>>),
    Ended(Ended),
    Abandoned,
}

impl Default for Caller {
    fn default() -> Self {
        let woken = Flag::raised();
        Self {
            state: State::Waiting,
            woken,
            cancelled: None,
            head: None,
            facts: Headers::new(),
            taken: 0,
            consumed: 0,
            started: false,
            checkpoint: None,
            token: None,
        }
    }
}

impl Caller {
    pub(crate) fn open(&mut self, call: Arc<CallerStream<Manual>>) {
        self.token = call.resume_token(0);
        self.state = State::Open(call);
    }

    /// What another process needs to take the stream over; `None` where nobody may.
    pub(crate) fn token(&self) -> Option<&ResumeToken> {
        self.token.as_ref()
    }

    pub(crate) fn is_started(&self) -> bool {
        self.started
    }

    /// The newest checkpoint that has arrived.
    pub(crate) fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    pub(crate) fn is_opened(&self) -> bool {
        !matches!(self.state, State::Waiting)
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        matches!(self.state, State::Abandoned)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.is_some()
    }

    pub(crate) fn ended(&self) -> Option<&Ended> {
        match &self.state {
            State::Ended(ended) => Some(ended),
            _ => None,
        }
    }

    /// The head, once it is known; empty without one.
    pub(crate) fn head(&self) -> Option<&Headers> {
        self.head.as_ref()
    }

    pub(crate) fn facts(&self) -> &Headers {
        &self.facts
    }

    /// Items that came out of the stream.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    /// Those among them that the producer may know to be consumed.
    pub(crate) fn consumed(&self) -> usize {
        self.consumed
    }

    /// True when a poll may find something.
    pub(crate) fn is_woken(&self) -> bool {
        matches!(self.state, State::Open(_)) && self.woken.is_up()
    }

    /// Takes what has arrived: the items that were made, in order.
    pub(crate) fn poll(&mut self, made: &[Bytes]) {
        let State::Open(call) = &self.state else { return };
        self.consumed = self.taken;
        let mut batch = ItemBatch::new();
        let polled = self.woken.poll(|cx| call.poll_batch(cx, &mut batch));
        let (head, facts) = (call.head(), call.facts());
        assert!(self.head.is_none() || head == self.head, "a head that changes");
        (self.head, self.facts) = (head, facts);
        self.started = call.is_started();
        let checkpoint = call.checkpoint();
        let covers = |it: &Option<Checkpoint>| it.as_ref().map(|it| it.items);
        assert!(covers(&checkpoint) >= covers(&self.checkpoint), "a checkpoint that goes back");
        self.checkpoint = checkpoint;
        assert_eq!(matches!(polled, Poll::Ready(SourceEvent::Items)), !batch.is_empty());
        for got in batch {
            assert_eq!(Some(&got), made.get(self.taken), "item {}", self.taken);
            self.taken += 1;
        }
        let ended = match polled {
            Poll::Pending | Poll::Ready(SourceEvent::Items) => return,
            Poll::Ready(SourceEvent::Ended(terminal)) => Ended::Terminal(terminal),
            Poll::Ready(SourceEvent::Lost(error)) => Ended::Lost(error),
        };
        self.state = State::Ended(ended);
    }

    pub(crate) fn cancel(&mut self, kind: StopKind) {
        if let State::Open(call) = &self.state {
            self.cancelled = self.cancelled.max(Some(kind));
            call.cancel(kind);
        }
    }

    pub(crate) fn abandon(&mut self) {
        if let State::Open(call) = &self.state {
            call.abandon();
            self.state = State::Abandoned;
        }
    }
}
