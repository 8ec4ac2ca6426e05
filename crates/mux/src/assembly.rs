//! One large message put together from its chunks.

use bytes::{Bytes, BytesMut};

use crate::StreamViolation;

/// How much more than received is reserved: memory follows what arrived, not what was claimed, and
/// a 1 MiB message, whose first chunk is 64 KiB, is not moved while it arrives. With a factor of 8
/// it moved once, which cost a fifth of the throughput (sinew-bench --workload large).
const GROWTH: usize = 16;

/// A message that arrives in chunks.
#[derive(Debug)]
pub(crate) struct Assembly {
    buffer: BytesMut,
    total: usize,
}

impl Assembly {
    /// Begins a message of `total` bytes with its first chunk, which must be shorter.
    pub(crate) fn begin(total: usize, first: &[u8]) -> Result<Self, StreamViolation> {
        if first.len() >= total {
            return Err(StreamViolation("a message in chunks must be longer than its first chunk"));
        }
        let mut assembly = Self { buffer: BytesMut::new(), total };
        assembly.append(first);
        Ok(assembly)
    }

    /// Adds a chunk; the whole message once it is complete.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Result<Option<Bytes>, StreamViolation> {
        if chunk.is_empty() {
            return Err(StreamViolation("an empty chunk"));
        }
        if chunk.len() > self.total - self.buffer.len() {
            return Err(StreamViolation("a chunk beyond the end of its message"));
        }
        self.append(chunk);
        let complete = self.buffer.len() == self.total;
        Ok(complete.then(|| std::mem::take(&mut self.buffer).freeze()))
    }

    /// Length of the whole message in bytes.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    fn append(&mut self, chunk: &[u8]) {
        let needed = self.buffer.len() + chunk.len();
        if needed > self.buffer.capacity() {
            let wanted = self.total.min(needed.saturating_mul(GROWTH));
            self.buffer.reserve(wanted - self.buffer.len());
        }
        self.buffer.extend_from_slice(chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_make_the_message() {
        let mut assembly = Assembly::begin(7, b"abc").unwrap();
        assert_eq!(assembly.push(b"de").unwrap(), None);
        assert_eq!(assembly.push(b"fg").unwrap().unwrap(), "abcdefg");
    }

    #[test]
    fn broken_sequences_are_told() {
        assert!(Assembly::begin(3, b"abc").is_err());
        let mut assembly = Assembly::begin(5, b"abc").unwrap();
        assert!(assembly.push(b"").is_err());
        assert!(assembly.push(b"def").is_err());
    }

    #[test]
    fn memory_follows_what_arrived() {
        let assembly = Assembly::begin(1 << 30, &[0; 1024]).unwrap();
        assert!(assembly.buffer.capacity() <= 1024 * GROWTH * 2);
    }
}
