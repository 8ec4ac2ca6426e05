//! Items of one stream that arrived together.

use std::ops::Range;

use bytes::Bytes;
use sinew_plane::{FirstItem, ItemBatch};

use crate::frame::{CHECK_BYTES, FRAME_HEADER_BYTES, FrameHeader};

/// Items of one stream that arrived one after the other, at their place in the read buffer.
#[derive(Debug)]
pub struct Arrived<'a> {
    pub(crate) stream: u32,
    /// Whole item frames of the stream, found in order.
    pub(crate) frames: &'a Bytes,
    pub(crate) range: Range<usize>,
    pub(crate) checked: bool,
    pub(crate) size: RunSize,
}

impl Arrived<'_> {
    /// The stream they belong to.
    pub fn stream(&self) -> u32 {
        self.stream
    }

    /// How many there are, at least one.
    pub fn count(&self) -> u32 {
        self.size.count
    }

    /// Bytes of all items, without their frames.
    pub fn bytes(&self) -> usize {
        self.size.bytes
    }

    /// The items as slices of the read buffer, which they keep alive.
    pub fn to_items(&self) -> Items {
        let range = self.range.clone();
        let content = if self.size.count == 1 {
            let body = range.start + FRAME_HEADER_BYTES;
            Content::One(self.frames.slice(body..body + self.size.bytes))
        } else if self.checked {
            Content::CheckedFrames(self.frames.slice(range))
        } else {
            Content::Frames(self.frames.slice(range))
        };
        Items { content, size: self.size }
    }

    /// Appends the frames without their checks, as [`split_frame`] takes them apart.
    pub(crate) fn copy_to(&self, out: &mut Vec<u8>) {
        let mut frames = &self.frames[self.range.clone()];
        if !self.checked {
            return out.extend_from_slice(frames);
        }
        while let Some(header) = FrameHeader::read(frames) {
            let (frame, rest) = frames.split_at(FRAME_HEADER_BYTES + header.len);
            out.extend_from_slice(frame);
            frames = &rest[CHECK_BYTES..];
        }
    }
}

/// Items of one stream that arrived together, still in their frames. They are split when they are
/// used, see [`ItemBatch`].
#[derive(Debug, Clone)]
pub struct Items {
    content: Content,
    pub(crate) size: RunSize,
}

#[derive(Debug, Clone)]
enum Content {
    One(Bytes),
    Frames(Bytes),
    CheckedFrames(Bytes),
}

impl Items {
    /// One item.
    pub fn one(item: Bytes) -> Self {
        let mut size = RunSize::default();
        size.add(item.len());
        Self { content: Content::One(item), size }
    }

    /// How many there are, at least one.
    pub fn count(&self) -> u32 {
        self.size.count
    }

    /// Bytes of all items, without their frames.
    pub fn bytes(&self) -> usize {
        self.size.bytes
    }

    /// Adds them to a batch.
    pub fn put_into(self, batch: &mut ItemBatch) {
        match self.content {
            Content::One(item) => batch.push(item),
            Content::Frames(frames) => batch.push_run(frames, split_frame),
            Content::CheckedFrames(frames) => batch.push_run(frames, split_checked_frame),
        }
    }
}

impl IntoIterator for Items {
    type Item = Bytes;
    type IntoIter = ItemBatch;

    fn into_iter(self) -> ItemBatch {
        let mut batch = ItemBatch::new();
        self.put_into(&mut batch);
        batch
    }
}

/// What was counted while items were looked at.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RunSize {
    pub(crate) count: u32,
    pub(crate) bytes: usize,
    last_bytes: usize,
}

impl RunSize {
    pub(crate) fn add(&mut self, item_bytes: usize) {
        self.count += 1;
        self.bytes += item_bytes;
        self.last_bytes = item_bytes;
    }

    pub(crate) fn bytes_before_last(self) -> usize {
        self.bytes - self.last_bytes
    }
}

/// Finds the item in the first frame.
#[inline]
pub(crate) fn split_frame(frames: &[u8]) -> FirstItem {
    // Only whole frames were put there, so the default is never taken.
    let Some(header) = FrameHeader::read(frames) else { return FirstItem::whole(frames.len()) };
    let end = FRAME_HEADER_BYTES + header.len;
    FirstItem { start: FRAME_HEADER_BYTES, end, next: end }
}

#[inline]
fn split_checked_frame(frames: &[u8]) -> FirstItem {
    let first = split_frame(frames);
    FirstItem { next: first.next + CHECK_BYTES, ..first }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Outbox, frame::Kind};

    /// The items as they arrive, and what is read of them.
    fn arrive<T>(items: &[&'static str], checked: bool, read: impl FnOnce(&Arrived<'_>) -> T) -> T {
        let mut outbox = Outbox::default();
        outbox.set_integrity(checked);
        let mut size = RunSize::default();
        for item in items {
            outbox.payload(Kind::Item, 1, b"", &Bytes::from_static(item.as_bytes()));
            size.add(item.len());
        }
        let frames: Vec<u8> = outbox.take_batch().parts().flatten().copied().collect();
        let range = 0..frames.len();
        read(&Arrived { stream: 1, frames: &frames.into(), range, checked, size })
    }

    #[test]
    fn frames_are_taken_apart_with_and_without_checks() {
        for checked in [false, true] {
            for sent in [&["", "ab", "", "cde"][..], &["ab"], &[""]] {
                let items = arrive(sent, checked, |arrived| arrived.to_items());
                assert_eq!(items.count() as usize, sent.len());
                assert_eq!(items.bytes(), sent.concat().len());
                assert_eq!(items.into_iter().collect::<Vec<_>>(), sent);
            }
        }
    }

    #[test]
    fn copies_are_taken_apart_alike() {
        let mut frames = Vec::new();
        arrive(&["a", ""], false, |arrived| arrived.copy_to(&mut frames));
        arrive(&["", "bc"], true, |arrived| arrived.copy_to(&mut frames));
        arrive(&["d"], true, |arrived| arrived.copy_to(&mut frames));
        let mut batch = ItemBatch::new();
        batch.push_run(frames.into(), split_frame);
        assert_eq!(batch.collect::<Vec<_>>(), ["a", "", "", "bc", "d"]);
    }

    #[test]
    fn what_is_charged_before_the_last_leaves_it_out() {
        let size = arrive(&["ab", "cde"], false, |arrived| arrived.size);
        assert_eq!((size.bytes, size.bytes_before_last()), (5, 2));
    }
}
