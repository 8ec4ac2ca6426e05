//! One large message put together from its chunks.

use bytes::{BufMut, Bytes, BytesMut, buf::Limit};
use sinew_plane::budget::{BudgetUse, Hold, Work};

use crate::{StreamViolation, buffer_pool::BufferPool};

/// How much more than received is reserved: memory follows what arrived, not what was claimed.
/// With a factor of 8 a 1 MiB message, whose first chunk is 64 KiB, moved once more while it
/// arrived, which cost a fifth of the throughput (sinew-bench --workload large).
const GROWTH: usize = 16;

/// Room for what follows a chunk, so that one read takes in the rest of a chunk and the header of
/// the next frame, or a terminal: those are moved out of the message again.
const SURPLUS_BYTES: usize = 128;

/// What a message is, which decides how its memory is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The body of a request, for which nothing has run yet.
    Body,
    /// An item of a response.
    Item,
}

impl Purpose {
    fn charge(self) -> (BudgetUse, Work) {
        match self {
            Self::Body => (BudgetUse::Bodies, Work::New),
            Self::Item => (BudgetUse::Queued, Work::Running),
        }
    }
}

/// The memory budget has no room for more of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoRoom;

/// Why a chunk was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    Violation(StreamViolation),
    NoRoom,
}

impl From<StreamViolation> for NotTaken {
    fn from(violation: StreamViolation) -> Self {
        Self::Violation(violation)
    }
}

impl From<NoRoom> for NotTaken {
    fn from(NoRoom: NoRoom) -> Self {
        Self::NoRoom
    }
}

/// A message that arrives in chunks.
#[derive(Debug)]
pub(crate) struct Assembly {
    buffer: BytesMut,
    total: usize,
    purpose: Purpose,
    /// What the buffer is charged with.
    hold: Option<Hold>,
}

/// A whole message, and what its memory is charged with.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) bytes: Bytes,
    pub(crate) hold: Option<Hold>,
}

impl Whole {
    /// The message, charged for as long as anybody holds a byte of it.
    pub(crate) fn charged(self) -> Bytes {
        match self.hold {
            Some(mut hold) => {
                hold.shrink_to(self.bytes.len());
                hold.cover(self.bytes)
            }
            None => self.bytes,
        }
    }
}

impl Assembly {
    /// Begins a message of `total` bytes with its first chunk, which must be shorter.
    pub(crate) fn begin(
        total: usize,
        first: &[u8],
        purpose: Purpose,
        pool: &mut BufferPool,
    ) -> Result<Self, NotTaken> {
        if first.len() >= total {
            let violation = "a message in chunks must be longer than its first chunk";
            return Err(StreamViolation(violation).into());
        }
        let mut assembly = Self { buffer: BytesMut::new(), total, purpose, hold: None };
        assembly.append(first, pool)?;
        Ok(assembly)
    }

    /// Adds a chunk; the whole message once it is complete.
    pub(crate) fn push(
        &mut self,
        chunk: &[u8],
        pool: &mut BufferPool,
    ) -> Result<Option<Whole>, NotTaken> {
        if chunk.is_empty() {
            return Err(StreamViolation("an empty chunk").into());
        }
        if chunk.len() > self.missing() {
            return Err(StreamViolation("a chunk beyond the end of its message").into());
        }
        self.append(chunk, pool)?;
        Ok(self.finish())
    }

    /// Length of the whole message in bytes.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Bytes that have not arrived.
    pub(crate) fn missing(&self) -> usize {
        self.total.saturating_sub(self.buffer.len())
    }

    /// Adds a piece of a chunk, which must not be longer than what is missing.
    pub(crate) fn append(&mut self, piece: &[u8], pool: &mut BufferPool) -> Result<(), NoRoom> {
        if !piece.is_empty() {
            self.reserve(piece.len(), self.buffer.len() + piece.len(), pool)?;
            self.buffer.extend_from_slice(piece);
        }
        Ok(())
    }

    /// Where the `rest` bytes of a chunk go that are still to come, with some room behind them.
    pub(crate) fn room(
        &mut self,
        rest: usize,
        pool: &mut BufferPool,
    ) -> Result<Limit<&mut BytesMut>, NoRoom> {
        self.reserve(rest, self.buffer.len(), pool)?;
        Ok((&mut self.buffer).limit(rest + SURPLUS_BYTES))
    }

    /// Moves the last `bytes` bytes, which were put into the room and are no part of the message,
    /// to the end of `behind`.
    pub(crate) fn move_surplus(&mut self, bytes: usize, behind: &mut BytesMut) {
        let end = self.buffer.len() - bytes;
        behind.extend_from_slice(&self.buffer[end..]);
        self.buffer.truncate(end);
    }

    /// The whole message, if all of it is there.
    pub(crate) fn finish(&mut self) -> Option<Whole> {
        let whole = self.buffer.len() == self.total;
        whole.then(|| {
            let bytes = std::mem::take(&mut self.buffer).freeze();
            Whole { bytes, hold: self.hold.take() }
        })
    }

