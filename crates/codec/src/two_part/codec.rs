//! Encoder and decoder of two-part frames.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    checksum::{ChecksumMode, checksum_of},
    foreign::ForeignProtocol,
    limits::{
        DEFAULT_MAX_HEADER_SIZE, DEFAULT_MAX_MESSAGE_SIZE, TWO_PART_PREFIX_BYTES, reserve_for,
    },
    retention::Retention,
    two_part::{
        TwoPartError, TwoPartMessage,
        prefix::{Prefix, allowed_frame_len},
    },
};

/// Turns two-part messages into bytes and back; one per connection direction or one for both.
///
/// The decoded parts are slices of the read buffer, not copies. Between calls the codec holds no
/// bytes and no partial frame: everything is in the caller's buffer. Memory: while a frame arrives,
/// the buffer's capacity stays at or under twice the received bytes plus 64 KiB, whatever length
/// was declared; after a frame above 256 KiB the buffer is replaced by one of the size of its rest,
/// so the large allocation is freed when the message is dropped.
///
/// With the feature `tokio` it is an `Encoder<TwoPartMessage>` and a `Decoder` for framed streams.
#[derive(Debug, Clone)]
pub struct TwoPartCodec {
    max_message_size: usize,
    max_header_size: usize,
    checksum: ChecksumMode,
    require_checksum: bool,
    retention: Retention,
}

/// A frame in two pieces for a vectored write: the body is the message's own buffer, not a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedParts {
    /// Prefix and header, to be written first.
    pub head: Bytes,
    /// Body, to be written directly after.
    pub body: Bytes,
}

impl Default for TwoPartCodec {
    /// 32 MiB messages, 64 KiB headers, checksums written and verified, absent ones accepted.
    fn default() -> Self {
        Self {
            max_message_size: DEFAULT_MAX_MESSAGE_SIZE,
            max_header_size: DEFAULT_MAX_HEADER_SIZE,
            checksum: ChecksumMode::default(),
            require_checksum: false,
            retention: Retention::default(),
        }
    }
}

impl TwoPartCodec {
    /// Makes a codec whose frames have at most `max_message_size` bytes, prefix included, in both
    /// directions.
    pub fn new(max_message_size: usize) -> Self {
        Self { max_message_size, ..Self::default() }
    }

    /// Limits the header part, in both directions. Default 64 KiB.
    #[must_use]
    pub fn with_max_header_size(mut self, max_header_size: usize) -> Self {
        self.max_header_size = max_header_size;
        self
    }

    /// Sets whether checksums are written and verified. Default [`ChecksumMode::Verify`].
    #[must_use]
    pub fn with_checksum(mut self, mode: ChecksumMode) -> Self {
        self.checksum = mode;
        self
    }

    /// In mode [`ChecksumMode::Verify`], refuses frames without a checksum. Default `false`: a field
    /// of 0 is accepted, because Dynamo peers always send 0.
    #[must_use]
    pub fn with_required_checksum(mut self, require: bool) -> Self {
        self.require_checksum = require;
        self
    }

    /// Limit of one frame in bytes, prefix included.
    pub fn max_message_size(&self) -> usize {
        self.max_message_size
    }

    /// Limit of the header part in bytes.
    pub fn max_header_size(&self) -> usize {
        self.max_header_size
    }

    /// Whether checksums are written and verified.
    pub fn checksum(&self) -> ChecksumMode {
        self.checksum
    }

    /// Appends one frame to `dst`, copying both parts. On error nothing is written.
    pub fn encode_frame(
        &self,
        message: &TwoPartMessage,
        dst: &mut BytesMut,
    ) -> Result<(), TwoPartError> {
        let prefix = self.prefix_of(&message.header, &message.body)?;
        dst.reserve(prefix.frame_len);
        dst.put_slice(&prefix.to_bytes());
        dst.put_slice(&message.header);
        dst.put_slice(&message.body);
        Ok(())
    }

    /// Encodes one frame without copying the body; only the header is copied, after the prefix.
    pub fn encode_parts(&self, message: TwoPartMessage) -> Result<EncodedParts, TwoPartError> {
        let prefix = self.prefix_of(&message.header, &message.body)?;
        let mut head = BytesMut::with_capacity(TWO_PART_PREFIX_BYTES + message.header.len());
        head.put_slice(&prefix.to_bytes());
        head.put_slice(&message.header);
        Ok(EncodedParts { head: head.freeze(), body: message.body })
    }

    /// The prefix of a frame with these parts, for a caller that has both parts in its own buffers.
    pub fn encode_prefix(
        &self,
        header: &[u8],
        body: &[u8],
    ) -> Result<[u8; TWO_PART_PREFIX_BYTES], TwoPartError> {
        Ok(self.prefix_of(header, body)?.to_bytes())
    }

