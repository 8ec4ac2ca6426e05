//! A pool of the buffers in which large messages are put together.
//!
//! For a message of a megabyte, the system needs more time to allocate and free the memory, page by
//! page, than to fill it. So the buffer of a message is kept for the next one.

use std::{collections::VecDeque, sync::Arc};

use bytes::BytesMut;
use sinew_plane::budget::{Account, BudgetUse, Hold, Spare, Work};

use crate::assembly::NoRoom;

/// Smaller buffers are not kept: the allocator gives them from memory that it keeps itself.
const KEPT_FROM_BYTES: usize = 64 << 10;

/// Kept per connection, in number and bytes: about what the default request window lets be on its
/// way, in messages of 1 to 4 MiB and what little room each has to spare.
const BUFFERS: usize = 8;
const BYTES: usize = (16 << 20) + (64 << 10);

/// How much larger than asked for a buffer may be: a small message must not hold a huge one.
const EXCESS: usize = 2;

/// Buffers that were given out, each to be given out again when nobody holds a byte of it.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    /// To which messages are charged, and in whose budget what is kept has its part: an eighth
    /// for all connections together.
    account: Option<Arc<Account>>,
    buffers: VecDeque<ReusableBuffer>,
    bytes: usize,
    /// Something was taken since the last look.
    used: bool,
}

/// The empty end of a buffer. While the rest of the buffer is in use it only knows where that is;
/// once it is alone it can have the whole.
#[derive(Debug)]
struct ReusableBuffer {
    end: BytesMut,
    capacity: usize,
    _spare: Option<Spare>,
}

impl ReusableBuffer {
    /// Takes note of a buffer, if the process may keep so much more.
    fn of(buffer: &mut BytesMut, account: Option<&Arc<Account>>) -> Option<Self> {
        let capacity = buffer.capacity();
        let spare = match account {
            Some(account) => Some(account.budget().spare(capacity)?),
            None => None,
        };
        Some(Self { end: buffer.split_off(capacity), capacity, _spare: spare })
    }

    /// The whole buffer, when nothing else holds any of it.
    fn reclaim(&mut self) -> Option<BytesMut> {
        if !self.end.try_reclaim(self.capacity) {
            return None;
        }
        let mut buffer = std::mem::take(&mut self.end);
        self.end = buffer.split_off(buffer.capacity());
        Some(buffer)
    }
}

impl BufferPool {
    /// A pool whose messages are charged to `account`; without one they are not charged.
    pub(crate) fn new(account: Option<Arc<Account>>) -> Self {
        Self { account, ..Self::default() }
    }

    /// Sees to it that a message of `bytes` is charged.
    pub(crate) fn charge(
        &self,
        hold: &mut Option<Hold>,
        bytes: usize,
        what: BudgetUse,
        work: Work,
    ) -> Result<(), NoRoom> {
        let Some(account) = &self.account else { return Ok(()) };
        let charged = match hold {
            Some(hold) => hold.grow_to(bytes, work),
            None => {
                *hold = account.hold(what, bytes, work);
                hold.is_some()
            }
        };
        if charged { Ok(()) } else { Err(NoRoom) }
    }

    /// The account, if there is one.
    pub(crate) fn account(&self) -> Option<&Arc<Account>> {
        self.account.as_ref()
    }

    /// An empty buffer for at least so many bytes that was used before, if there is one.
    pub(crate) fn reuse(&mut self, bytes: usize) -> Option<BytesMut> {
        self.used = true;
        let fits = |buffer: &&mut ReusableBuffer| {
            (bytes..=bytes.saturating_mul(EXCESS)).contains(&buffer.capacity)
        };
        self.buffers.iter_mut().filter(fits).find_map(ReusableBuffer::reclaim)
    }

    /// A new empty buffer for so many bytes, to be used again later.
    pub(crate) fn allocate(&mut self, bytes: usize) -> BytesMut {
        let mut buffer = BytesMut::with_capacity(bytes);
        let capacity = buffer.capacity();
        if !(KEPT_FROM_BYTES..=BYTES).contains(&capacity) {
            return buffer;
        }
        // What was allocated last is what is needed now.
        while self.buffers.len() >= BUFFERS || self.bytes + capacity > BYTES {
            let Some(oldest) = self.buffers.pop_front() else { break };
            self.bytes -= oldest.capacity;
        }
        if let Some(reusable) = ReusableBuffer::of(&mut buffer, self.account.as_ref()) {
            self.bytes += capacity;
            self.buffers.push_back(reusable);
        }
        buffer
    }

    /// Lets go of everything if nothing was taken since the last call.
    pub(crate) fn on_tick(&mut self) {
        if !std::mem::take(&mut self.used) {
            self.buffers = VecDeque::new();
            self.bytes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 1 << 20;

    #[test]
    fn a_buffer_comes_back_when_its_last_byte_is_let_go_of() {
        let mut pool = BufferPool::default();
        assert!(pool.reuse(SIZE).is_none());
        let mut buffer = pool.allocate(SIZE);
        let at = buffer.as_ptr();
        buffer.extend_from_slice(&[1; 100]);
        let message = buffer.freeze();
        assert!(pool.reuse(SIZE).is_none());
        let part = message.slice(50..);
        drop(message);
        assert!(pool.reuse(SIZE).is_none());
        drop(part);
        assert!(pool.reuse(SIZE + 1).is_none());
        let again = pool.reuse(SIZE - 1).unwrap();
        assert_eq!((again.as_ptr(), again.len()), (at, 0));
        assert!(again.capacity() >= SIZE);
        assert!(pool.reuse(SIZE).is_none());
        drop(again);
        assert!(pool.reuse(SIZE / EXCESS - 1).is_none(), "far too large");
        assert!(pool.reuse(SIZE / EXCESS).is_some());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut pool = BufferPool::default();
        let all: Vec<BytesMut> = (0..100).map(|_| pool.allocate(SIZE)).collect();
        drop(all);
        let mut again = Vec::new();
        while let Some(buffer) = pool.reuse(SIZE) {
            again.push(buffer);
        }
        assert!(again.len() <= BUFFERS);
        assert!(again.iter().map(BytesMut::capacity).sum::<usize>() <= BYTES);
        drop(pool.allocate(BYTES + 1));
        assert!(pool.reuse(BYTES + 1).is_none());
        drop(pool.allocate(KEPT_FROM_BYTES - 1));
        assert_eq!(pool.buffers.len(), again.len());
    }

    #[test]
    fn nothing_is_kept_when_idle() {
        let mut pool = BufferPool::default();
        drop(pool.allocate(SIZE));
        let message = pool.reuse(SIZE).unwrap();
        pool.on_tick();
        assert_eq!(pool.buffers.len(), 1);
        pool.on_tick();
        assert!(pool.buffers.is_empty() && pool.bytes == 0);
        assert!(message.capacity() >= SIZE, "what is in use stays");
    }
}
