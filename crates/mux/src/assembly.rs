//! One large message put together from its chunks.

use bytes::{BufMut, Bytes, BytesMut, buf::Limit};

use crate::{StreamViolation, pool::Pool};

/// How much more than received is reserved: memory follows what arrived, not what was claimed.
/// With a factor of 8 a 1 MiB message, whose first chunk is 64 KiB, moved once more while it
/// arrived, which cost a fifth of the throughput (sinew-bench --workload large).
const GROWTH: usize = 16;

/// Room for what follows a chunk, so that one read takes in the rest of a chunk and the header of
/// the next frame, or a terminal: those are moved out of the message again.
const SURPLUS_BYTES: usize = 128;

/// A message that arrives in chunks.
#[derive(Debug)]
pub(crate) struct Assembly {
    buffer: BytesMut,
    total: usize,
}

impl Assembly {
    /// Begins a message of `total` bytes with its first chunk, which must be shorter.
    pub(crate) fn begin(
        total: usize,
        first: &[u8],
        pool: &mut Pool,
    ) -> Result<Self, StreamViolation> {
        if first.len() >= total {
            return Err(StreamViolation("a message in chunks must be longer than its first chunk"));
        }
        let mut assembly = Self { buffer: BytesMut::new(), total };
        assembly.append(first, pool);
        Ok(assembly)
    }

    /// Adds a chunk; the whole message once it is complete.
    pub(crate) fn push(
        &mut self,
        chunk: &[u8],
        pool: &mut Pool,
    ) -> Result<Option<Bytes>, StreamViolation> {
        if chunk.is_empty() {
            return Err(StreamViolation("an empty chunk"));
        }
        if chunk.len() > self.missing() {
            return Err(StreamViolation("a chunk beyond the end of its message"));
        }
        self.append(chunk, pool);
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
    pub(crate) fn append(&mut self, piece: &[u8], pool: &mut Pool) {
        if !piece.is_empty() {
            self.reserve(piece.len(), self.buffer.len() + piece.len(), pool);
            self.buffer.extend_from_slice(piece);
        }
    }

    /// Where the `rest` bytes of a chunk go that are still to come, with some room behind them.
    pub(crate) fn room(&mut self, rest: usize, pool: &mut Pool) -> Limit<&mut BytesMut> {
        self.reserve(rest, self.buffer.len(), pool);
        (&mut self.buffer).limit(rest + SURPLUS_BYTES)
    }

    /// Moves the last `bytes` bytes, which were put into the room and are no part of the message,
    /// to the end of `behind`.
    pub(crate) fn move_surplus(&mut self, bytes: usize, behind: &mut BytesMut) {
        let end = self.buffer.len() - bytes;
        behind.extend_from_slice(&self.buffer[end..]);
        self.buffer.truncate(end);
    }

    /// The whole message, if all of it is there.
    pub(crate) fn finish(&mut self) -> Option<Bytes> {
        let whole = self.buffer.len() == self.total;
        whole.then(|| std::mem::take(&mut self.buffer).freeze())
    }

    /// Makes room for `bytes` more, of which so many are there as make `arrived` in all.
    fn reserve(&mut self, bytes: usize, arrived: usize, pool: &mut Pool) {
        let needed = self.buffer.len() + bytes;
        if needed + SURPLUS_BYTES <= self.buffer.capacity() {
            return;
        }
        let wanted =
            |seen: usize| needed.max(self.total.min(seen.saturating_mul(GROWTH))) + SURPLUS_BYTES;
        // What is kept anyway may be used without having arrived.
        let reused = pool.reuse(self.total + SURPLUS_BYTES).or_else(|| pool.reuse(wanted(needed)));
        let mut larger = reused.unwrap_or_else(|| pool.allocate(wanted(arrived)));
        larger.extend_from_slice(&self.buffer);
        self.buffer = larger;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_make_the_message() {
        let pool = &mut Pool::default();
        let mut assembly = Assembly::begin(7, b"abc", pool).unwrap();
        assert_eq!(assembly.push(b"de", pool).unwrap(), None);
        assert_eq!(assembly.push(b"fg", pool).unwrap().unwrap(), "abcdefg");
    }

    #[test]
    fn pieces_that_go_into_the_room_make_it_too() {
        let pool = &mut Pool::default();
        let mut assembly = Assembly::begin(7, b"", pool).unwrap();
        assembly.room(5, pool).put_slice(b"abc");
        assembly.room(2, pool).put_slice(b"debehind");
        let mut behind = BytesMut::from("before ");
        assembly.move_surplus(6, &mut behind);
        assert_eq!(behind, "before behind");
        assert_eq!((assembly.missing(), assembly.finish()), (2, None));
        assembly.append(b"fg", pool);
        assert_eq!(assembly.finish().unwrap(), "abcdefg");
    }

    #[test]
    fn broken_sequences_are_told() {
        let pool = &mut Pool::default();
        assert!(Assembly::begin(3, b"abc", pool).is_err());
        let mut assembly = Assembly::begin(5, b"abc", pool).unwrap();
        assert!(assembly.push(b"", pool).is_err());
        assert!(assembly.push(b"def", pool).is_err());
    }

    #[test]
    fn memory_follows_what_arrived() {
        let pool = &mut Pool::default();
        let mut assembly = Assembly::begin(1 << 30, &[0; 1024], pool).unwrap();
        assert!(assembly.buffer.capacity() <= 1024 * GROWTH * 2);
        assembly.room(64 << 10, pool);
        assert!(
            assembly.buffer.capacity() <= (65 << 10) * 2,
            "what is announced once, not 16 times"
        );
    }

    #[test]
    fn a_message_is_not_moved_while_it_arrives() {
        let pool = &mut Pool::default();
        let mut assembly = Assembly::begin(1 << 20, &[0; 64 << 10], pool).unwrap();
        let at = assembly.buffer.as_ptr();
        while assembly.missing() > 0 {
            assembly.append(&[0; 64 << 10], pool);
        }
        let message = assembly.finish().unwrap();
        assert_eq!(message.as_ptr(), at);
        drop(message);
        let mut next = Assembly::begin(1 << 20, b"first", pool).unwrap();
        next.room(64 << 10, pool);
        assert_eq!(next.buffer.as_ptr(), at, "and its memory is used again");
    }
}
