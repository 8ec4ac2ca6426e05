//! Encoder and decoder of node envelopes.

use std::ops::RangeInclusive;

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    envelope::{EnvelopeError, MAGIC, VERSION},
    foreign::ForeignProtocol,
    limits::{DEFAULT_MAX_MESSAGE_SIZE, ENVELOPE_PREFIX_BYTES, reserve_for},
    retention::Retention,
};

/// One message between two nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Version the sender wrote; within the codec's accepted range when decoded.
    pub version: u16,
    /// Selects the handler, see [`crate::DispatchTable`].
    pub message_type: u16,
    /// The message itself; may be empty.
    pub payload: Bytes,
}

impl Envelope {
    /// Makes an envelope of the version that this crate writes.
    pub fn new(message_type: u16, payload: impl Into<Bytes>) -> Self {
        Self { version: VERSION, message_type, payload: payload.into() }
    }
}

/// Turns envelopes into bytes and back.
///
/// The payload of a decoded envelope is a slice of the read buffer. Memory follows the received
/// bytes, as with [`crate::TwoPartCodec`].
#[derive(Debug, Clone)]
pub struct EnvelopeCodec {
    max_payload_size: usize,
    versions: RangeInclusive<u16>,
    retention: Retention,
}

impl Default for EnvelopeCodec {
    /// Payloads up to 32 MiB, version 1 only.
    fn default() -> Self {
        Self::new(DEFAULT_MAX_MESSAGE_SIZE)
    }
}

impl EnvelopeCodec {
    /// Makes a codec for payloads of at most `max_payload_size` bytes, in both directions.
    pub fn new(max_payload_size: usize) -> Self {
        Self { max_payload_size, versions: VERSION..=VERSION, retention: Retention::default() }
    }

    /// Sets the versions that are accepted, on encode and on decode. Default: only [`VERSION`].
    #[must_use]
    pub fn with_versions(mut self, versions: RangeInclusive<u16>) -> Self {
        self.versions = versions;
        self
    }

    /// Limit of one payload in bytes.
    pub fn max_payload_size(&self) -> usize {
        self.max_payload_size
    }

    /// Appends one envelope to `dst`. On error nothing is written.
    pub fn encode_frame(
        &self,
        envelope: &Envelope,
        dst: &mut BytesMut,
    ) -> Result<(), EnvelopeError> {
        self.check_version(envelope.version)?;
        let size = self.check_size(envelope.payload.len() as u64)?;
        dst.reserve(ENVELOPE_PREFIX_BYTES + envelope.payload.len());
        dst.put_slice(&MAGIC);
        dst.put_u16(envelope.version);
        dst.put_u16(envelope.message_type);
        dst.put_u32(size);
        dst.put_slice(&envelope.payload);
        Ok(())
    }

    /// Takes one envelope from the front of `src`. `None` if it is not complete; then read more.
    ///
    /// On error `src` is unchanged, and the connection has to be closed.
    pub fn decode_frame(&mut self, src: &mut BytesMut) -> Result<Option<Envelope>, EnvelopeError> {
        let Some((message_type, version, size)) = self.parse_prefix(src)? else {
            reserve_for(src, ENVELOPE_PREFIX_BYTES - src.len());
            return Ok(None);
        };
        let frame_len = ENVELOPE_PREFIX_BYTES + size;
        if src.len() < frame_len {
            reserve_for(src, frame_len - src.len());
            return Ok(None);
        }
        let payload = src.split_to(frame_len).freeze().split_off(ENVELOPE_PREFIX_BYTES);
        self.retention.after_frame(src, frame_len);
        Ok(Some(Envelope { version, message_type, payload }))
    }

    /// Like [`Self::decode_frame`] after the stream has ended: an unfinished envelope is
    /// [`EnvelopeError::Truncated`], an empty buffer is `None`.
    pub fn decode_frame_at_end(
        &mut self,
        src: &mut BytesMut,
    ) -> Result<Option<Envelope>, EnvelopeError> {
        match self.decode_frame(src)? {
            None if src.is_empty() => Ok(None),
            None => Err(EnvelopeError::Truncated { received: src.len() }),
            envelope => Ok(envelope),
        }
    }

    /// Message type, version and payload size. Each field is checked as soon as it has arrived.
    fn parse_prefix(&self, bytes: &[u8]) -> Result<Option<(u16, u16, usize)>, EnvelopeError> {
        let Some(found) = bytes.first_chunk::<4>() else { return Ok(None) };
        if *found != MAGIC {
            let looks_like = ForeignProtocol::recognise(found);
            return Err(EnvelopeError::BadMagic { found: *found, looks_like });
        }
        let Some(version) = bytes[4..].first_chunk::<2>() else { return Ok(None) };
        let version = u16::from_be_bytes(*version);
        self.check_version(version)?;
        let Some([t0, t1, s0, s1, s2, s3]) = bytes[6..].first_chunk::<6>() else {
            return Ok(None);
        };
        let size = self.check_size(u64::from(u32::from_be_bytes([*s0, *s1, *s2, *s3])))?;
        // `check_size` held it against a `usize` limit, so it fits.
        Ok(Some((u16::from_be_bytes([*t0, *t1]), version, size as usize)))
    }

    fn check_version(&self, found: u16) -> Result<(), EnvelopeError> {
        if self.versions.contains(&found) {
            return Ok(());
        }
        Err(EnvelopeError::UnsupportedVersion { found, accepted: self.versions.clone() })
    }

    /// The size as its field holds it, when the limit and the field allow it.
    fn check_size(&self, size: u64) -> Result<u32, EnvelopeError> {
        // Room for the prefix is subtracted so that the frame length cannot overflow on 32 bits.
        let limit = self.max_payload_size.min(usize::MAX - ENVELOPE_PREFIX_BYTES);
        match u32::try_from(size) {
            Ok(field) if size <= limit as u64 => Ok(field),
            _ => Err(EnvelopeError::TooLarge { size, limit }),
        }
    }
}

#[cfg(feature = "tokio")]
impl tokio_util::codec::Encoder<Envelope> for EnvelopeCodec {
    type Error = EnvelopeError;

    fn encode(&mut self, envelope: Envelope, dst: &mut BytesMut) -> Result<(), EnvelopeError> {
        self.encode_frame(&envelope, dst)
    }
}

#[cfg(feature = "tokio")]
impl tokio_util::codec::Decoder for EnvelopeCodec {
    type Item = Envelope;
    type Error = EnvelopeError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Envelope>, EnvelopeError> {
        self.decode_frame(src)
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<Envelope>, EnvelopeError> {
        self.decode_frame_at_end(src)
    }
}
