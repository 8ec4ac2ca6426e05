//! The charge of an unfinished request, and the handling of one that is refused.

use bytes::BytesMut;
use sinew_plane::{BudgetUse, budget::Work};

use super::{End, Serving};

/// So much of an unfinished request is not charged to the memory budget.
const UNCHARGED_BYTES: usize = 4 << 10;

/// A buffer of up to this size is charged with what is in it, a larger one whole: of the former the
/// system gives what was written to.
const SMALL_BUFFER_BYTES: usize = 64 << 10;

impl Serving<'_> {
    /// Charges a buffer that has grown for a request. Without room the request is refused: what has
    /// come of it is let go of, and the rest is dropped as it comes.
    pub(super) fn charge_buffer(&mut self) -> Result<(), End> {
        let Some(account) = &self.account else { return Ok(()) };
        let (len, capacity) = (self.buffer.len(), self.buffer.capacity());
        let bytes = if capacity > SMALL_BUFFER_BYTES { capacity } else { len };
        if bytes <= UNCHARGED_BYTES {
            self.hold = None;
            return Ok(());
        }
        let charged = match &mut self.hold {
            Some(hold) => hold.grow_to(bytes, Work::New),
            None => {
                self.hold = account.hold(BudgetUse::Frames, bytes, Work::New);
                self.hold.is_some()
            }
        };
        if charged {
            return Ok(());
        }
        let refusal = account.budget().refusal();
        let Some(frame) = self.codec.frame_len(&self.buffer) else {
            return Err(End::Refused(refusal));
        };
        self.skip = frame - self.buffer.len();
        self.let_go();
        self.put_answer(&Err(refusal));
        Ok(())
    }

    /// Drops what has come of a request that was refused.
    pub(super) fn skip_refused(&mut self) {
        let dropped = self.skip.min(self.buffer.len());
        if dropped > 0 {
            let _ = self.buffer.split_to(dropped);
            self.skip -= dropped;
        }
    }

    /// Lets go of the buffer.
    pub(super) fn let_go(&mut self) {
        self.buffer = BytesMut::new();
        self.hold = None;
    }
}
