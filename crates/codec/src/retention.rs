//! Prevents small messages from keeping large read buffers alive.
//!
//! A decoded part shares the read buffer's allocation. That makes decoding free of copies, and it
//! means that one live part keeps the whole allocation alive.

use bytes::{Bytes, BytesMut};

/// Frames above this size leave an allocation behind that is not worth keeping: 256 KiB, four read
/// steps.
const LARGE_FRAME_BYTES: usize = 256 * 1024;

/// Remembers that the read buffer has grown for a large frame, and replaces it when that is cheap.
///
/// `BytesMut::reserve` reuses an allocation once it is the only owner, so without this a connection
/// that carried one 32 MiB frame would hold 32 MiB until it closes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Retention {
    grown: bool,
}

impl Retention {
    /// Notes that a frame of `frame_bytes` has just been split off `buffer`, and swaps the buffer
    /// for one of the size of what is left in it.
    pub(crate) fn after_frame(&mut self, buffer: &mut BytesMut, frame_bytes: usize) {
        self.grown |= frame_bytes > LARGE_FRAME_BYTES;
        // What remains is copied, so wait until it is small: at most one such copy per large frame.
        if self.grown && buffer.len() <= LARGE_FRAME_BYTES {
            *buffer = BytesMut::from(&buffer[..]);
            self.grown = false;
        }
    }
}

/// Copies `part` if it is smaller than a quarter of the chunk in which it was read; otherwise
/// returns it unchanged.
///
/// For parts that are kept for long (a queued request, a retained item): otherwise a 20-byte part
/// would keep, for example, a chunk of 256 KiB. Parts that are used and dropped at once need no
/// copy, so the decoder leaves this to its caller.
pub fn detach_if_small(part: Bytes, chunk_bytes: usize) -> Bytes {
    if part.len() < chunk_bytes / 4 { Bytes::copy_from_slice(&part) } else { part }
}

#[cfg(test)]
mod tests {
    use super::*;

    // B-A19
    #[test]
    fn small_slices_leave_the_chunk_and_large_ones_stay() {
        let chunk = Bytes::from(vec![7u8; 1000]);
        let small = detach_if_small(chunk.slice(10..259), chunk.len());
        assert_eq!(&small[..], &chunk[10..259]);
        assert!(!chunk.as_ptr_range().contains(&small.as_ptr()), "copied out");
        let large = detach_if_small(chunk.slice(10..260), chunk.len());
        assert!(chunk.as_ptr_range().contains(&large.as_ptr()), "shared");
    }
}
