//! Frames: length and stream, 32 bits each, a kind, then the payload.

use anyhow::{Result, bail};
use bytes::{Buf, Bytes, BytesMut};

pub(super) const HEADER_BYTES: usize = 9;

/// Room for one read; as much as Sinew offers, so that both make as many system calls.
pub(super) const READ_BYTES: usize = 96 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A request.
    Open,
    /// An item of a response.
    Item,
    /// The last item of a response.
    Last,
    /// The end of a response, without an item.
    End,
}

pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) stream: u32,
    pub(super) payload: Bytes,
}

pub(super) fn header(kind: Kind, stream: u32, payload_bytes: usize) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    // Bodies here are at most 1 MiB.
    header[..4].copy_from_slice(&(payload_bytes as u32).to_le_bytes());
    header[4..8].copy_from_slice(&stream.to_le_bytes());
    header[8] = kind as u8;
    header
}

/// Takes the next whole frame off the buffer, or makes room for the rest of it.
pub(super) fn next(buffer: &mut BytesMut) -> Result<Option<Frame>> {
    let Some((header, rest)) = buffer.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let [a, b, c, d, e, f, g, h, kind] = *header;
    let payload_bytes = u32::from_le_bytes([a, b, c, d]) as usize;
    if rest.len() < payload_bytes {
        buffer.reserve(HEADER_BYTES + payload_bytes - buffer.len());
        return Ok(None);
    }
    let kind = match kind {
        0 => Kind::Open,
        1 => Kind::Item,
        2 => Kind::Last,
        3 => Kind::End,
        other => bail!("a frame of kind {other}"),
    };
    buffer.advance(HEADER_BYTES);
    let payload = buffer.split_to(payload_bytes).freeze();
    Ok(Some(Frame { kind, stream: u32::from_le_bytes([e, f, g, h]), payload }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole() {
        let mut wire = BytesMut::new();
        wire.extend_from_slice(&header(Kind::Last, 7, 3));
        wire.extend_from_slice(b"ab");
        assert!(next(&mut wire).unwrap().is_none());
        wire.extend_from_slice(b"c");
        wire.extend_from_slice(&header(Kind::End, 8, 0)[..4]);
        let frame = next(&mut wire).unwrap().unwrap();
        assert_eq!((frame.kind, frame.stream, &frame.payload[..]), (Kind::Last, 7, &b"abc"[..]));
        assert!(next(&mut wire).unwrap().is_none());
        assert_eq!(wire.len(), 4);
    }
}
