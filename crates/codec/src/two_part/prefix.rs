//! The prefix of 24 bytes of every two-part frame.

use crate::{
    ForeignProtocol,
    limits::TWO_PART_PREFIX_BYTES,
    two_part::{TwoPartCodec, TwoPartError},
};

/// A prefix whose lengths are within the codec's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prefix {
    pub(super) header_len: usize,
    /// Prefix, header and body together.
    pub(super) frame_len: usize,
    pub(super) checksum: u64,
}

impl Prefix {
    /// Reads the prefix at the start of `bytes`. `None` until all of it is there.
    ///
    /// Each length is checked as soon as its own eight bytes have arrived, so that a peer which
    /// sends one short line of another protocol and waits is answered at once. The order of the
    /// checks does not depend on how many bytes there are, hence neither does the verdict.
    pub(super) fn parse(codec: &TwoPartCodec, bytes: &[u8]) -> Result<Option<Self>, TwoPartError> {
        let Some(header_len) = word(bytes, 0) else { return Ok(None) };
        check_header(codec, header_len, bytes)?;
        let Some(body_len) = word(bytes, 8) else { return Ok(None) };
        let frame_len = checked_frame_len(codec, header_len, body_len)?;
        let Some(checksum) = word(bytes, 16) else { return Ok(None) };
        // Both are at most `frame_len`, which fits: no truncation on 32-bit targets.
        let header_len = header_len as usize;
        Ok(Some(Self { header_len, frame_len, checksum }))
    }

    pub(super) fn body_len(&self) -> usize {
        self.frame_len - TWO_PART_PREFIX_BYTES - self.header_len
    }

    pub(super) fn to_bytes(self) -> [u8; TWO_PART_PREFIX_BYTES] {
        let mut bytes = [0; TWO_PART_PREFIX_BYTES];
        bytes[..8].copy_from_slice(&(self.header_len as u64).to_be_bytes());
        bytes[8..16].copy_from_slice(&(self.body_len() as u64).to_be_bytes());
        bytes[16..].copy_from_slice(&self.checksum.to_be_bytes());
        bytes
    }
}

/// The length of a frame with these parts, when both limits allow it.
pub(super) fn allowed_frame_len(
    codec: &TwoPartCodec,
    header: &[u8],
    body: &[u8],
) -> Result<usize, TwoPartError> {
    let header_len = header.len() as u64;
    if header.len() > codec.max_header_size() {
        return Err(TwoPartError::HeaderTooLarge { header_len, limit: codec.max_header_size() });
    }
    checked_frame_len(codec, header_len, body.len() as u64)
}

fn check_header(codec: &TwoPartCodec, header_len: u64, bytes: &[u8]) -> Result<(), TwoPartError> {
    let limit = codec.max_header_size();
    if header_len <= limit as u64 {
        return Ok(());
    }
    Err(match ForeignProtocol::recognise(bytes) {
        Some(looks_like) => TwoPartError::InvalidMessage { looks_like },
        None => TwoPartError::HeaderTooLarge { header_len, limit },
    })
}

fn checked_frame_len(
    codec: &TwoPartCodec,
    header_len: u64,
    body_len: u64,
) -> Result<usize, TwoPartError> {
    let limit = codec.max_message_size();
    let sum = (TWO_PART_PREFIX_BYTES as u64)
        .checked_add(header_len)
        .and_then(|sum| sum.checked_add(body_len))
        .unwrap_or(u64::MAX);
    match usize::try_from(sum) {
        // `usize::MAX` as a limit stands for the overflowed sum as well; no frame is that long.
        Ok(frame_len) if frame_len <= limit && sum != u64::MAX => Ok(frame_len),
        _ => Err(TwoPartError::MessageTooLarge { frame_len: sum, limit }),
    }
}

fn word(bytes: &[u8], offset: usize) -> Option<u64> {
    let word = bytes.get(offset..)?.first_chunk::<8>()?;
    Some(u64::from_be_bytes(*word))
}
