//! Batches of bytes that a driver writes to a socket.

use std::{collections::VecDeque, io::IoSlice};

use bytes::Bytes;

/// A piece of a [`Batch`].
#[derive(Debug)]
pub enum Part {
    /// Frames gathered in a buffer that is used again after the write.
    Buffer(Vec<u8>),
    /// A large payload, which is not copied.
    Body(Bytes),
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Buffer(buffer) => buffer,
            Self::Body(body) => body,
        }
    }
}

/// The bytes to be written next, in order, in as few pieces as possible.
#[derive(Debug, Default)]
pub struct Batch {
    parts: VecDeque<Part>,
    /// Bytes of the first part that are written already.
    written: usize,
    remaining: usize,
    /// Buffers whose bytes are all written, for reuse.
    pub(crate) spent: Vec<Vec<u8>>,
}

impl Batch {
    pub(crate) fn push(&mut self, part: Part) {
        let len = part.as_ref().len();
        if len > 0 {
            self.remaining += len;
            self.parts.push_back(part);
        }
    }

    /// True if everything was written.
    pub fn is_empty(&self) -> bool {
        self.remaining == 0
    }

    /// How many parts its lists have room for.
    pub(crate) fn lists(&self) -> usize {
        self.parts.capacity().max(self.spent.capacity())
    }

    /// Bytes still to be written.
    pub fn remaining(&self) -> usize {
        self.remaining
    }

    /// The pieces still to be written.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().enumerate().map(|(at, part)| {
            let skip = if at == 0 { self.written } else { 0 };
            &part.as_ref()[skip..]
        })
    }

    /// The rest to be written, if it is one piece.
    pub fn only(&self) -> Option<&[u8]> {
        let [first] = self.parts.as_slices().0 else { return None };
        (self.parts.len() == 1).then(|| &first.as_ref()[self.written..])
    }

    /// Fills `slices` for a vectored write and returns how many it filled.
    pub fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slice, part) in slices.iter_mut().zip(self.parts()) {
            *slice = IoSlice::new(part);
            filled += 1;
        }
        filled
    }

    /// Removes the first `bytes` bytes, which were written.
    pub fn advance(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.remaining, "no more can be written than there was");
        self.remaining = self.remaining.saturating_sub(bytes);
        self.written += bytes;
        while let Some(first) = self.parts.front() {
            let len = first.as_ref().len();
            if self.written < len {
                return;
            }
            self.written -= len;
            if let Some(Part::Buffer(buffer)) = self.parts.pop_front() {
                self.spent.push(buffer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_writes_leave_the_rest() {
        let mut batch = Batch::default();
        batch.push(Part::Buffer(b"abc".to_vec()));
        batch.push(Part::Body(Bytes::new()));
        batch.push(Part::Body(Bytes::from_static(b"defg")));
        let rest = |batch: &Batch| batch.parts().flatten().copied().collect::<Vec<u8>>();
        assert_eq!(rest(&batch), b"abcdefg");
        assert_eq!(batch.only(), None);
        batch.advance(1);
        assert_eq!(rest(&batch), b"bcdefg");
        batch.advance(4);
        assert_eq!(rest(&batch), b"fg");
        assert_eq!(batch.only(), Some(&b"fg"[..]));
        assert_eq!(batch.spent.len(), 1);
        batch.advance(2);
        assert!(batch.is_empty());
        assert_eq!(rest(&batch), b"");
    }
}
