//! One request at a persistent process, from its line to its end.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{self, Poll},
    time::Duration,
};

use bytes::Bytes;
use sinew::{Code, Error, Executed, ResponseSink, TrySendError, layers::plane::budget::Account};
use tokio::{
    sync::mpsc,
    time::{Sleep, sleep, timeout},
};

use super::{
    output_queue::{OutputQueue, ProcessOutput},
    process_run::{Entry, InputLine},
    wire::{self, LineFormat},
};

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const WITHDRAWN: u8 = 2;

/// One request as its task and the process's reader and writer share it.
pub(crate) struct Exchange {
    pub(crate) format: LineFormat,
    pub(crate) output: OutputQueue,
    state: AtomicU8,
}

impl Exchange {
    pub(crate) fn new(format: LineFormat, account: Arc<Account>) -> Self {
        Self { format, output: OutputQueue::new(account), state: AtomicU8::new(WAITING) }
    }

    /// The line is about to be written. False when the request was withdrawn before.
    pub(crate) fn begin(&self) -> bool {
        let begun = self.change(BEGUN);
        if begun {
            // There is always room for it.
            let _ = self.output.put(ProcessOutput::Begun);
        }
        begun
    }

    /// Takes the request back. False when the process has been given it.
    fn withdraw(&self) -> bool {
        self.change(WITHDRAWN)
    }

    fn change(&self, to: u8) -> bool {
        self.state.compare_exchange(WAITING, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Ends the request because the process is gone: it has failed, or it never ran and is safe
    /// to send elsewhere.
    pub(crate) fn fail(&self, why: &str) {
        let begun = self.state.load(Ordering::Acquire) == BEGUN;
        let executed = if begun { Executed::Yes } else { Executed::No };
        let error = Error::new(Code::HandlerGone, why).with_executed(executed);
        let _ = self.output.put(ProcessOutput::Failed(error));
    }
}

/// One request on its way from the process to its caller.
///
/// There is one of it in the task of each stream that is open, and most of its time it waits: what
/// it needs for the rest of its life is in boxes.
pub(crate) struct Passing {
    entry: Entry,
    sink: ResponseSink,
    /// An item for which there was no credit.
    waiting: Option<Bytes>,
    /// When to stop waiting for the end behind a stop.
    limit: Option<Pin<Box<Sleep>>>,
    kill_grace: Duration,
}

/// What was waited for.
enum Next {
    Killed,
    Stopped,
    /// The time behind a stop is over.
    Late,
    Credit,
    /// The caller takes no items any more.
    Gone,
    Overflowed,
    Output,
}

impl Passing {
    pub(crate) fn new(entry: Entry, sink: ResponseSink, kill_grace: Duration) -> Self {
        Self { entry, sink, waiting: None, limit: None, kill_grace }
    }

    /// Passes on what the process writes for the request until its end, and a cancel to the
    /// process. The end that is to be told, if there is one to tell.
    pub(crate) async fn run(&mut self) -> Option<ProcessOutput> {
        loop {
            match self.send_ready() {
                Ok(None) => {}
                Ok(Some(end)) => {
                    if matches!(end, ProcessOutput::Failed(_)) {
                        self.cancel().await;
                    }
                    return Some(end);
                }
                // The caller is gone.
                Err(_) => break,
            }
            match self.next().await {
                Next::Killed | Next::Gone => break,
                Next::Stopped => {
                    self.cancel().await;
                    self.limit = Some(Box::pin(sleep(self.kill_grace)));
                }
                // Dropping the sink behind a stop ends the response as cancelled.
                Next::Late => return None,
                // The item that waits is dropped too: the end stands behind it now.
                Next::Overflowed => self.waiting = None,
                Next::Output | Next::Credit => {}
            }
        }
        self.cancel().await;
        None
    }

    async fn next(&mut self) -> Next {
        let context = self.sink.context().clone();
        let asked = self.limit.is_some();
        let cancelled = async {
            // Behind a stop there can only be a kill.
            if asked { context.killed().await } else { context.stopped().await }
        };
        let progress = poll_fn(|cx| self.poll_progress(cx));
        tokio::select! {
            biased;
            () = cancelled => if context.is_killed() { Next::Killed } else { Next::Stopped },
            next = progress => next,
        }
    }

    fn poll_progress(&mut self, cx: &mut task::Context<'_>) -> Poll<Next> {
        if self.limit.as_mut().is_some_and(|limit| limit.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(Next::Late);
        }
        let output = &self.entry.exchange.output;
        if self.waiting.is_none() {
            return output.poll_arrived(cx).map(|()| Next::Output);
        }
        if let Poll::Ready(ready) = self.sink.poll_ready(cx) {
            return Poll::Ready(if ready.is_ok() { Next::Credit } else { Next::Gone });
        }
        output.poll_overflowed(cx).map(|()| Next::Overflowed)
    }

    /// Sends what has arrived as far as there is credit. The end, once it is there.
    fn send_ready(&mut self) -> Result<Option<ProcessOutput>, Error> {
        loop {
            let output = match self.waiting.take() {
                Some(item) => Some(ProcessOutput::Item(item)),
                None => self.entry.exchange.output.try_take(),
            };
            match output {
                None => break,
                Some(ProcessOutput::Begun) => self.sink.accept(),
                Some(ProcessOutput::Item(item)) => match self.sink.try_send(item) {
                    Ok(()) => {}
                    Err(TrySendError::Full(item)) => {
                        self.waiting = Some(item);
                        break;
                    }
                    Err(TrySendError::Closed(error)) => return Err(error),
                },
                Some(end) => return Ok(Some(end)),
            }
        }
        self.sink.flush();
        Ok(None)
    }

    /// Tells the process that the caller wants no more, if it was given the request. A process that
    /// does not read its input is not waited for longer than the grace.
    async fn cancel(&mut self) {
        let Entry { run, id, exchange } = &self.entry;
        if exchange.withdraw() {
            return;
        }
        // Nobody reads it any more when the process has ended.
        if let Err(mpsc::error::TrySendError::Full(line)) =
            run.try_send(InputLine::Cancel(wire::cancel(*id)))
        {
            let _ = Box::pin(timeout(self.kill_grace, run.send(line))).await;
        }
    }
    /// Gives the process the line of the request once there is room for it. False when it has
    /// ended; `None` when the request was withdrawn before.
    pub(crate) async fn hand_over(&mut self, line: InputLine) -> Option<bool> {
        tokio::select! {
            biased;
            () = self.sink.context().stopped() => None,
            sent = self.entry.run.send(line) => Some(sent),
        }
    }

    /// Nothing ran.
    pub(crate) fn reject(self, error: Error) {
        self.sink.reject(error);
    }

    /// Tells the caller the end.
    pub(crate) fn finish(self, end: ProcessOutput) {
        let sink = self.sink;
        match (end, sink.context().reason()) {
            (_, Some(reason)) => sink.cancelled(reason),
            (ProcessOutput::Failed(error), None) if error.executed() == Executed::No => {
                sink.reject(error)
            }
            (ProcessOutput::Failed(error), None) => sink.fail(error),
            (_, None) => sink.complete(),
        }
    }
}
