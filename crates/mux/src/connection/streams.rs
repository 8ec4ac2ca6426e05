//! The streams of a connection by their numbers, and the memory that their requests hold.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use rustc_hash::FxHashMap;
use sinew_plane::{
    BudgetUse, Error, Unanswered,
    budget::{Account, Tally, Work},
};

use super::Driver;
use crate::stream::{CallerStream, ProducerStream, REQUEST_COST_BYTES};

/// Streams that have ended and are kept for their peer at the most. A peer tells of up to 1,024 ends
/// at once, and with each of its writes.
const MAX_FINISHED: usize = 1_536;

/// Bytes that those keep at the most, beyond one of them: what a peer grants at once by default.
const MAX_FINISHED_BYTES: usize = 64 << 20;

/// A table of streams with room for more than this many is given back when it is empty.
const KEPT_ENTRIES: usize = 64;

/// The streams of a connection by their numbers.
pub(super) struct Streams<D: Driver> {
    /// Opened by this side.
    pub(super) calls: FxHashMap<u32, Arc<CallerStream<D>>>,
    /// Opened by the peer.
    pub(super) responses: FxHashMap<u32, Arc<ProducerStream<D>>>,
    /// Those that have ended, until the peer says that it has their ends: the oldest first.
    pub(super) finished: VecDeque<Finished<D>>,
    finished_bytes: usize,
    /// Streams of which the peer will say that it has the end, and that are not kept any more.
    let_go: u32,
    /// Those that are kept no more. One is let go of for each that comes, as the allocator has a few
    /// blocks of a size at hand and puts the rest away; those left, when all that was read is routed.
    pub(super) gone: Vec<Arc<ProducerStream<D>>>,
    /// Bytes that the requests of those hold, and what is charged for them.
    requests_hold: usize,
    charged: Tally,
    /// Those among them whose callers may not have heard of their admission.
    pub(super) unanswered: Unanswered<u32>,
    /// Streams of this side that were attached here and of which nothing has arrived since.
    pub(super) resumed: FxHashMap<u32, Resumed>,
    /// Frames that may still arrive for streams of this side that have left for another connection
    /// while this one is up. They are not held against the peer, which has sent them in good faith.
    pub(super) void_frames: u64,
    /// The driver is told when the peer has the ends of all of `finished`.
    pub(super) tells_ends: bool,
    /// No new ones: drained or closed.
    pub(super) draining: bool,
    /// The peer has said that it drains.
    pub(super) peer_leaves: bool,
    pub(super) closed: bool,
}

/// A stream of this side that was attached.
pub(super) struct Resumed {
    /// When it lost its connection, or left it.
    pub(super) since: Instant,
    /// The items that it had then.
    pub(super) received: u64,
}

/// A stream that has ended, and whose peer may not know.
pub(super) struct Finished<D: Driver> {
    pub(super) stream: u32,
    /// What it keeps, at its end.
    bytes: usize,
    pub(super) response: Arc<ProducerStream<D>>,
}

impl<D: Driver> Default for Streams<D> {
    fn default() -> Self {
        Self {
            calls: FxHashMap::default(),
            responses: FxHashMap::default(),
            finished: VecDeque::new(),
            finished_bytes: 0,
            let_go: 0,
            gone: Vec::new(),
            requests_hold: 0,
            charged: Tally::default(),
            unanswered: Unanswered::default(),
            resumed: FxHashMap::default(),
            void_frames: 0,
            tells_ends: false,
            draining: false,
            peer_leaves: false,
            closed: false,
        }
    }
}

