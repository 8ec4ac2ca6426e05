//! One request at a persistent process, from its line to its end.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use sinew::{Code, Error, Executed, ResponseSink, TrySendError, layers::plane::budget::Account};
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    life::{Entry, Line},
    mailbox::{Letter, Mailbox},
    wire::{self, Speech},
};

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const WITHDRAWN: u8 = 2;

/// One request as its task and the process's reader and writer share it.
pub(crate) struct Exchange {
    pub(crate) speech: Speech,
    pub(crate) mailbox: Mailbox,
    state: AtomicU8,
}

impl Exchange {
    pub(crate) fn new(speech: Speech, account: Arc<Account>) -> Self {
        Self { speech, mailbox: Mailbox::new(account), state: AtomicU8::new(WAITING) }
    }

    /// The line is about to be written. False when the request was withdrawn before.
    pub(crate) fn begin(&self) -> bool {
        let begun = self.change(BEGUN);
        if begun {
            // There is always room for it.
            let _ = self.mailbox.put(Letter::Begun);
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
        let _ = self.mailbox.put(Letter::Failed(error));
    }
}

/// Passes on what the process writes for a request until its end, and a cancel to the process.
pub(crate) async fn pass_on(entry: Entry<'_>, mut sink: ResponseSink, kill_grace: Duration) {
    let (context, mailbox) = (sink.context().clone(), &entry.exchange.mailbox);
    // An item for which there was no credit.
    let mut waiting = None;
    // When to stop waiting for the end behind a stop.
    let mut limit: Option<Instant> = None;
    loop {
        match send_ready(&entry, &mut waiting, &mut sink) {
            Ok(None) => {}
            Ok(Some(end)) => {
                if matches!(end, Letter::Failed(_)) {
                    cancel(&entry, kill_grace).await;
                }
                return finish(end, sink);
            }
            // The caller is gone.
            Err(_) => return cancel(&entry, kill_grace).await,
        }
        tokio::select! {
            biased;
            () = context.killed() => return cancel(&entry, kill_grace).await,
            () = context.stopped(), if limit.is_none() => {
                cancel(&entry, kill_grace).await;
                limit = Some(Instant::now() + kill_grace);
            }
            // Dropping the sink behind a stop ends the response as cancelled.
            () = sleep_until(limit.unwrap_or_else(Instant::now)), if limit.is_some() => return,
            ready = poll_fn(|cx| sink.poll_ready(cx)), if waiting.is_some() => {
                if ready.is_err() {
                    return cancel(&entry, kill_grace).await;
                }
            }
            // What waits is dropped too: the end stands behind it now.
            () = mailbox.overflowed(), if waiting.is_some() => waiting = None,
            () = mailbox.arrived(), if waiting.is_none() => {}
        }
    }
}

/// Sends what has arrived as far as there is credit. The end, once it is there.
fn send_ready(
    entry: &Entry<'_>,
    waiting: &mut Option<Bytes>,
    sink: &mut ResponseSink,
) -> Result<Option<Letter>, Error> {
    loop {
        let letter = match waiting.take() {
            Some(item) => Some(Letter::Item(item)),
            None => entry.exchange.mailbox.try_take(),
        };
        match letter {
            None => break,
            Some(Letter::Begun) => sink.accept(),
            Some(Letter::Item(item)) => match sink.try_send(item) {
                Ok(()) => {}
                Err(TrySendError::Full(item)) => {
                    *waiting = Some(item);
                    break;
                }
                Err(TrySendError::Closed(error)) => return Err(error),
            },
            Some(end) => return Ok(Some(end)),
        }
    }
    sink.flush();
    Ok(None)
}

fn finish(end: Letter, sink: ResponseSink) {
    match (end, sink.context().reason()) {
        (_, Some(reason)) => sink.cancelled(reason),
        (Letter::Failed(error), None) if error.executed() == Executed::No => sink.reject(error),
        (Letter::Failed(error), None) => sink.fail(error),
        (_, None) => sink.complete(),
    }
}

/// Tells the process that nobody wants the rest, if it was given the request. A process that
/// does not read its input is not waited for longer than `limit`.
async fn cancel(entry: &Entry<'_>, limit: Duration) {
    if !entry.exchange.withdraw() {
        let line = Line::Cancel(wire::cancel(entry.id));
        // Nobody reads it any more when the process has ended.
        let _ = timeout(limit, entry.life.send(line)).await;
    }
}
