//! Bytes of a program's output to items: a line each, long lines in pieces.

use bytes::{Bytes, BytesMut};

/// Longest item, in bytes. Far below the 32 MiB that a message may have, so that one line of a
/// program neither fills a window for long nor has to be in memory as a whole.
pub(crate) const MAX_ITEM: usize = 64 * 1024;

/// Below this much room a new block is begun. Items share their block, which lives as long as
/// the last of them: a block is nearly full of items before the next one, so what is kept for a
/// slow caller stays near its window.
const MIN_ROOM: usize = 4 * 1024;

/// Cuts bytes behind each newline, and lines over [`MAX_ITEM`] at that size. The items put
/// together are the bytes that went in.
#[derive(Default)]
pub(crate) struct Lines {
    buffer: BytesMut,
    /// How much of the buffer is known to hold no newline.
    scanned: usize,
}

impl Lines {
    /// Where to read more bytes to; there is always room.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        if self.buffer.capacity() - self.buffer.len() < MIN_ROOM {
            self.buffer.reserve(MAX_ITEM);
        }
        &mut self.buffer
    }

    /// The next whole line with its newline, or the next piece of a long one.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        let within = self.buffer.len().min(MAX_ITEM);
        let newline = self.buffer[self.scanned..within].iter().position(|byte| *byte == b'\n');
        let end = match newline {
            Some(at) => self.scanned + at + 1,
            None if within == MAX_ITEM => MAX_ITEM,
            None => {
                self.scanned = within;
                return None;
            }
        };
        self.scanned = 0;
        Some(self.buffer.split_to(end).freeze())
    }

    /// What stands behind the last newline, once no more bytes come. Only when
    /// [`next`](Self::next) has nothing.
    pub(crate) fn rest(&mut self) -> Option<Bytes> {
        self.scanned = 0;
        (!self.buffer.is_empty()).then(|| self.buffer.split().freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `input` in pieces of `step` bytes.
    fn cut(input: &[u8], step: usize) -> Vec<Bytes> {
        let mut lines = Lines::default();
        let mut items = Vec::new();
        for piece in input.chunks(step) {
            lines.buffer().extend_from_slice(piece);
            items.extend(std::iter::from_fn(|| lines.next()));
        }
        items.extend(lines.rest());
        items
    }

    #[test]
    fn each_line_is_an_item_with_its_newline() {
        for step in [1, 2, 3, 100] {
            assert_eq!(cut(b"one\n\ntwo\nlast", step), ["one\n", "\n", "two\n", "last"]);
            assert_eq!(cut(b"one\n", step), ["one\n"]);
            assert!(cut(b"", step).is_empty());
        }
    }

    #[test]
    fn long_lines_come_in_pieces_and_nothing_is_lost() {
        for length in [MAX_ITEM - 1, MAX_ITEM, MAX_ITEM + 1, 3 * MAX_ITEM, 3 * MAX_ITEM + 7] {
            let mut input = vec![b'x'; length - 1];
            input.push(b'\n');
            input.extend_from_slice(b"tail");
            for step in [1000, MAX_ITEM, usize::MAX] {
                let items = cut(&input, step);
                assert_eq!(items.concat(), input, "{length} by {step}");
                assert_eq!(items.len(), length.div_ceil(MAX_ITEM) + 1, "{length} by {step}");
                assert!(items.iter().all(|item| item.len() <= MAX_ITEM));
            }
        }
    }

    #[test]
    fn small_items_share_their_block() {
        let mut lines = Lines::default();
        let mut kept = Vec::new();
        let mut blocks = 0;
        let mut last_end = std::ptr::null();
        for _ in 0..10_000 {
            lines.buffer().extend_from_slice(b"0123456\n");
            let item = lines.next().unwrap();
            blocks += usize::from(item.as_ptr() != last_end);
            last_end = item.as_ptr().wrapping_add(item.len());
            kept.push(item);
        }
        // 80,000 bytes in blocks that hold some 60,000 each.
        assert!(blocks <= 3, "{blocks} blocks");
    }
}