    /// Makes room for `bytes` more, of which so many are there as make `arrived` in all.
    fn reserve(
        &mut self,
        bytes: usize,
        arrived: usize,
        pool: &mut BufferPool,
    ) -> Result<(), NoRoom> {
        let needed = self.buffer.len() + bytes;
        if needed + SURPLUS_BYTES <= self.buffer.capacity() {
            return Ok(());
        }
        let wanted =
            |seen: usize| needed.max(self.total.min(seen.saturating_mul(GROWTH))) + SURPLUS_BYTES;
        // What is kept anyway may be used without having arrived.
        let reused = pool.reuse(self.total + SURPLUS_BYTES).or_else(|| pool.reuse(wanted(needed)));
        let size = reused.as_ref().map_or_else(|| wanted(arrived), BytesMut::capacity);
        // Before it is asked for. The smaller buffer, which goes at once, is not charged beside it.
        let (what, work) = self.purpose.charge();
        pool.charge(&mut self.hold, size, what, work)?;
        let mut larger = reused.unwrap_or_else(|| pool.allocate(size));
        larger.extend_from_slice(&self.buffer);
        self.buffer = larger;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sinew_plane::budget::{Budget, MIN_BUDGET_BYTES};

    use super::*;

    #[test]
    fn chunks_make_the_message() {
        let pool = &mut BufferPool::default();
        let mut assembly = Assembly::begin(7, b"abc", Purpose::Body, pool).unwrap();
        assert!(assembly.push(b"de", pool).unwrap().is_none());
        assert_eq!(assembly.push(b"fg", pool).unwrap().unwrap().bytes, "abcdefg");
    }

    #[test]
    fn pieces_that_go_into_the_room_make_it_too() {
        let pool = &mut BufferPool::default();
        let mut assembly = Assembly::begin(7, b"", Purpose::Body, pool).unwrap();
        assembly.room(5, pool).unwrap().put_slice(b"abc");
        assembly.room(2, pool).unwrap().put_slice(b"debehind");
        let mut behind = BytesMut::from("before ");
        assembly.move_surplus(6, &mut behind);
        assert_eq!(behind, "before behind");
        assert_eq!((assembly.missing(), assembly.finish().is_none()), (2, true));
        assembly.append(b"fg", pool).unwrap();
        assert_eq!(assembly.finish().unwrap().bytes, "abcdefg");
    }

    #[test]
    fn broken_sequences_are_told() {
        let pool = &mut BufferPool::default();
        assert!(Assembly::begin(3, b"abc", Purpose::Body, pool).is_err());
        let mut assembly = Assembly::begin(5, b"abc", Purpose::Body, pool).unwrap();
        assert!(assembly.push(b"", pool).is_err());
        assert!(assembly.push(b"def", pool).is_err());
    }

    #[test]
    fn memory_follows_what_arrived() {
        let pool = &mut BufferPool::default();
        let mut assembly = Assembly::begin(1 << 30, &[0; 1024], Purpose::Body, pool).unwrap();
        assert!(assembly.buffer.capacity() <= 1024 * GROWTH * 2);
        assembly.room(64 << 10, pool).unwrap();
        assert!(
            assembly.buffer.capacity() <= (65 << 10) * 2,
            "what is announced once, not 16 times"
        );
    }

    #[test]
    fn a_message_is_not_moved_while_it_arrives() {
        let pool = &mut BufferPool::default();
        let mut assembly = Assembly::begin(1 << 20, &[0; 64 << 10], Purpose::Body, pool).unwrap();
        let at = assembly.buffer.as_ptr();
        while assembly.missing() > 0 {
            assembly.append(&[0; 64 << 10], pool).unwrap();
        }
        let message = assembly.finish().unwrap().bytes;
        assert_eq!(message.as_ptr(), at);
        drop(message);
        let mut next = Assembly::begin(1 << 20, b"first", Purpose::Body, pool).unwrap();
        next.room(64 << 10, pool).unwrap();
        assert_eq!(next.buffer.as_ptr(), at, "and its memory is used again");
    }

    #[test]
    fn what_the_budget_has_no_room_for_is_not_taken() {
        let budget = Budget::new(MIN_BUDGET_BYTES);
        let pool = &mut BufferPool::new(Some(budget.open()));
        let share = budget.share();
        let mut large = Assembly::begin(share, &[0; 1024], Purpose::Body, pool).unwrap();
        assert!(budget.used(BudgetUse::Bodies) < 32 << 10, "not what was announced");
        let mut piece = || large.append(&[0; 64 << 10], pool);
        assert_eq!((0..share >> 16).find_map(|_| piece().err()), Some(NoRoom), "by 128 bytes");
        drop(large);
        assert_eq!(budget.total(), budget.used(BudgetUse::Buffers));

        let total = share / 2;
        let mut body = Assembly::begin(total, b"x", Purpose::Body, pool).unwrap();
        let rest = vec![0; total - 1];
        let whole = body.push(&rest, pool).unwrap().unwrap().charged();
        assert_eq!(budget.used(BudgetUse::Bodies), total);
        let part = whole.slice(7..9);
        drop((body, whole));
        assert_eq!(budget.used(BudgetUse::Bodies), total, "somebody holds some of it");
        drop(part);
        assert_eq!(budget.used(BudgetUse::Bodies), 0);
    }
}
