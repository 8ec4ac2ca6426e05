//! The output of a connection, and the claim to write it. One task writes at a time. It checks for
//! more output before it ends its claim, so that no frame is left.

use super::{Connection, Driver};
use crate::{Batch, Outbound, PollFrame};

/// The sending direction and who is writing it.
pub(crate) struct SendState {
    pub(crate) outbound: Outbound,
    /// A task has taken a batch and will look again before it lets go.
    writing: bool,
    /// A batch that the carrier did not take; whoever takes over goes on with it.
    stalled: Option<Batch>,
    /// The one who wrote has left the writing to another.
    handed_over: bool,
    /// Streams in the middle of an item that no call wants any more, for the reader. Each stream
    /// stands here at most once.
    pub(crate) forgotten: Vec<u32>,
    /// A write failed, possibly in the middle of a frame.
    pub(super) is_broken: bool,
}

impl SendState {
    pub(super) fn new(outbound: Outbound) -> Self {
        Self {
            outbound,
            writing: false,
            stalled: None,
            handed_over: false,
            forgotten: Vec::new(),
            is_broken: false,
        }
    }
}

/// Methods for the task that writes.
impl<D: Driver> Connection<D> {
    /// Claims the right to write. False if another task has it, or there is nothing to write.
    pub fn begin_transmit(&self) -> bool {
        let mut out = self.out.lock();
        let claimed = !out.writing && out.outbound.has_output();
        out.writing |= claimed;
        claimed
    }

    /// True if there is something to write and no task writes.
    pub fn wants_transmit(&self) -> bool {
        let out = self.out.lock();
        !out.writing && out.outbound.has_output()
    }

    /// Returns the next batch to the task that has the claim. If there is nothing to write, ends
    /// the claim and returns `None`.
    pub fn poll_transmit(&self) -> Option<Batch> {
        loop {
            self.send_next_of_each();
            let mut out = self.out.lock();
            let batch = out.outbound.take_batch();
            if !batch.is_empty() {
                return Some(batch);
            }
            if !out.outbound.has_output() {
                out.writing = false;
                return None;
            }
        }
    }

    /// Takes back a batch that was written.
    pub fn transmitted(&self, batch: &mut Batch) {
        self.out.lock().outbound.recycle(batch);
    }

    /// Passes the claim to the next task that [takes over](Self::take_over), with the batch that
    /// the carrier did not take.
    pub fn hand_over(&self, stalled: Option<Batch>) {
        let mut out = self.out.lock();
        out.stalled = stalled;
        out.handed_over = true;
    }

    /// True if the claim waits for a task to take it over.
    pub fn is_handed_over(&self) -> bool {
        self.out.lock().handed_over
    }

    /// Takes the claim over, or makes it as [`begin_transmit`](Self::begin_transmit) does.
    pub fn take_over(&self) -> bool {
        let mut out = self.out.lock();
        if std::mem::take(&mut out.handed_over) {
            return true;
        }
        let claimed = !out.writing && out.outbound.has_output();
        out.writing |= claimed;
        claimed
    }

    /// The batch that the carrier did not take, for the task that has the claim.
    pub fn take_stalled(&self) -> Option<Batch> {
        self.out.lock().stalled.take()
    }

    /// Stores a batch that may be written in part. The task that closes the connection has to write
    /// the rest of this batch before the last frames.
    pub fn keep_stalled(&self, batch: Batch) {
        self.out.lock().stalled = Some(batch);
    }

    /// Records that a write failed. No frame may follow one that was cut, and no stream can be
    /// opened any more.
    pub fn break_off(&self) {
        let mut out = self.out.lock();
        out.is_broken = true;
        out.outbound.on_go_away();
    }

    /// True once a write has failed.
    pub fn is_broken(&self) -> bool {
        self.out.lock().is_broken
    }

    /// Claims the right to write the last frames, also if another task has it, unless that task is
    /// in the middle of a write.
    pub fn begin_close(&self) -> bool {
        let mut out = self.out.lock();
        let free = !out.writing || out.handed_over || out.stalled.is_some() || out.is_broken;
        out.writing |= free;
        free
    }

    /// The rest of the output, for the task that has made the claim with
    /// [`begin_close`](Self::begin_close).
    pub fn take_rest(&self) -> Batch {
        self.out.lock().outbound.take_batch()
    }

    /// True if no output waits and none is being written.
    pub fn is_written(&self) -> bool {
        let out = self.out.lock();
        !out.writing && !out.outbound.has_output()
    }

    /// Lets the streams that stand in line add their data while there is room.
    fn send_next_of_each(&self) {
        loop {
            let Some(stream) = self.out.lock().outbound.next_turn() else { return };
            if self.role.opens(stream) {
                let call = self.streams.lock().calls.get(&stream).cloned();
                if let Some(call) = call {
                    call.send_next(self, stream);
                }
                continue;
            }
            let response = self.streams.lock().responses.get(&stream).cloned();
            if response.is_some_and(|response| response.send_next(self, stream) == PollFrame::Ended)
            {
                self.remove_response(stream);
            }
        }
    }
}