    /// Encodes one frame as one buffer, for carriers that move whole messages (an HTTP body, a NATS
    /// payload).
    pub fn encode_message(&self, message: &TwoPartMessage) -> Result<Bytes, TwoPartError> {
        let mut bytes = BytesMut::new();
        self.encode_frame(message, &mut bytes)?;
        Ok(bytes.freeze())
    }

    /// Takes one frame from the front of `src`. `None` if the frame is not complete; then read
    /// more.
    ///
    /// On error `src` is unchanged, and the connection has to be closed.
    pub fn decode_frame(
        &mut self,
        src: &mut BytesMut,
    ) -> Result<Option<TwoPartMessage>, TwoPartError> {
        let Some(prefix) = Prefix::parse(self, src)? else {
            reserve_for(src, TWO_PART_PREFIX_BYTES - src.len());
            return Ok(None);
        };
        if src.len() < prefix.frame_len {
            reserve_for(src, prefix.frame_len - src.len());
            return Ok(None);
        }
        self.verify(&prefix, &src[TWO_PART_PREFIX_BYTES..prefix.frame_len])?;
        let frame = src.split_to(prefix.frame_len).freeze();
        self.retention.after_frame(src, prefix.frame_len);
        Ok(Some(split(frame, &prefix)))
    }

    /// Like [`Self::decode_frame`] after the stream has ended: an unfinished frame is
    /// [`TwoPartError::Truncated`], an empty buffer is `None`.
    pub fn decode_frame_at_end(
        &mut self,
        src: &mut BytesMut,
    ) -> Result<Option<TwoPartMessage>, TwoPartError> {
        match self.decode_frame(src)? {
            None if src.is_empty() => Ok(None),
            None => Err(self.truncated(src)),
            frame => Ok(frame),
        }
    }

    /// Decodes a buffer that must hold exactly one frame. The parts are slices of `bytes`.
    pub fn decode_message(&self, bytes: Bytes) -> Result<TwoPartMessage, TwoPartError> {
        let prefix = match Prefix::parse(self, &bytes)? {
            Some(prefix) if bytes.len() >= prefix.frame_len => prefix,
            _ => return Err(self.truncated(&bytes)),
        };
        if bytes.len() > prefix.frame_len {
            return Err(TwoPartError::TrailingBytes { count: bytes.len() - prefix.frame_len });
        }
        self.verify(&prefix, &bytes[TWO_PART_PREFIX_BYTES..])?;
        Ok(split(bytes, &prefix))
    }

    fn prefix_of(&self, header: &[u8], body: &[u8]) -> Result<Prefix, TwoPartError> {
        let frame_len = allowed_frame_len(self, header, body)?;
        let checksum = if self.checksum.writes() { checksum_of(header, body) } else { 0 };
        Ok(Prefix { header_len: header.len(), frame_len, checksum })
    }

    /// `parts` are header and body, which lie next to each other in a received frame.
    fn verify(&self, prefix: &Prefix, parts: &[u8]) -> Result<(), TwoPartError> {
        if self.checksum != ChecksumMode::Verify || (prefix.checksum == 0 && !self.require_checksum)
        {
            return Ok(());
        }
        match (prefix.checksum, checksum_of(parts, &[])) {
            (stated, computed) if stated == computed => Ok(()),
            (0, _) => Err(TwoPartError::ChecksumMissing),
            (stated, computed) => Err(TwoPartError::ChecksumMismatch { stated, computed }),
        }
    }

    /// The error for bytes that end inside a frame.
    fn truncated(&self, bytes: &[u8]) -> TwoPartError {
        match Prefix::parse(self, bytes) {
            Ok(Some(prefix)) => TwoPartError::Truncated {
                received: bytes.len(),
                expected: Some(prefix.frame_len as u64),
            },
            // Too short for the length checks, so a short line such as "PING\r\n" is named here.
            _ => match ForeignProtocol::recognise(bytes) {
                Some(looks_like) => TwoPartError::InvalidMessage { looks_like },
                None => TwoPartError::Truncated { received: bytes.len(), expected: None },
            },
        }
    }
}

fn split(mut frame: Bytes, prefix: &Prefix) -> TwoPartMessage {
    let mut parts = frame.split_off(TWO_PART_PREFIX_BYTES);
    let header = parts.split_to(prefix.header_len);
    TwoPartMessage { header, body: parts }
}

#[cfg(feature = "tokio")]
impl tokio_util::codec::Encoder<TwoPartMessage> for TwoPartCodec {
    type Error = TwoPartError;

    fn encode(&mut self, message: TwoPartMessage, dst: &mut BytesMut) -> Result<(), TwoPartError> {
        self.encode_frame(&message, dst)
    }
}

#[cfg(feature = "tokio")]
impl tokio_util::codec::Decoder for TwoPartCodec {
    type Item = TwoPartMessage;
    type Error = TwoPartError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<TwoPartMessage>, TwoPartError> {
        self.decode_frame(src)
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<TwoPartMessage>, TwoPartError> {
        self.decode_frame_at_end(src)
    }
}
