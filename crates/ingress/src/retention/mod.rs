//! Responses that are kept beyond the window of their callers, so that others can read them too.
//!
//! An endpoint with [`Retain`] keeps each of its responses in a [`Log`](log::Log). The handler
//! writes into the log, and a task for each reader copies from the log into the sink of that reader:
//! the caller is the first one, and those that come later with a resume token are the others. Each
//! gets all items from where it asks. The handler goes as fast as the fastest reader; one that is
//! slower reads what is retained, or ends with `ResumeExpired` once that is gone.

mod cancel;
mod handler_sink;
mod log;
mod reader;
mod reclaim;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, hash_map::Entry},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sinew_plane::{
    Budget, CancelReason, Code, Context, Error, IncomingRequest, ResponseSink, ResumeToken,
    StopKind, StreamId, budget::Account, clock,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::log::{Entered, Log};

/// What an endpoint keeps of each of its responses, beyond what its reader has not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retain {
    /// Most items that are kept behind the newest that a reader has acknowledged. At least 1.
    pub items: usize,
    /// Most bytes of those items. At least 1.
    pub bytes: usize,
    /// How long a response is kept after its end, and after its last reader has gone. No item is
    /// read that is older, and a reader other than the caller that takes nothing for so long ends as
    /// `Exhausted`. At least a millisecond.
    pub time: Duration,
}

impl Retain {
    /// True if nothing would be kept.
    pub fn is_empty(&self) -> bool {
        self.items == 0 || self.bytes == 0 || self.time < Duration::from_millis(1)
    }
}

/// Most responses that a process keeps. Those that run and are read are bounded by the admission.
const MAX_LOGS: usize = 65_536;

/// The retained responses of a process.
pub(crate) struct Retention {
    /// By stream and secret: no other caller that chooses the same id gets at them.
    logs: Mutex<HashMap<(StreamId, u64), Arc<Log>>>,
    /// With more of them, those that nobody reads are let go of.
    most: AtomicUsize,
    /// What all of them are charged to.
    account: Option<Arc<Account>>,
    /// A look for what can go found nothing; the next is not before.
    dry_until: Mutex<Instant>,
    /// Cancelled when the process keeps no response any longer.
    ending: CancellationToken,
}

impl Retention {
    pub(crate) fn new(budget: Option<&Arc<Budget>>) -> Arc<Self> {
        let retention = Arc::new(Self {
            logs: Mutex::default(),
            most: AtomicUsize::new(MAX_LOGS),
            account: budget.map(|budget| budget.open()),
            dry_until: Mutex::new(clock::now()),
            ending: CancellationToken::new(),
        });
        if let Some(budget) = budget {
            budget.takes_first(Arc::downgrade(&retention) as _);
        }
        retention
    }

    /// Puts a log between the handler of a request and its caller, as `retain` says. Returns the
    /// context and the sink for the handler. What `hold` makes of the handler's context is dropped
    /// when the caller has its end, before it hears of it.
    pub(crate) fn retain<G: Send + 'static>(
        self: &Arc<Self>,
        retain: Retain,
        (context, secret): (Context, u64),
        sink: ResponseSink,
        hold: impl FnOnce(&Context) -> G,
        tasks: &TaskTracker,
    ) -> (Context, ResponseSink) {
        let (log, handler, handler_sink) = Log::begin(retain, &context, self);
        let (retention, key) = (Arc::clone(self), (context.id(), secret));
        let count = {
            let mut logs = self.logs.lock();
            logs.insert(key, Arc::clone(&log));
            logs.len()
        };
        if count > self.most.load(Ordering::Relaxed) {
            self.end_idle(count / 8);
        }
        let (entered, guard) = (log.enter(0), hold(&handler));
        tasks.spawn(async move {
            // The park limit of the endpoint is in its sink.
            retention.read(&log, (entered, guard), None, (context, sink)).await;
            if retention.ending.run_until_cancelled(log.expire()).await.is_none() {
                log.handler.cancel(StopKind::Kill, CancelReason::Shutdown);
            }
            retention.remove(key, &log);
            log.clear();
        });
        (handler, handler_sink)
    }

    /// Passes the items to one reader, which hears it if the process shuts down.
    async fn read<G>(
        &self,
        log: &Arc<Log>,
        entered: (Entered, G),
        patience: Option<Duration>,
        (context, sink): (Context, ResponseSink),
    ) {
        let mut reading = pin!(reader::read(log, entered, patience, (context.clone(), sink)));
        if self.ending.run_until_cancelled(&mut reading).await.is_none() {
            context.cancel(StopKind::Kill, CancelReason::Shutdown);
            reading.await;
        }
    }

    fn remove(&self, key: (StreamId, u64), log: &Arc<Log>) {
        if let Entry::Occupied(kept) = self.logs.lock().entry(key)
            && Arc::ptr_eq(kept.get(), log)
        {
            kept.remove();
        }
    }

    /// Serves a request to [`ResumeToken::ENDPOINT`]: adds a reader to a response that is kept, until
    /// `guard` is dropped.
    pub(crate) fn resume(
        self: &Arc<Self>,
        request: &IncomingRequest<'_>,
        sink: ResponseSink,
        guard: impl Send + 'static,
        tasks: &TaskTracker,
    ) {
        let token = std::str::from_utf8(&request.body).ok().and_then(|text| text.parse().ok());
        let Some(ResumeToken { stream, secret, next_item, .. }) = token else {
            let message = "the request to resume a stream has no resume token as its body";
            return sink.reject(Error::new(Code::InvalidPayload, message));
        };
        let log = self.logs.lock().get(&(stream, secret)).cloned();
        let Some(log) = log else {
            let error = Error::new(Code::ResumeExpired, "the stream is not retained here");
            return sink.reject(error);
        };
        let (retention, reader) = (Arc::clone(self), (request.context.clone(), sink));
        let (entered, patience) = ((log.enter(next_item), guard), Some(log.patience()));
        tasks.spawn(async move { retention.read(&log, entered, patience, reader).await });
    }

    /// Keeps nothing any longer, and ends the readers and the handlers.
    pub(crate) fn close(&self) {
        self.ending.cancel();
    }
}