impl<D: Driver> Streams<D> {
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.responses.is_empty()
    }

    /// Makes room in the memory budget for a request with so many bytes that are not charged yet.
    ///
    /// # Errors
    /// There is none: nothing has run for it.
    pub(super) fn admit(
        &mut self,
        bytes: usize,
        account: Option<&Arc<Account>>,
    ) -> Result<(), Error> {
        let Some(account) = account else { return Ok(()) };
        account.budget().admit()?;
        let hold = self.requests_hold + bytes + REQUEST_COST_BYTES;
        if !self.charged.cover(hold, BudgetUse::Bodies, account, Work::New) {
            return Err(account.budget().refusal());
        }
        self.requests_hold = hold;
        Ok(())
    }

    /// Takes a response out that has ended.
    pub(super) fn take_response(
        &mut self,
        stream: u32,
        account: Option<&Arc<Account>>,
    ) -> Option<Arc<ProducerStream<D>>> {
        let response = self.responses.remove(&stream)?;
        if let Some(account) = account {
            let held = response.request_bytes() + REQUEST_COST_BYTES;
            self.requests_hold = self.requests_hold.saturating_sub(held);
            self.charged.settle(self.requests_hold, BudgetUse::Bodies, account);
        }
        if self.responses.is_empty() && self.responses.capacity() > KEPT_ENTRIES {
            self.responses = FxHashMap::default();
        }
        Some(response)
    }

    /// Takes a response in that has run on another connection.
    pub(super) fn take_over(
        &mut self,
        stream: u32,
        response: Arc<ProducerStream<D>>,
        account: Option<&Arc<Account>>,
    ) {
        self.requests_hold += response.request_bytes() + REQUEST_COST_BYTES;
        if let Some(account) = account {
            // There was room for it on the other.
            let held = self.requests_hold;
            let _ = self.charged.cover(held, BudgetUse::Bodies, account, Work::Running);
        }
        self.responses.insert(stream, response);
    }

    /// Keeps a response that has ended. Returns the one that has to go for it.
    pub(super) fn keep_finished(
        &mut self,
        stream: u32,
        response: Arc<ProducerStream<D>>,
    ) -> Option<Arc<ProducerStream<D>>> {
        let bytes = response.kept_bytes();
        let is_full =
            self.finished.len() >= MAX_FINISHED || self.finished_bytes + bytes > MAX_FINISHED_BYTES;
        let oldest = if is_full { self.remove_finished(0) } else { None };
        self.let_go += u32::from(oldest.is_some());
        self.finished_bytes += bytes;
        self.finished.push_back(Finished { stream, bytes, response });
        oldest
    }

    /// The peer has the end of a stream. Mostly it is that of the oldest.
    pub(super) fn take_finished(&mut self, stream: u32) -> Option<Arc<ProducerStream<D>>> {
        let at = self.finished.iter().position(|it| it.stream == stream)?;
        self.remove_finished(at)
    }

    /// Takes a response out that has ended.
    pub(super) fn remove_finished(&mut self, at: usize) -> Option<Arc<ProducerStream<D>>> {
        let Finished { bytes, response, .. } = self.finished.remove(at)?;
        self.finished_bytes -= bytes;
        Some(response)
    }

    /// The peer has the end of a stream that is not kept. True when it was let go of for others, so
    /// that its peer could not know.
    pub(super) fn was_let_go(&mut self) -> bool {
        let (before, any) = (self.let_go, self.let_go > 0);
        self.let_go = before.saturating_sub(1);
        any
    }

    /// Takes all of them out.
    pub(super) fn take_all_finished(&mut self) -> Vec<Arc<ProducerStream<D>>> {
        self.finished_bytes = 0;
        let count = u32::try_from(self.finished.len()).unwrap_or(u32::MAX);
        self.let_go = self.let_go.saturating_add(count);
        self.finished.drain(..).map(|it| it.response).collect()
    }

    /// Takes all responses out.
    pub(super) fn take_responses(
        &mut self,
        account: Option<&Arc<Account>>,
    ) -> FxHashMap<u32, Arc<ProducerStream<D>>> {
        self.requests_hold = 0;
        if let Some(account) = account {
            self.charged.clear(BudgetUse::Bodies, account);
        }
        std::mem::take(&mut self.responses)
    }

    /// True if a frame without effect may be one for a stream that has left.
    #[cold]
    pub(super) fn is_void(&mut self) -> bool {
        let is_void = self.void_frames > 0;
        self.void_frames = self.void_frames.saturating_sub(1);
        is_void
    }

    /// Takes those out of the resumed streams of which something has arrived, and adds since when
    /// each was without a connection.
    #[cold]
    pub(super) fn take_heard(&mut self, to: &mut Vec<Instant>) {
        let Self { calls, resumed, .. } = self;
        let is_heard = |stream: &u32, it: &mut Resumed| {
            calls.get(stream).is_none_or(|call| call.has_more_than(it.received))
        };
        to.extend(resumed.extract_if(|stream, it| is_heard(stream, it)).map(|(_, it)| it.since));
    }

    /// Lets go of tables that nothing is in.
    pub(super) fn shrink(&mut self) {
        if self.calls.is_empty() && self.calls.capacity() > 0 {
            self.calls = FxHashMap::default();
        }
        if self.resumed.is_empty() && self.resumed.capacity() > 0 {
            self.resumed = FxHashMap::default();
        }
        if self.responses.is_empty() && self.responses.capacity() > 0 {
            self.responses = FxHashMap::default();
        }
        if self.finished.is_empty() {
            self.finished = VecDeque::new();
            self.gone = Vec::new();
        }
    }
}
