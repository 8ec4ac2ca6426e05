//! Splits the bytes read into whole frames.

use bytes::{Buf, Bytes, BytesMut};

use super::{Inbound, Phase};
use crate::{
    ConnectionError,
    frame::{self, CHECK_BYTES, FRAME_HEADER_BYTES, FrameHeader, PREFACE},
    hello::MAX_HELLO_BYTES,
    message::{MAX_ENDPOINT_BYTES, OPEN_HEAD_BYTES},
    outbox::CHUNK_BYTES,
};

/// Longest frame payload that is taken: an open with the largest header block and a whole chunk
/// of body.
const MAX_FRAME_BYTES: usize = OPEN_HEAD_BYTES + MAX_ENDPOINT_BYTES + (64 << 10) + CHUNK_BYTES;

/// Reads up to this many bytes are copied out of the read buffer, so that an item which waits
/// for its consumer does not hold a buffer that is far larger than itself.
const COPY_OUT_BYTES: usize = 16 << 10;

impl Inbound {
    /// Takes all whole frames from the front of `buffer`. False if there is none yet; then read
    /// more.
    ///
    /// # Errors
    /// The bytes are not this protocol, or a frame is over the limit.
    pub fn ingest(&mut self, buffer: &mut BytesMut) -> Result<bool, ConnectionError> {
        debug_assert!(self.at == self.frames.len(), "events are taken before more is read");
        if self.phase == Phase::Preface {
            let seen = buffer.len().min(PREFACE.len());
            if buffer[..seen] != PREFACE[..seen] {
                return Err(ConnectionError::NotSinew);
            }
            if seen < PREFACE.len() {
                return Ok(false);
            }
            buffer.advance(PREFACE.len());
            self.phase = Phase::Hello;
        }
        self.started = None;
        let inside = self.take_chunk(buffer);
        if self.has_whole() {
            return Ok(true);
        }
        if inside {
            return Ok(false);
        }
        let whole = match self.whole_frames(buffer) {
            Ok(whole) => whole,
            Err(error) => {
                self.faulty = FrameHeader::read(buffer).map(|header| header.stream);
                return Err(error);
            }
        };
        if whole == 0 {
            return Ok(self.take_partial_frame(buffer));
        }
        self.at = 0;
        self.frames = if whole <= COPY_OUT_BYTES {
            let frames = Bytes::copy_from_slice(&buffer[..whole]);
            buffer.advance(whole);
            frames
        } else {
            buffer.split_to(whole).freeze()
        };
        Ok(true)
    }

    /// How many bytes of whole frames stand at the front.
    fn whole_frames(&self, buffer: &[u8]) -> Result<usize, ConnectionError> {
        let (limit, check) = match self.phase {
            Phase::Streams => (MAX_FRAME_BYTES, if self.integrity { CHECK_BYTES } else { 0 }),
            // Whether checks follow is decided by the hello, so it is looked at alone.
            Phase::Preface | Phase::Hello => (MAX_HELLO_BYTES, 0),
        };
        let mut end = 0;
        while let Some(header) = FrameHeader::read(&buffer[end..]) {
            if header.len > limit {
                // The frames before it count, however they were cut: they are looked at first.
                if end > 0 {
                    break;
                }
                return Err(ConnectionError::FrameTooLarge { bytes: header.len });
            }
            let next = end + FRAME_HEADER_BYTES + header.len + check;
            if next > buffer.len() {
                break;
            }
            end = next;
            if self.phase != Phase::Streams {
                break;
            }
        }
        Ok(end)
    }

    /// Where the frame at the front ends, after a look at its check.
    pub(super) fn end_of(&self, header: FrameHeader) -> Result<usize, ConnectionError> {
        let end = self.at + FRAME_HEADER_BYTES + header.len;
        if !self.integrity {
            return Ok(end);
        }
        let sent = &self.frames[end..end + CHECK_BYTES];
        if self.verify_checks && frame::check_one(&self.frames[self.at..end]) != sent {
            return Err(ConnectionError::Corrupt);
        }
        Ok(end + CHECK_BYTES)
    }
}
